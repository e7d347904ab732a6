"""A trained model: load it, sample from it, measure with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unstir import samplers
from unstir.bound import Bound, variational_bound
from unstir.data import DataSpec
from unstir.denoisers import Clipped, Condition, Denoiser, DenoiserBase, Guided
from unstir.errors import UserError
from unstir.noise import NoiseSource
from unstir.runs import checkpoint as checkpoints
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of
from unstir.runs.config import Config
from unstir.runs.folder import Run
from unstir.samplers import Grid

FORMAT = 1
EACH = "each"  # the label that stands for every class in turn


@dataclass(frozen=True)
class Model:
    """A denoiser with the description of its data: everything sampling and measuring need.

    Args:
        images: how many training images its weights have seen.
        weights: which weights these are: ema or raw.
    """

    denoiser: Denoiser
    spec: DataSpec
    config: Config
    images: int = 0
    weights: str = "ema"

    def sample(
        self,
        n: int,
        *,
        sampler: str | None = None,
        steps: int | None = None,
        spacing: str = "uniform",
        seed: int = 0,
        indices: Sequence[int] | None = None,
        label: int | str | None = None,
        guidance: float = 1.0,
        batch: int = 64,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """New data, as users hold it: images uint8 (n, H, W, C), points float32 (n, D), bits bool (n, D), symbols (n, D).

        Sample i of a seed is the same whatever the batch size and whatever is drawn beside it, to rounding.

        Args:
            sampler: ancestral, ddim or heun (two network calls a step); by default ddim, and ancestral for bits and symbols.
            steps: by default :attr:`steps`.
            spacing: of the times: uniform, leading, trailing or log-snr.
            indices: which samples of the seed, instead of 0 … n-1.
            label: a class, by name or number; ``each`` gives sample i class i mod K; None asks for no class.
            guidance: w of ``uncond + w (cond - uncond)``.
            progress: called with (samples done, all).
        """
        chosen = list(range(n)) if indices is None else [int(i) for i in indices]
        if not chosen or batch < 1:
            raise UserError("there must be at least one sample to draw, and at least one at a time")
        _check_keys(seed, chosen)
        if guidance != 1 and self.spec.classes and label is None:
            raise UserError("guidance needs a label to be guided to")
        grid, solver, denoiser = self._walk(sampler, steps, spacing, guidance)
        parts = []
        self.denoiser.eval()
        for first in range(0, len(chosen), batch):
            part = chosen[first : first + batch]
            x = samplers.sample(
                denoiser, solver, grid, (len(part), *self.spec.shape),
                seed=seed, indices=part, condition=self._condition(label, part),
            )  # fmt: skip
            parts.append(self.outside(x))
            if progress:
                progress(first + len(part), len(chosen))
        return np.concatenate(parts)

    @property
    def steps(self) -> int:
        """How many steps samples take unless told otherwise: the whole chain where the network knows no longer steps."""
        process = self.denoiser.process
        if self.denoiser.consecutive:
            return process.T
        return min(process.T, 20 if process.continuous else 200)

    def film(
        self,
        n: int,
        *,
        steps: int | None = None,
        seed: int = 0,
        sampler: str | None = None,
        label: int | str | None = None,
    ) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """The reverse process as it goes: (time reached, x there, x0 predicted on the way: the likeliest of bits and symbols)."""
        _check_keys(seed, range(n))
        grid, solver, denoiser = self._walk(sampler, steps, "uniform", 1.0)
        self.denoiser.eval()
        condition = self._condition(label, range(n))
        for state, prediction in samplers.walk(
            denoiser, solver, grid, (n, *self.spec.shape), seed=seed, condition=condition
        ):
            yield float(state.time()[0]), self.outside(state.x), self.outside(prediction.likeliest)

    def bound(
        self,
        data: np.ndarray,
        labels: np.ndarray | Sequence[int | str] | None = None,
        *,
        seed: int = 0,
        first: int = 0,
        indices: Sequence[int] | np.ndarray | None = None,
        draws: int = 1,
        terms: int | None = None,
        times: Sequence[int | float] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Bound:
        """The variational bound on -log p of given data (N, …); the predicted x0 is clipped where data is 8-bit.

        Of real numbers it is a density as the network sees them; in their own units ``D log(spec.scaling.scale)`` nats are added.

        Args:
            data: as :meth:`sample` gives it.
            labels: the classes, (N,), by number as data holds them or by name; None for the unconditional model's bound.
            terms: all T of them, or an unbiased estimate from so many.
            times: of the chain, rising to T, instead of all of 1 … T.
            seed, first: the noise is that of samples ``first … first + N - 1`` of the seed.
            indices: or of these samples of the seed, (N,).
            draws: how many draws each term is averaged over; from two on, each item has a standard error.
        """
        x0, condition = self.at_hand(data, labels)
        bound = variational_bound(
            self.bounded, x0,
            condition=condition,
            times=times,
            draws=draws,
            terms=terms,
            decoder=self.decoder,
            noise=self.noise(seed, first, len(x0)) if indices is None else self.noise_of(seed, indices),
            progress=progress,
        )  # fmt: skip
        return replace(bound, eight_bit=self.spec.eight_bit)

    @property
    def bounded(self) -> DenoiserBase:
        """The denoiser as the bound reads it: in eval mode, its x0 clipped where the data are bounded."""
        self.denoiser.eval()
        return self._clipped(self.denoiser)

    @property
    def decoder(self) -> str | None:
        """How the bound reads the last step: the process's own way, but a density where real data have no levels."""
        return "normal" if self.denoiser.process.continuous and not self.spec.eight_bit else None

    def at_hand(
        self, data: np.ndarray, labels: np.ndarray | Sequence[int | str] | None = None
    ) -> tuple[Tensor, Condition | None]:
        """Data as :meth:`sample` gives it, and the classes to be given with it (or None), as the denoiser takes them."""
        x0 = self.inside(data)
        return x0, None if labels is None else self._labelled(labels, x0)

    def noise(self, seed: int, first: int, number: int) -> NoiseSource:
        """The draws of samples ``first … first + number - 1`` of a seed."""
        _check_keys(seed, (first,))
        return self.noise_of(seed, range(first, first + number))

    def noise_of(self, seed: int, indices: Sequence[int] | np.ndarray) -> NoiseSource:
        """The draws of these samples of a seed."""
        return NoiseSource(seed, indices, next(self.denoiser.parameters()).device)

    def inside(self, data: np.ndarray) -> Tensor:
        """Data as users hold it (N, …), as the network sees it.

        Raises:
            UserError: for data of another shape or type than the model's.
        """
        device = next(self.denoiser.parameters()).device
        given, shape = np.asarray(data), self.spec.shape
        held = (*shape[1:], shape[0]) if self.spec.kind == "image" else shape
        # Asked before scaling, which would spread one column over all of them.
        if given.shape[1:] != held:
            raise UserError(f"this model is for data of shape (N, {', '.join(map(str, held))}), not {given.shape}")
        try:
            return self.spec.inside(given).to(device)
        except ValueError as error:
            raise UserError(str(error)) from None

    def outside(self, x: Tensor) -> np.ndarray:
        """What the network sees, as users hold it."""
        return self.spec.outside(x)

    def _walk(
        self, sampler: str | None, steps: int | None, spacing: str, guidance: float
    ) -> tuple[Grid, samplers.Sampler, DenoiserBase]:
        steps = self.steps if steps is None else steps
        if steps > self.denoiser.process.T:
            raise UserError(f"{steps} steps are more than this model's chain has: at most {self.denoiser.process.T}")
        try:
            grid = Grid.named(spacing, self.denoiser.process.schedule, steps)
            solver = samplers.get(sampler or self.denoiser.process.sampler)
            samplers.check_suits(self.denoiser, solver, grid)
        except ValueError as error:
            raise UserError(str(error)) from None
        if solver.stochastic and self.denoiser.variance == "analytic":
            raise UserError(
                "this run's reverse variance is found from data, which sampling does not read: take a sampler without noise, "
                "such as ddim"
            )
        if not math.isfinite(guidance):
            raise UserError(f"guidance is a number, not {guidance}")
        if guidance != 1 and not self.spec.classes:
            raise UserError("guidance needs classes, and this model was trained without any")
        # Clipped last: a strong guidance leaves the data's range even where both of its branches stay inside.
        return grid, solver, self._clipped(self.denoiser if guidance == 1 else Guided(self.denoiser, guidance))

    def _clipped(self, denoiser: DenoiserBase) -> DenoiserBase:
        # 8-bit data is bounded, so a prediction outside its range is surely wrong; other data has no known range.
        return Clipped(denoiser) if self.spec.eight_bit else denoiser

    def _condition(self, label: int | str | None, indices: Sequence[int]) -> Condition | None:
        if label is None:
            return None
        classes = self.spec.classes
        if not classes:
            raise UserError("this model was trained without classes, so it takes no label")
        if label == EACH and EACH not in classes:
            numbers = [i % len(classes) for i in indices]
        else:
            numbers = [self._class(label)] * len(indices)
        return Condition(torch.tensor(numbers, device=next(self.denoiser.parameters()).device))

    def _labelled(self, labels: np.ndarray | Sequence[int | str], x0: Tensor) -> Condition:
        if not self.spec.classes:
            raise UserError("this model was trained without classes, so it takes no label")
        given = np.asarray(labels)
        if given.shape != (len(x0),):
            raise UserError(f"labels are one class for each of {len(x0)} items, not an array of shape {given.shape}")
        # What data holds are numbers, whatever the classes are called: "7" may be the name of class 6.
        numbers = [self._class(label) if isinstance(label, str) else self._numbered(label) for label in given.tolist()]
        return Condition(torch.tensor(numbers, device=x0.device))

    def _class(self, label: int | str) -> int:
        classes = self.spec.classes
        return classes.index(str(label)) if str(label) in classes else self._numbered(label)

    def _numbered(self, label: int | str) -> int:
        classes = self.spec.classes
        number = _number(label)
        if number is None or not 0 <= number < len(classes):
            raise UserError(
                f"there is no class {label!r}; there are {', '.join(classes[:20])}{' …' if len(classes) > 20 else ''}"
            )
        return number


