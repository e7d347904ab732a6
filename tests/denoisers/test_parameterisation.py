from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor, nn

from tests.oracles.curves import SCHEDULES
from unstir.denoisers import Condition, Denoiser, Prediction, registry
from unstir.denoisers.gaussian import X0, Eps, GaussianParameterisation, Preconditioned, V
from unstir.denoisers.variance import rule
from unstir.processes import Gaussian
from unstir.schedules import InverseTime, LinearBeta, Schedule

F64 = torch.float64
KINDS = [
    "eps",
    "x0",
    "v",
    "mean",
    {"name": "preconditioned", "data_rms": 0.5},
    {"name": "preconditioned", "data_rms": 3.0},
    {"name": "gated_x0", "data_std": 0.07},
]
CASES = [
    pytest.param(kind, schedule, id=f"{kind if isinstance(kind, str) else ' '.join(map(str, kind.values()))}-{name}")
    for kind in KINDS
    for name, schedule in SCHEDULES.items()
    if kind != "eps" or not isinstance(schedule, InverseTime)
]


def _triples(schedule: Schedule, n: int = 33) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x0, eps, t and the x_t they make, t over (0, T] with both ends."""
    g = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, n, 2, 3, dtype=F64, generator=g)
    t = torch.linspace(1e-2, schedule.T, n, dtype=F64)
    return x0, eps, t, Gaussian(schedule).marginal(x0, t).sample(eps)


def _read(p: GaussianParameterisation, raw: Tensor, x_t: Tensor, t: Tensor) -> Prediction:
    process = Gaussian(p.schedule)
    return Prediction(process, x_t, t, rule("small", process, x_t), **p.given(raw, x_t, t))


def _relative(p: GaussianParameterisation, t: Tensor) -> Tensor:
    """How much a rounding of the raw output may show in x0."""
    return 1e-12 * (1 + p.x0_error(t)).reshape(-1, 1, 1)


@pytest.mark.parametrize(("kind", "schedule"), CASES)
def test_the_target_as_raw_output_recovers_x0_eps_and_v(kind: str | dict, schedule: Schedule) -> None:
    p = registry.get(kind, Gaussian(schedule))
    x0, eps, t, x_t = _triples(schedule)
    prediction = _read(p, p.target(x0, eps, t), x_t, t)
    assert bool(((prediction.x0 - x0).abs() <= _relative(p, t)).all())
    sigma, alpha = schedule.sigma(t).reshape(-1, 1, 1), schedule.alpha(t).reshape(-1, 1, 1)
    assert bool(((prediction.eps - eps).abs() <= 1e-12 / sigma).all())
    assert bool(((prediction.v - (alpha * eps - sigma * x0)).abs() <= _relative(p, t) / sigma).all())


@pytest.mark.parametrize(("kind", "schedule"), CASES)
def test_every_pair_makes_x_t_again(kind: str | dict, schedule: Schedule) -> None:
    """Whatever the raw output, alpha x0 + sigma eps == x_t and v == alpha eps - sigma x0."""
    p = registry.get(kind, Gaussian(schedule))
    x0, _, t, x_t = _triples(schedule)
    raw = torch.randn(x0.shape, dtype=F64, generator=torch.Generator().manual_seed(1))
    prediction = _read(p, raw, x_t, t)
    alpha, sigma = schedule.alpha(t).reshape(-1, 1, 1), schedule.sigma(t).reshape(-1, 1, 1)
    torch.testing.assert_close(alpha * prediction.x0 + sigma * prediction.eps, x_t, rtol=1e-12, atol=1e-11)
    close = (alpha * prediction.eps - sigma * prediction.x0 - prediction.v).abs() <= _relative(p, t) / sigma
    assert bool(close.all())
    torch.testing.assert_close(prediction.score, -prediction.eps / sigma)


@pytest.mark.parametrize(("kind", "schedule"), CASES)
def test_x0_error_is_the_sensitivity_of_x0(kind: str | dict, schedule: Schedule) -> None:
    p = registry.get(kind, Gaussian(schedule))
    x0, eps, t, x_t = _triples(schedule)
    raw = p.target(x0, eps, t)
    moved = _read(p, raw + 1, x_t, t).x0 - _read(p, raw, x_t, t).x0
    expected = p.x0_error(t)
    assert expected.dtype == F64
    assert expected.shape == t.shape
    torch.testing.assert_close(moved.abs(), expected.reshape(-1, 1, 1).expand_as(moved), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("kind", "schedule"), CASES)
def test_targets_do_not_depend_on_the_batch(kind: str | dict, schedule: Schedule) -> None:
    p = registry.get(kind, Gaussian(schedule))
    x0, eps, t, _ = _triples(schedule, 5)
    whole = p.target(x0, eps, t)
    for i in range(5):
        assert torch.equal(p.target(x0[i : i + 1], eps[i : i + 1], t[i : i + 1]), whole[i : i + 1])


@pytest.mark.parametrize("data_rms", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", ["linear-1000", "inverse-time-60"])
def test_preconditioned_inputs_and_targets_have_unit_size(data_rms: float, name: str) -> None:
    """The defining property: mean squares of c_in x_t and of F's target are 1 at every noise level."""
    schedule = SCHEDULES[name]
    p = Preconditioned(Gaussian(schedule), data_rms)
    for t in torch.linspace(1e-3, schedule.T, 11, dtype=F64):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        time = t.reshape(1)
        unit = torch.ones(1, 1, dtype=F64)
        # Both are linear in (x0, eps), which are independent with mean squares data_rms² and 1.
        by_x0, by_eps = (p.target(unit * a, unit * b, time) for a, b in ((data_rms, 0.0), (0.0, 1.0)))
        assert float(by_x0**2 + by_eps**2) == pytest.approx(1, rel=1e-12)
        scale = float(p.inputs(unit, time)[0]) ** 2
        assert scale * float(alpha**2 * data_rms**2 + sigma**2) == pytest.approx(1, rel=1e-12)


