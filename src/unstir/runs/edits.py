"""Editing a user's own data with a trained model: every walk of :mod:`unstir.editing`, with data as users hold it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from unstir import editing, samplers
from unstir.denoisers import Condition, Denoiser, DenoiserBase, PredictionBase
from unstir.editing import Operator
from unstir.errors import UserError
from unstir.runs.walks import How, Walk, bounded, guided, walk_of
from unstir.samplers import Grid

if TYPE_CHECKING:
    from unstir.runs.model import Model

Progress = Callable[[int, int], None]
INPAINT = ("repaint", *editing.INPAINT)
_STEPS = 50  # of an edit of real numbers: its sampler draws noise, and takes more of them than ddim does
_PATH = 7  # places on a path between two ends


@dataclass(frozen=True)
class Edits:
    """What can be done to a user's own data with a model: reached as ``model.edit``.

    Data come and go as :meth:`unstir.Model.sample` gives them: pictures uint8 (N, H, W, C), points float32 (N, D), bits bool
    (N, D), symbols (N, D). Common to all:

    - ``seed``: of the noise; item i of a call draws that of sample i, the same alone and in any batch;
    - ``label``: a class, by name or number; ``each`` gives item i class i mod K;
    - ``batch``: how many at a time;
    - ``progress``: called with (network calls done, all; 0 where nobody knows);
    - ``how``: ``sampler, steps, spacing, times, clip, guidance``, see :class:`unstir.runs.walks.How`. Steps lead from where the edit
      begins down to the data.

    All raise :class:`unstir.errors.UserError` for what does not fit the model or makes no sense.
    """

    model: Model

    def inpaint(
        self,
        data: np.ndarray,
        unknown: np.ndarray,
        *,
        method: str | None = None,
        jump: int = 5,
        resamplings: int = 5,
        seed: int = 0,
        label: int | str | None = None,
        batch: int = 64,
        progress: Progress | None = None,
        **how: Any,
    ) -> np.ndarray:
        """Draws of what is unknown, given the rest, which comes back exactly.

        Args:
            unknown: True where data may hold anything: (H, W) or (N, H, W) of pictures, (D,) or (N, D) of the rest.
            method: ``repaint``, of which ``jump`` and ``resamplings`` are (:func:`unstir.editing.repaint`), or one of
                :func:`unstir.editing.inpaint`; by default repaint, and observed for bits and symbols.
        """
        method = method or ("repaint" if self._continuous else "observed")
        if method not in INPAINT:
            raise UserError(f"no way of inpainting is called {method!r}; there are {', '.join(INPAINT)}")
        x0, known = self.model.inside(data), ~self._mask(unknown, len(data))
        walk = self._walk(how, label, sampler="ancestral")
        with _refusing():
            falls = editing.moves(walk.grid, jump, resamplings) if method == "repaint" else walk.grid.times.tolist()
        calls = sum(s < t for t, s in zip(falls, falls[1:]))

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            here = known.expand(len(x0), *known.shape[1:])[rows]
            if method == "repaint":
                if walk.sampler.continuous:
                    raise ValueError('RePaint draws from the steps themselves: use the sampler "ancestral"')
                options: dict[str, Any] = {"jump": jump, "resamplings": resamplings}
                return editing.repaint(denoiser, x0[rows], here, walk.grid, **options, **keys)
            options = {"method": method, "sampler": walk.sampler}
            return editing.inpaint(denoiser, x0[rows], here, walk.grid, **options, **keys)

        drawn = self._drawn(work, len(x0), walk, calls, seed, label, batch, progress)
        # What a walk keeps in floating point comes back to its level by rounding; of real numbers only the item itself is exact.
        keep = np.moveaxis(known.cpu().numpy(), 1, -1) if data.ndim == 4 else known.cpu().numpy()
        return np.where(keep, np.asarray(data), drawn).astype(drawn.dtype)

    def denoise(
        self,
        data: np.ndarray,
        noise: float | Sequence[float] | np.ndarray | None = None,
        *,
        method: str | None = None,
        seed: int = 0,
        label: int | str | None = None,
        batch: int = 64,
        progress: Progress | None = None,
        **how: Any,
    ) -> np.ndarray:
        """Draws of the clean data behind noisy ones; in one step their mean, which is blurred and errs least.

        Args:
            noise: the noise's standard deviation in the data's own units (levels of 8-bit pictures), the probability that a bit
                was flipped or a symbol replaced; one number or one for each item, (N,). None: estimated for each picture,
                :meth:`noise_of`.
            method: one of :func:`unstir.editing.denoise`; by default matched, and observed for bits and symbols.
        """
        method = method or ("matched" if self._continuous else "observed")
        if method not in editing.DENOISE:
            raise UserError(f"no way of denoising is called {method!r}; there are {', '.join(editing.DENOISE)}")
        y, unit = self.model.inside(data), self._unit
        given = self.noise_of(data) if noise is None else np.asarray(noise, np.float64)
        if given.ndim > 1 or (given.ndim == 1 and len(given) != len(y)):
            raise UserError(f"the noise is one number, or one for each of {len(y)} items, not {given.shape}")
        if not bool((given >= 0).all()):
            raise UserError("the noise is 0 or above")
        levels = np.broadcast_to(given, (len(y),))
        strengths = (levels / unit) ** 2 if self._continuous else levels
        walk, parts = self._walk(how, label, sampler="ancestral"), np.empty_like(np.asarray(data))
        # "matched" begins all of a batch at one time; an estimate differs from picture to picture.
        together = method != "matched" or len(set(strengths.tolist())) == 1
        groups = [np.arange(len(y))] if together else [np.array([i]) for i in range(len(y))]
        for number, rows in enumerate(groups):
            value = strengths[rows]
            if method == "matched" and value[0] == 0:
                parts[rows] = data[rows]
                continue
            parts[rows] = self._denoised(
                y[rows], value, method, walk, seed, label, batch, _share(progress, number, len(groups)), rows.tolist()
            )
        return parts

    def noise_of(self, data: np.ndarray) -> np.ndarray:
        """The standard deviation of each picture's noise in its own units, (N,): :func:`unstir.editing.noise_level`."""
        if self.model.spec.kind != "image":
            raise UserError(f"how noisy {self.model.spec.kind} are cannot be read from them: say it")
        with _refusing():
            return editing.noise_level(self.model.inside(data)).cpu().numpy() * self._unit

    def restore(
        self,
        measured: np.ndarray,
        operator: Operator,
        noise: float | None = None,
        *,
        seed: int = 0,
        label: int | str | None = None,
        batch: int = 64,
        progress: Progress | None = None,
        **how: Any,
    ) -> np.ndarray:
        """Draws of the pictures behind ``y = A x0 + noise``: blurred, made small, made grey.

        Args:
            measured: y, uint8 (N, h, w, c). operator: A, from :mod:`unstir.editing`.
            noise: standard deviation in levels; by default 0 where A has a pseudo-inverse, so that A of what is drawn is y, else 1.
        """
        if self.model.spec.kind != "image":
            raise UserError(f"only pictures are restored, and this run is of {self.model.spec.kind}")
        with _refusing():
            y = self.model.spec.inside(np.asarray(measured)).to(self.model.device)
            expected = operator.forward(torch.zeros(1, *self.model.spec.shape, device=y.device)).shape[1:]
        if y.shape[1:] != expected:
            h, w, c = expected[1], expected[2], expected[0]
            raise UserError(f"what was measured is of shape (N, {h}, {w}, {c}) here, not {np.shape(measured)}")
        sigma = (0.0 if operator.gram is not None else 1.0) if noise is None else noise
        walk = self._walk(how, label, sampler="ancestral")

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            shape, variance = (len(y[rows]), *self.model.spec.shape), (sigma / self._unit) ** 2
            return editing.restore(
                denoiser, y[rows], operator, variance, walk.grid, shape, sampler=walk.sampler, **keys
            )

        return self._drawn(work, len(y), walk, _calls(walk), seed, label, batch, progress)

    def super_resolve(self, small: np.ndarray, factor: int, **options: Any) -> np.ndarray:
        """Draws of the pictures whose means over blocks of ``factor`` by ``factor`` pixels are these.

        Args:
            small: uint8 (N, H/factor, W/factor, C). options: as for :meth:`restore`.
        """
        return self.restore(small, self.downscaling(factor), **options)

    def downscaling(self, factor: int) -> Operator:
        """The operator by which pictures of this run become smaller by a factor."""
        if self.model.spec.kind != "image":
            raise UserError(f"only pictures are made smaller, and this run is of {self.model.spec.kind}")
        with _refusing():
            return editing.downscale(*self.model.spec.shape[1:], factor)

    def measured(self, data: np.ndarray, operator: Operator | None, noise: float = 0.0, seed: int = 0) -> np.ndarray:
        """``A x0 + noise`` of data, as users hold it: to try a restoration on what is known."""
        x0 = self.model.inside(data)
        y = x0 if operator is None else operator.forward(x0)
        normal = self.model.noise(seed, 0, len(y)).normal(tuple(y.shape[1:]), "measurement", dtype=y.dtype)
        return self.model.outside(y + noise / self._unit * normal)

    def vary(
        self,
        data: np.ndarray,
        strength: float = 0.5,
        *,
        seed: int = 0,
        label: int | str | None = None,
        batch: int = 64,
        progress: Progress | None = None,
        **how: Any,
    ) -> np.ndarray:
        """Something like each item: noised to ``t = strength T`` and back.

        Args:
            strength: 0 … 1: 0 leaves everything, 1 nothing.
        """
        x0, t = self.model.inside(data), self._time(strength)
        walk = self._walk(how, label)
        grid = self._from(walk, t)

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            return editing.vary(denoiser, x0[rows], t, grid, sampler=walk.sampler, **keys)

        return self._drawn(work, len(x0), walk, _calls(walk, grid), seed, label, batch, progress)

    def interpolate(
        self,
        a: np.ndarray,
        b: np.ndarray,
        weights: Sequence[float] | int = _PATH,
        *,
        strength: float | None = None,
        seed: int = 0,
        label: int | str | None = None,
        batch: int = 64,
        progress: Progress | None = None,
        **how: Any,
    ) -> np.ndarray:
        """Paths from each a to its b: (N, len(weights), …).

        Args:
            a, b: (N, …). weights: 0 at a, 1 at b; or how many, evenly spread.
            strength: None joins their noises (:func:`unstir.editing.invert`); a number noises both to ``t = strength T`` and joins
                what that gives [HO20 §4.3].
        """
        ends = [self.model.inside(x) for x in (a, b)]
        if ends[0].shape != ends[1].shape:
            raise UserError(f"a path has two ends: {len(ends[0])} items and {len(ends[1])} are no pairs")
        w = _weights(weights)
        n, k = len(ends[0]), len(w)
        x, y = (end.repeat_interleave(k, 0) for end in ends)
        walk, t = self._walk(how, label), None if strength is None else self._time(strength)
        grid = walk.grid if t is None else self._from(walk, t)
        every = torch.tensor(w, dtype=torch.float64, device=x.device).repeat(n)

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            options: dict[str, Any] = {"t": t, "sampler": walk.sampler}
            return editing.interpolate(denoiser, x[rows], y[rows], every[rows], grid, **options, **keys)

        calls = _calls(walk, grid) * (1 if t is not None else 3)
        keys = [i // k for i in range(n * k)]  # all of a path are one sample
        out = self._drawn(work, n * k, walk, calls, seed, label, batch, progress, keys)
        return out.reshape(n, k, *out.shape[1:])

    def invert(
        self,
        data: np.ndarray,
        *,
        label: int | str | None = None,
        batch: int = 64,
        progress: Progress | None = None,
        **how: Any,
    ) -> np.ndarray:
        """The noise that a deterministic sampler makes each item of: float32 (N, *E) as the network sees it.

        :meth:`decode` makes of it the item again, nearer the more steps there are.
        """
        x0, walk = self.model.inside(data), self._walk(how, label)

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            return editing.invert(denoiser, x0[rows], walk.grid, sampler=walk.sampler, condition=keys["condition"])

        return self._drawn(work, len(x0), walk, _calls(walk), 0, label, batch, progress, outside=_plain)

    def decode(
        self,
        noise: np.ndarray,
        *,
        seed: int = 0,
        label: int | str | None = None,
        batch: int = 64,
        progress: Progress | None = None,
        **how: Any,
    ) -> np.ndarray:
        """What the model makes of given noise x_T, float32 (N, *E)."""
        if np.shape(noise)[1:] != self.model.spec.shape or not self._continuous:
            raise UserError(f"noise to decode is of shape (N, {', '.join(map(str, self.model.spec.shape))}), in numbers")
        x, walk = torch.as_tensor(np.asarray(noise, np.float32), device=self.model.device), self._walk(how, label)

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            return samplers.sample(denoiser, walk.sampler, walk.grid, tuple(x[rows].shape), start=x[rows], **keys)

        return self._drawn(work, len(x), walk, _calls(walk), seed, label, batch, progress)

    def mix(
        self,
        first: int | str,
        second: int | str,
        weights: Sequence[float] | int = _PATH,
        *,
        n: int = 1,
        seed: int = 0,
        batch: int = 64,
        progress: Progress | None = None,
        **how: Any,
    ) -> np.ndarray:
        """Samples on the way from one class to another, n paths of one noise each: (n, len(weights), …).

        Args:
            first, second: classes, by name or number. weights: 0 at the first, 1 at the second; or how many, evenly spread.
        """
        w = _weights(weights)
        k = len(w)
        every = torch.tensor(w, dtype=torch.float64, device=self.model.device).repeat(n)
        walk = self._walk(how, first)
        shown = How.of(self.model, **how)

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            other = self.model.condition(second, range(len(every[rows])))
            assert other is not None
            mixed = cast(Denoiser, editing.Mixed(denoiser, other, every[rows]))
            whole = bounded(guided(mixed, self.model.spec, shown), self.model.spec, shown.clip)
            shape = (len(every[rows]), *self.model.spec.shape)
            return samplers.sample(whole, walk.sampler, walk.grid, shape, **keys)

        self.model.condition(second, [0])  # refused before anything is drawn
        # Guidance and clipping are laid around the mixture, not around its parts.
        bare = replace(walk, denoiser=self.model.denoiser)
        keys = [i // k for i in range(n * k)]
        out = self._drawn(work, n * k, bare, 2 * _calls(walk), seed, first, batch, progress, keys)
        return out.reshape(n, k, *out.shape[1:])

    # --- what they share ----------------------------------------------------------------------------------------------

    @property
    def _continuous(self) -> bool:
        return self.model.denoiser.process.continuous

    @property
    def _unit(self) -> float:
        """How much of the data's own units is 1 to the network."""
        scaling = self.model.spec.scaling
        return 127.5 if self.model.spec.eight_bit else 1.0 if scaling is None else scaling.scale

    def _walk(self, how: dict[str, Any], label: int | str | None, sampler: str | None = None) -> Walk:
        """Sampler, times and denoiser, with this edit's own sampler and number of steps where none is given."""
        model = self.model
        given = {name: value for name, value in how.items() if value is not None}
        if sampler is not None:
            given = {"sampler": sampler} | given
        plain = "steps" not in given and "times" not in given
        if plain and self._continuous and not model.denoiser.consecutive and given.get("sampler") == "ancestral":
            given["steps"] = min(_STEPS, model.denoiser.process.T)
        chosen = How.of(model, **given)
        if chosen.guidance != 1 and label is None:
            raise UserError("guidance needs a label to be guided to")
        return walk_of(model.denoiser, model.spec, chosen)

    def _time(self, strength: float) -> float:
        if not 0 < strength <= 1:
            raise UserError(f"a strength is above 0, where nothing changes, and at most 1, not {strength:g}")
        t = strength * self.model.denoiser.process.T
        return max(1.0, round(t)) if self.model.denoiser.consecutive else t

    def _from(self, walk: Walk, t: float) -> Grid:
        """The walk's steps, drawn together so that they begin at t; a network that knows only its own steps keeps them."""
        if self.model.denoiser.consecutive:
            return editing.below(walk.grid, t)
        return Grid(walk.grid.times * (t / float(walk.grid.times[0])))

    def _mask(self, unknown: np.ndarray, count: int) -> Tensor:
        """Where items are unknown, bool (1 or N, 1, H, W) or (1 or N, D)."""
        spec, mask = self.model.spec, np.asarray(unknown)
        event = spec.shape[1:] if spec.kind == "image" else spec.shape
        if mask.dtype != np.bool_ or mask.shape not in ((*event,), (1, *event), (count, *event)):
            shape = ", ".join(map(str, event))
            raise UserError(f"a mask is bool of shape ({shape}) or (N, {shape}), not {mask.dtype} {mask.shape}")
        if not mask.any():
            raise UserError("the mask hides nothing: in a mask white is unknown")
        mask = mask.reshape(-1, *event)
        return torch.from_numpy(mask[:, None] if spec.kind == "image" else mask).to(self.model.device)

    def _denoised(
        self,
        y: Tensor,
        strength: np.ndarray,
        method: str,
        walk: Walk,
        seed: int,
        label: int | str | None,
        batch: int,
        progress: Progress | None,
        keys: list[int],
    ) -> np.ndarray:
        grid, column = walk.grid, torch.tensor(strength, device=y.device).reshape(-1, *(1,) * (y.ndim - 1))
        with _refusing():
            if method == "matched":
                tau, _ = editing.matched(self.model.denoiser.process, y[:1], float(strength[0]))
                grid = grid if self.model.denoiser.consecutive else self._from(walk, tau)

        def work(rows: slice, denoiser: DenoiserBase, options: dict[str, Any]) -> Tensor:
            noise = float(strength[0]) if method == "matched" else column[rows]
            return editing.denoise(denoiser, y[rows], noise, grid, method=method, sampler=walk.sampler, **options)

        return self._drawn(work, len(y), walk, _calls(walk, grid), seed, label, batch, progress, keys)

    def _drawn(
        self,
        work: Callable[[slice, DenoiserBase, dict[str, Any]], Tensor],
        count: int,
        walk: Walk,
        calls: int,
        seed: int,
        label: int | str | None,
        batch: int,
        progress: Progress | None,
        indices: Sequence[int] | None = None,
        outside: Callable[[Tensor], np.ndarray] | None = None,
    ) -> np.ndarray:
        """``work`` over all rows, a batch at a time, each with its own noise and condition."""
        if count < 1 or batch < 1:
            raise UserError("there must be at least one item to edit, and at least one at a time")
        chosen = list(range(count)) if indices is None else list(indices)
        self.model.noise(seed, chosen[0], 1)  # refuses a seed that is none
        self.model.denoiser.eval()
        done, batches = 0, -(-count // batch)

        def called() -> None:
            nonlocal done
            done += 1
            if progress:
                progress(min(done, calls * batches) if calls else done, calls * batches)

        parts = []
        for first in range(0, count, batch):
            rows = slice(first, min(first + batch, count))
            keys = {
                "seed": seed,
                "indices": chosen[rows],
                "condition": self.model.condition(label, chosen[rows]),
            }
            with _refusing():
                parts.append((outside or self.model.outside)(work(rows, Watched(walk.denoiser, called), keys)))
        if progress and calls:
            progress(calls * batches, calls * batches)
        return np.concatenate(parts)


class Watched(DenoiserBase):
    """A denoiser that tells of every call."""

    def __init__(self, denoiser: DenoiserBase, called: Callable[[], None]) -> None:
        super().__init__()
        self.denoiser, self.called = denoiser, called
        self.process, self.consecutive = denoiser.process, denoiser.consecutive

    def predict(self, x_t: Tensor, t: Any, condition: Condition | None = None) -> PredictionBase:
        said = self.denoiser.predict(x_t, t, condition)
        self.called()
        return said


@contextmanager
def _refusing() -> Iterator[None]:
    """What the mathematics refuses is the user's to mend."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from None


def _calls(walk: Walk, grid: Grid | None = None) -> int:
    """Network calls of a walk; 0 where only the walk itself shows it."""
    return walk.sampler.calls((grid or walk.grid).steps) or 0


def _weights(weights: Sequence[float] | int) -> list[float]:
    if isinstance(weights, int):
        if weights < 2:
            raise UserError(f"a path has two ends at least, not {weights} places")
        return np.linspace(0, 1, weights).tolist()
    given = [float(w) for w in weights]
    if not given or not np.isfinite(given).all():
        raise UserError("the places on a path are numbers, 0 at one end and 1 at the other")
    return given


def _share(progress: Progress | None, number: int, groups: int) -> Progress | None:
    """Progress of one of several equal parts."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, groups * total)


def _plain(x: Tensor) -> np.ndarray:
    return x.float().cpu().numpy()