def metadata(config: Config, spec: DataSpec, images: int, weights: str) -> dict[str, str]:
    """What makes a file of weights describe itself, for safetensors' header."""
    facts = {"format": FORMAT, "config": asdict(config), "data": spec.to_json(), "images": images, "weights": weights}
    return {"unstir": json.dumps(facts)}


def load(path: str | Path, *, weights: str = "ema") -> Model:
    """A model from a run's folder, or from one self-describing ``.safetensors`` file.

    Args:
        weights: ``ema`` or ``raw``; a single file holds one kind only. A run that is not finished gives its newest checkpoint's.

    Raises:
        UserError: when there is no model, or the file is not one of ours.
    """
    path = Path(path)
    if weights not in ("ema", "raw"):
        raise UserError(f"weights are ema or raw, not {weights!r}")
    if path.is_dir():
        return _from_run(Run(path), weights)
    if not path.is_file():
        raise UserError(f"there is no run or model at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["unstir"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError):
        raise UserError(
            f"{path} is not a model of unstir: it must be a run's folder or its model.safetensors"
        ) from None
    if facts["format"] > FORMAT:
        raise UserError(f"{path} was written by a newer unstir; upgrade to read it")
    if weights != facts["weights"]:
        raise UserError(f"{path} holds the {facts['weights']} weights alone, not {weights}: name the run's folder")
    config = configs.from_dict(facts["config"], where=str(path))
    return _assembled(config, DataSpec.from_json(facts["data"]), tensors, facts["images"], facts["weights"])


def _from_run(run: Run, weights: str) -> Model:
    if not run.config.exists():
        raise UserError(f"{run.path} is not a run: it has no config.toml")
    checkpoint, passed = checkpoints.newest(run.checkpoints)
    if checkpoint is None:
        if run.model.exists():
            return load(run.model, weights=weights)
        if passed:
            raise UserError(f"{run.path} has no whole checkpoint: {'; '.join(passed)}")
        raise UserError(f"{run.path} has no checkpoint yet: train a little longer")
    part = "ema" if weights == "ema" else "model"
    images = checkpoint.state["progress"]["images"]
    return _assembled(configs.read(run.config), run.spec(), checkpoint.parts[part], images, weights)


def _assembled(config: Config, spec: DataSpec, tensors: dict[str, Tensor], images: int, weights: str) -> Model:
    denoiser = denoiser_of(config)
    try:
        denoiser.network.load_state_dict(tensors)
    except RuntimeError:
        raise UserError("the weights do not fit the configuration beside them: was it changed by hand?") from None
    return Model(denoiser.eval(), spec, config, images, weights)


def _check_keys(seed: int, indices: Sequence[int]) -> None:
    if not 0 <= seed < 1 << 64:
        raise UserError(f"a seed is a whole number from 0 to 2^64 - 1, not {seed}")
    if any(not 0 <= i < 1 << 47 for i in indices):
        raise UserError("indices of samples are whole numbers from 0 to 2^47 - 1")


def _number(label: int | str) -> int | None:
    try:
        return int(str(label))  # 1.5 and True name no class
    except ValueError:
        return None