def test_preconditioned_is_minus_v_for_data_of_unit_size() -> None:
    schedule = InverseTime(30)
    x0, eps, t, _ = _triples(schedule)
    torch.testing.assert_close(
        Preconditioned(Gaussian(schedule), 1.0).target(x0, eps, t),
        -V(Gaussian(schedule)).target(x0, eps, t),
        rtol=1e-12,
        atol=1e-14,
    )


def test_preconditioned_is_karras_for_x_over_alpha() -> None:
    """D(y; s) = c_skip y + c_out F(c_in y) with y = x_t/alpha_t, s = sigma_t/alpha_t (Karras et al. 2022, table 1)."""
    schedule, sd = LinearBeta(), 0.5
    p = Preconditioned(Gaussian(schedule), sd)
    t = torch.tensor([3.0, 400.0, 950.0], dtype=F64)
    x_t, raw = torch.randn(2, 3, 4, dtype=F64, generator=torch.Generator().manual_seed(2))
    alpha = schedule.alpha(t)[:, None]
    s, y = schedule.sigma(t)[:, None] / alpha, x_t / alpha
    n2 = s**2 + sd**2
    torch.testing.assert_close(p.inputs(x_t, t)[0], y / n2.sqrt())
    torch.testing.assert_close(p.given(raw, x_t, t)["given_x0"], sd**2 / n2 * y + s * sd / n2.sqrt() * raw)


def test_preconditioned_time_names_the_noise_level_from_0_to_1000() -> None:
    p = Preconditioned(Gaussian(InverseTime(40)))
    x = torch.zeros(1, 1, dtype=F64)
    assert float(p.inputs(x, torch.tensor([0.0]))[1]) == pytest.approx(0)
    assert float(p.inputs(x, torch.tensor([20.0]))[1]) == pytest.approx(500)
    assert float(p.inputs(x, torch.tensor([40.0]))[1]) == pytest.approx(1000)
    assert float(Preconditioned(Gaussian(LinearBeta())).inputs(x, torch.tensor([1000.0]))[1]) < 1000


@pytest.mark.parametrize("kind", [Eps, X0, V])
def test_networks_of_the_ddpm_family_are_fed_t_minus_1(kind: type[GaussianParameterisation]) -> None:
    x = torch.randn(3, 2)
    x_in, time = kind(Gaussian(LinearBeta())).inputs(x, torch.tensor([1.0, 2.5, 1000.0], dtype=F64))
    assert x_in is x
    assert time.tolist() == [0, 1.5, 999]
    assert time.dtype == torch.float32
    assert kind(Gaussian(LinearBeta())).inputs(x.double(), torch.ones(3))[1].dtype == F64


def test_eps_is_refused_where_it_says_nothing() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: Condition | None = None) -> Tensor:
            return x

    process = Gaussian(InverseTime(10))
    with pytest.raises(ValueError, match="alpha_bar_T = 0") as refusal:
        Denoiser(Silent(), process, prediction="eps")
    assert "\n" not in str(refusal.value)
    assert '"v"' in str(refusal.value)
    for kind in KINDS[1:]:
        Denoiser(Silent(), process, prediction=kind)


@pytest.mark.parametrize("kind", KINDS[1:], ids=str)
def test_zero_terminal_signal_leaves_finite_predictions_at_T(kind: str | dict) -> None:
    schedule = InverseTime(10)
    x0, eps, t, _x_t = _triples(schedule, 4)
    p = registry.get(kind, Gaussian(schedule))
    t = torch.full_like(t, 10)
    prediction = _read(p, p.target(x0, eps, t), eps, t)
    torch.testing.assert_close(prediction.x0, x0)
    torch.testing.assert_close(prediction.eps, eps)
    assert bool(torch.isfinite(prediction.score).all())


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_parameterisation_is_rebuilt_from_its_description(kind: str | dict) -> None:
    schedule = LinearBeta()
    p = registry.get(kind, Gaussian(schedule))
    again = registry.get(json.loads(json.dumps(p.describe())), Gaussian(schedule))
    x0, eps, t, x_t = _triples(schedule)
    assert torch.equal(p.target(x0, eps, t), again.target(x0, eps, t))
    assert torch.equal(p.inputs(x_t, t)[1], again.inputs(x_t, t)[1])


def test_get_leaves_a_description_as_it_was() -> None:
    description = {"name": "preconditioned", "data_rms": 2.0}
    registry.get(description, Gaussian(LinearBeta()))
    assert description == {"name": "preconditioned", "data_rms": 2.0}


def test_unknown_predictions_and_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="'noise'"):
        registry.get("noise", Gaussian(LinearBeta()))
    for size in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="positive"):
            Preconditioned(Gaussian(LinearBeta()), size)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_call_edits_its_inputs(kind: str | dict) -> None:
    schedule = LinearBeta()
    p = registry.get(kind, Gaussian(schedule))
    tensors = _triples(schedule)
    kept = [tensor.clone() for tensor in tensors]
    x0, eps, t, x_t = tensors
    p.inputs(x_t, t)
    p.target(x0, eps, t)
    p.x0_error(t)
    prediction = _read(p, eps, x_t, t)
    _ = prediction.x0, prediction.eps, prediction.v, prediction.score, prediction.reverse(t / 2)
    for before, after in zip(kept, tensors):
        assert torch.equal(before, after)
