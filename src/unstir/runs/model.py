"""A trained model: load it, sample from it, measure with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from unstir import samplers
from unstir.bound import Bound, variational_bound
from unstir.data import DataSpec
from unstir.denoisers import Condition, Denoiser, DenoiserBase
from unstir.editing.views import Held
from unstir.errors import UserError
from unstir.networks.layout import lay_out
from unstir.noise import NoiseSource
from unstir.runs import checkpoint as checkpoints
from unstir.runs import conditions
from unstir.runs import config as configs
from unstir.runs.build import denoiser_of
from unstir.runs.config import Config
from unstir.runs.edits import Edits
from unstir.runs.folder import Run
from unstir.runs.walks import How, Walk, bounded, walk_of

FORMAT = 1


@dataclass(frozen=True)
class Model:
    """A denoiser with the description of its data: everything sampling and measuring need.

    Args:
        images: how many training images its weights have seen.
        weights: which weights these are: ema or raw.
        defaults: how samples are drawn unless told otherwise: fields of :class:`unstir.runs.walks.How`; none: as shipped.
        notes: what was passed over on the way to these weights: a line for each damaged checkpoint.
    """

    denoiser: Denoiser
    spec: DataSpec
    config: Config
    images: int = 0
    weights: str = "ema"
    defaults: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        indices: Sequence[int] | None = None,
        label: int | str | None = None,
        vector: np.ndarray | Sequence[float] | None = None,
        image: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        batch: int = 64,
        progress: Callable[[int, int], None] | None = None,
        **how: Any,
    ) -> np.ndarray:
        """New data, as users hold it: images uint8 (n, H, W, C), points float32 (n, D), bits bool (n, D), symbols (n, D).

        Sample i of a seed is the same whatever the batch size and whatever is drawn beside it, to rounding.

        Args:
            indices: which samples of the seed, instead of 0 … n-1.
            label: a class, by name or number; ``each`` gives sample i class i mod K; None asks for no class.
            vector, image, mask: the other conditions, of a run that was trained with them: see
                :func:`unstir.runs.conditions.asked`. What is shown of a picture comes back exactly, to its level.
            progress: called with (samples done, all).
            how: ``sampler, steps, spacing, times, clip, guidance, guidance_interval, rescale, autoguidance``, see
                :class:`unstir.runs.walks.How`; by default as in :func:`unstir.runs.walks.shipped`.
        """
        chosen = list(range(n)) if indices is None else [int(i) for i in indices]
        shown = {"label": label, "vector": vector, "image": image, "mask": mask}
        parts: list[np.ndarray] = []
        for x in self.drawn(chosen, seed=seed, batch=batch, shown=shown, **how):
            parts.append(self.outside(x))
            if progress:
                progress(sum(map(len, parts)), len(chosen))
        return np.concatenate(parts)

    def drawn(
        self, indices: Sequence[int], *, seed: int = 0, batch: int = 64, shown: dict[str, Any] | None = None, **how: Any
    ) -> Iterator[Tensor]:
        """Samples as the network sees them, (B, *E), a batch at a time: what :meth:`sample` brings outside.

        Args:
            shown: ``label, vector, image, mask`` of :meth:`sample`.
        """
        if not len(indices) or batch < 1:
            raise UserError("there must be at least one sample to draw, and at least one at a time")
        _check_keys(seed, indices)
        walk, shown = self.walk(**how), {"label": None} | (shown or {})
        if (
            how.get("guidance", 1) != 1
            and how.get("autoguidance") is None
            and all(value is None for value in shown.values())
        ):
            raise UserError("guidance needs a label to be guided to, or a weaker model to be guided away from")
        self.denoiser.eval()
        for first in range(0, len(indices), batch):
            part = indices[first : first + batch]
            yield samplers.sample(
                walk.denoiser, walk.sampler, walk.grid, (len(part), *self.spec.shape),
                seed=seed, indices=part, condition=self.condition(indices=part, seed=seed, **shown),
            )  # fmt: skip

    def walk(self, **how: Any) -> Walk:
        """The denoiser with what is laid around it, the sampler and the times: see :class:`unstir.runs.walks.How`."""
        walk = walk_of(self.denoiser, self.spec, How.of(self, **how))
        view = conditions.view_of(self.config.condition)
        return walk if view is None else replace(walk, denoiser=Held(walk.denoiser, view))

    def condition(self, label: int | str | None, indices: Sequence[int], **others: Any) -> Condition | None:
        """What samples are asked to be, see :meth:`sample`; others: see :func:`unstir.runs.conditions.asked`."""
        return conditions.asked(self.spec, label, indices, self.device, shown_as=self.config.condition, **others)

    @property
    def edit(self) -> Edits:
        """What can be done to a user's own data: inpaint, denoise, restore, vary, interpolate, invert, mix."""
        return Edits(self)

    @property
    def steps(self) -> int:
        """How many steps samples take unless told otherwise."""
        return How.of(self).steps

    @property
    def device(self) -> torch.device:
        return next(self.denoiser.parameters()).device

    def film(
        self,
        n: int,
        *,
        seed: int = 0,
        label: int | str | None = None,
        vector: np.ndarray | Sequence[float] | None = None,
        image: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        **how: Any,
    ) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """The reverse process as it goes: (time reached, x there, x0 predicted on the way: the likeliest of bits and symbols)."""
        _check_keys(seed, range(n))
        walk = self.walk(**how)
        self.denoiser.eval()
        for state, prediction in samplers.walk(
            walk.denoiser,
            walk.sampler,
            walk.grid,
            (n, *self.spec.shape),
            seed=seed,
            condition=self.condition(label, range(n), vector=vector, image=image, mask=mask, seed=seed),
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
        return bounded(self.denoiser, self.spec)

    @property
    def decoder(self) -> str | None:
        """How the bound reads the last step: the process's own way, but a density where real data have no levels."""
        return "normal" if self.denoiser.process.continuous and not self.spec.eight_bit else None

    def at_hand(
        self, data: np.ndarray, labels: np.ndarray | Sequence[int | str] | None = None
    ) -> tuple[Tensor, Condition | None]:
        """Data as :meth:`sample` gives it, and the classes to be given with it (or None), as the denoiser takes them."""
        x0 = self.inside(data)
        return x0, None if labels is None else conditions.of_items(self.spec, labels, len(x0), x0.device)

    def noise(self, seed: int, first: int, number: int) -> NoiseSource:
        """The draws of samples ``first … first + number - 1`` of a seed."""
        _check_keys(seed, (first,))
        return self.noise_of(seed, range(first, first + number))

    def noise_of(self, seed: int, indices: Sequence[int] | np.ndarray) -> NoiseSource:
        """The draws of these samples of a seed."""
        return NoiseSource(seed, indices, self.device)

    def inside(self, data: np.ndarray) -> Tensor:
        """Data as users hold it (N, …), as the network sees it.

        Raises:
            UserError: for data of another shape or type than the model's.
        """
        given, shape = np.asarray(data), self.spec.shape
        held = (*shape[1:], shape[0]) if self.spec.kind == "image" else shape
        # Asked before scaling, which would spread one column over all of them.
        if given.shape[1:] != held:
            raise UserError(f"this model is for data of shape (N, {', '.join(map(str, held))}), not {given.shape}")
        try:
            return self.spec.inside(given).to(self.device)
        except ValueError as error:
            raise UserError(str(error)) from None

    def outside(self, x: Tensor) -> np.ndarray:
        """What the network sees, as users hold it."""
        return self.spec.outside(x)


def metadata(config: Config, spec: DataSpec, images: int, weights: str) -> dict[str, str]:
    """What makes a file of weights describe itself, for safetensors' header."""
    facts = {"format": FORMAT, "config": asdict(config), "data": spec.to_json(), "images": images, "weights": weights}
    return {"unstir": json.dumps(facts)}


def readable(path: Path) -> bool:
    """Whether there is a file of weights, whole by its own account of its length."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


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
            return replace(load(run.model, weights=weights), defaults=run.sampling())
        if passed:
            raise UserError(f"{run.path} has no whole checkpoint: {'; '.join(passed)}")
        raise UserError(f"{run.path} has no checkpoint yet: train a little longer")
    part = "ema" if weights == "ema" else "model"
    images = checkpoint.state["progress"]["images"]
    model = _assembled(configs.read(run.config), run.spec(), checkpoint.parts[part], images, weights)
    return replace(model, defaults=run.sampling(), notes=tuple(passed))


def _assembled(config: Config, spec: DataSpec, tensors: Mapping[str, Tensor], images: int, weights: str) -> Model:
    denoiser = denoiser_of(config)
    try:
        denoiser.network.load_state_dict(tensors)
    except RuntimeError:
        raise UserError("the weights do not fit the configuration beside them: was it changed by hand?") from None
    lay_out(denoiser.network)
    return Model(denoiser.eval(), spec, config, images, weights)


def _check_keys(seed: int, indices: Sequence[int]) -> None:
    if not 0 <= seed < 1 << 64:
        raise UserError(f"a seed is a whole number from 0 to 2^64 - 1, not {seed}")
    if any(not 0 <= i < 1 << 47 for i in indices):
        raise UserError("indices of samples are whole numbers from 0 to 2^47 - 1")
