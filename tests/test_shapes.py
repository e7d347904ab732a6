"""Signatures say what shape a tensor has, and a call that breaks what they say fails while tests run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import TypeCheckError

import unstir
from tests import shape_checks
from unstir import shapes
from unstir.bound import Bound, step_nats, variational_bound
from unstir.denoisers import Condition, Denoiser, GaussianMixtureDenoiser, Prediction
from unstir.distributions import Bernoulli, Categorical, Normal
from unstir.editing import likelihood
from unstir.editing.factors import product
from unstir.networks import MLP, MLPConfig
from unstir.noise import NoiseSource
from unstir.objectives import Simple
from unstir.processes import Binomial, Gaussian
from unstir.samplers import DDIM
from unstir.schedules import InverseTime, LinearBeta

F64 = torch.float64
SOURCE = Path(unstir.__file__).parent
GAUSSIAN = Gaussian(LinearBeta(T=20, beta_end=0.3))
X = torch.zeros(3, 2)
T = torch.full((3,), 5.0, dtype=F64)
EXACT = GaussianMixtureDenoiser(GAUSSIAN, torch.ones(1), torch.zeros(1, 2), torch.eye(2)[None])


def prediction() -> Prediction:
    return EXACT.predict(X, T)


WRONG: dict[str, Callable[[], Any]] = {
    "a variance that does not broadcast": lambda: Normal(X, torch.ones(3)),
    "noise of one number": lambda: Normal(X, torch.ones(())).sample(torch.zeros(())),
    "data that would stretch": lambda: Normal(X, torch.ones(())).log_prob(torch.zeros(3, 1)),
    "classes that are reals": lambda: Normal(X, torch.ones(())).log_prob(torch.zeros(3, 2, dtype=torch.long)),
    "final for all rows at once": lambda: Normal(X, torch.ones(())).draw(
        NoiseSource(0, range(3)), "test", final=torch.zeros(1, dtype=torch.bool)
    ),
    "logits that are whole numbers": lambda: Bernoulli(torch.zeros(3, dtype=torch.long)),
    "one uniform number for all symbols": lambda: Categorical(torch.zeros(3, 2, 4)).sample(torch.zeros(1)),
    "steps of another batch": lambda: NoiseSource(0, range(3)).normal((2,), "test", torch.arange(2)),
    "times of another batch": lambda: GAUSSIAN.marginal(X, torch.ones(2)),
    "times as a column": lambda: GAUSSIAN.marginal(X, torch.ones(3, 1)),
    "x0 that would stretch": lambda: GAUSSIAN.posterior(X, X[:1], 1, 2),
    "bits of another shape": lambda: Binomial(InverseTime(5)).posterior(X, X.T, 1, 2),
    "a step's times as whole numbers": lambda: step_nats(prediction(), X, T.long() - 1),
    "a step's times for one row": lambda: step_nats(prediction(), X, T[:1] - 1),
    "a bound without a batch": lambda: variational_bound(EXACT, torch.zeros(())),
    "a bound's parts of two batches": lambda: Bound(T, T[:2, None], T, dims=2),
    "a denoiser's times of another batch": lambda: EXACT.predict(X, T[:2]),
    "means without covariances": lambda: GaussianMixtureDenoiser(
        GAUSSIAN, torch.ones(1), torch.zeros(1, 2), torch.eye(3)[None]
    ),
    "labels that are reals": lambda: Condition(label=torch.zeros(3)),
    "a network's times of another batch": lambda: MLP(MLPConfig(2, 2))(X, T[:2]),
    "a network's images as points": lambda: MLP(MLPConfig(2, 2))(X[..., None], T),
    "an objective's noise of another shape": lambda: Simple()(
        Denoiser(MLP(MLPConfig(2, 2)), GAUSSIAN), X, T, torch.zeros(3, 1)
    ),
    "a mask that is not bool": lambda: product(Normal(X, torch.ones(())), Normal(X, torch.ones(())), torch.ones(3)),
    "an observation's noise in whole numbers": lambda: likelihood(GAUSSIAN, X, torch.ones(3, 1, dtype=torch.long)),
    "a walk's times for another batch": lambda: DDIM().start(X, torch.zeros(2, 4)),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_a_wrong_shape_or_dtype_is_caught(call: Callable[[], Any]) -> None:
    with pytest.raises(TypeCheckError):
        call()


def test_results_are_held_to_their_shape_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slipped(GAUSSIAN.schedule.__class__):  # pyright: ignore[reportGeneralTypeIssues]
        pass

    wrong = shape_checks.checked(_gives_a_column)
    with pytest.raises(TypeCheckError, match="return"):
        wrong(torch.zeros(3))
    assert _gives_a_column(torch.zeros(3)).shape == (3, 1)


def _gives_a_column(values: Rows) -> Rows:
    return values[:, None]


Rows = shapes.Rows


def test_right_shapes_pass() -> None:
    assert step_nats(prediction(), X, T - 1).shape == (3,)
    assert variational_bound(EXACT, X, decoder="normal").total.shape == (3,)


def test_a_program_runs_without_the_check() -> None:
    """What users run is the plain package, and importing it brings no type checker."""
    code = "import sys, torch, unstir.bound\nfrom unstir.distributions import Normal\n"
    code += "Normal(torch.zeros(3, 2), torch.ones(3))\nassert 'beartype' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=SOURCE.parent)
    assert done.returncode == 0, done.stderr


def test_graphs_are_traced_without_the_check() -> None:
    graph = torch.export.export(MLP(MLPConfig(2, 2)), (X, torch.zeros(3)))
    assert "beartype" not in str(graph)


# --- every public function ------------------------------------------------------------------------------------------

IMPORTED = {"Tensor", "Bool", "Float", "Float64", "Int", "Int64", "Num", "Shaped"}
TYPES = {name for name in vars(shapes) if name[0].isupper()} - IMPORTED

FREE = {
    "noise.NoiseSource.__init__ indices": "refused with a sentence",
    "samplers.grid.Grid times": "refused with a sentence",
    "samplers.walk.walk indices": "refused with a sentence",
    "samplers.walk.walk start": "refused with a sentence",
    "schedules.chains.Chain.__init__ betas": "refused with a sentence",
    "schedules.learned.Learned.__init__ logits": "refused with a sentence",
    "schedules.learned.MonotoneLogSNR.__init__ interior": "refused with a sentence",
    "schedule_fit.k_bits eps": "refused with a sentence",
    "schedules.learned.Learned.parameters ->": "weights",
    "schedules.learned.MonotoneLogSNR.parameters ->": "weights",
    "processes.base.Process.column like": "only how many dimensions it has counts",
    "processes.base.Process.columns like": "only how many dimensions it has counts",
    "processes.base.column like": "only how many dimensions it has counts",
    "processes.gaussian.Gaussian.posterior_coefficients like": "only how many dimensions it has counts",
    "processes.gaussian.Gaussian.variances like": "only how many dimensions it has counts",
}
"""Tensors of any shape, and why."""


def rooms() -> Iterator[Path]:
    for room in shape_checks.ROOMS:
        path = SOURCE.joinpath(*room.split(".")[1:])
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def statements(path: Path) -> Iterator[tuple[str, str]]:
    """Every annotation of a public function, method or dataclass field: where, and its text."""

    def visit(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", "")
            if name.startswith("_") and not name.startswith("__"):
                continue
            if isinstance(child, ast.ClassDef):
                yield from visit(child, f"{where}.{name}")
            elif isinstance(child, ast.AnnAssign) and isinstance(node, ast.ClassDef):
                yield f"{where} {ast.unparse(child.target)}", ast.unparse(child.annotation)
            elif isinstance(child, ast.FunctionDef):
                arguments = [*child.args.posonlyargs, *child.args.args, *child.args.kwonlyargs]
                for argument in arguments:
                    if argument.annotation is not None:
                        yield f"{where}.{name} {argument.arg}", ast.unparse(argument.annotation)
                if child.returns is not None:
                    yield f"{where}.{name} ->", ast.unparse(child.returns)

    place = path.relative_to(SOURCE).with_suffix("").parts
    yield from visit(ast.parse(path.read_text(encoding="utf-8")), ".".join(place))


def test_every_public_tensor_states_its_shape() -> None:
    """A function's own arguments, as of a callable that is passed in, are the caller's to shape."""
    said = [(where, hint) for path in rooms() for where, hint in statements(path)]
    plain = [
        f"{where}: {hint}" for where, hint in said if re.search(r"\bTensor\b", re.sub(r"Callable\[.*\]", "", hint))
    ]
    assert not plain
    stating = [where for where, hint in said if TYPES & set(re.findall(r"\w+", hint))]
    assert len(stating) > 300


def test_few_are_free_and_each_for_a_reason() -> None:
    free = [where for path in rooms() for where, hint in statements(path) if "Anything" in hint]
    assert sorted(free) == sorted(FREE)


def test_every_type_is_used_and_none_is_a_plain_tensor() -> None:
    used = {word for path in rooms() for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    assert not TYPES - used


def test_every_room_is_checked() -> None:
    """A room's functions that state shapes are those that carry the check, in this very process."""
    for path in rooms():
        name = ".".join(["unstir", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")
        if name in sys.modules:
            assert vars(sys.modules[name])["__checked__"] is shape_checks.checked, name
