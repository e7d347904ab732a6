"""Editing a user's own data with a trained model: every walk of :mod:`unstir.editing`, with data as users hold it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unstir import editing, samplers
from unstir.denoisers import DenoiserBase, Guided
from unstir.editing import Operator
from unstir.errors import UserError
from unstir.runs.edit_walks import Asked, EditBase, calls_of, plain, refusing, share_of, weights_of
from unstir.runs.walks import How, Walk, bounded

INPAINT = ("repaint", *editing.INPAINT)
_PATH = 7  # places on a path between two ends


@dataclass(frozen=True)
class Edits(EditBase):
    """What can be done to a user's own data with a model: reached as ``model.edit``.

    Data come and go as :meth:`unstir.Model.sample` gives them: pictures uint8 (N, H, W, C), points float32 (N, D), bits bool
    (N, D), symbols (N, D). Common to all:

    - ``seed``: of the noise; item i of a call draws that of sample i, the same alone and in any batch;
    - ``label``: a class, by name or number; ``each`` gives item i class i mod K;
    - ``batch``: how many at a time;
    - ``progress``: called with (network calls done, all; 0 where nobody knows);
    - ``sampler, steps, spacing, times, clip, guidance`` and the rest of :class:`unstir.runs.walks.How`. Steps lead from where the edit
      begins down to the data.

    All raise :class:`unstir.errors.UserError` for what does not fit the model or makes no sense.
    """

    def inpaint(
        self,
        data: np.ndarray,
        unknown: np.ndarray,
        *,
        method: str | None = None,
        jump: int = 5,
        resamplings: int = 5,
        **common: Any,
    ) -> np.ndarray:
        """Draws of what is unknown, given the rest, which comes back exactly.

        Args:
            unknown: True where data may hold anything: (H, W) or (N, H, W) of pictures, (D,) or (N, D) of the rest.
            method: ``repaint``, of which ``jump`` and ``resamplings`` are (:func:`unstir.editing.repaint`), or one of
                :func:`unstir.editing.inpaint`; by default repaint, and observed for bits and symbols.
        """
        asked = Asked.of(common)
        method = method or ("repaint" if self.continuous else "observed")
        if method not in INPAINT:
            raise UserError(f"no way of inpainting is called {method!r}; there are {', '.join(INPAINT)}")
        x0, known = self.model.inside(data), ~self.hidden(unknown, len(data))
        walk = self.walk(asked, sampler="ancestral")
        with refusing():
            falls = editing.moves(walk.grid, jump, resamplings) if method == "repaint" else walk.grid.times.tolist()
        calls = sum(s < t for t, s in itertools.pairwise(falls))

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            here = known.expand(len(x0), *known.shape[1:])[rows]
            if method == "repaint":
                if walk.sampler.continuous:
                    raise ValueError('RePaint draws from the steps themselves: use the sampler "ancestral"')
                options: dict[str, Any] = {"jump": jump, "resamplings": resamplings}
                return editing.repaint(denoiser, x0[rows], here, walk.grid, **options, **keys)
            options = {"method": method, "sampler": walk.sampler}
            return editing.inpaint(denoiser, x0[rows], here, walk.grid, **options, **keys)

        drawn = self.drawn(work, len(x0), walk, calls, asked)
        # What a walk keeps in floating point comes back to its level by rounding; of real numbers only the item itself is exact.
        keep = np.moveaxis(known.cpu().numpy(), 1, -1) if data.ndim == 4 else known.cpu().numpy()
        return np.where(keep, np.asarray(data), drawn).astype(drawn.dtype)

    def denoise(
        self,
        data: np.ndarray,
        noise: float | Sequence[float] | np.ndarray | None = None,
        *,
        method: str | None = None,
        **common: Any,
    ) -> np.ndarray:
        """Draws of the clean data behind noisy ones; in one step their mean, which is blurred and errs least.

        Args:
            noise: the noise's standard deviation in the data's own units (levels of 8-bit pictures), the probability that a bit
                was flipped or a symbol replaced; one number or one for each item, (N,). None: estimated for each picture,
                :meth:`noise_of`.
            method: one of :func:`unstir.editing.denoise`; by default matched, and observed for bits and symbols.
        """
        asked = Asked.of(common)
        method = method or ("matched" if self.continuous else "observed")
        if method not in editing.DENOISE:
            raise UserError(f"no way of denoising is called {method!r}; there are {', '.join(editing.DENOISE)}")
        y, unit = self.model.inside(data), self.unit
        given = self.noise_of(data) if noise is None else np.asarray(noise, np.float64)
        if given.ndim > 1 or (given.ndim == 1 and len(given) != len(y)):
            raise UserError(f"the noise is one number, or one for each of {len(y)} items, not {given.shape}")
        if not bool((given >= 0).all()):
            raise UserError("the noise is 0 or above")
        levels = np.broadcast_to(given, (len(y),))
        strengths = (levels / unit) ** 2 if self.continuous else levels
        walk, parts = self.walk(asked, sampler="ancestral"), np.empty_like(np.asarray(data))
        # "matched" begins all of a batch at one time; an estimate differs from picture to picture.
        together = method != "matched" or len(set(strengths.tolist())) == 1
        groups = [np.arange(len(y))] if together else [np.array([i]) for i in range(len(y))]
        for number, rows in enumerate(groups):
            value = strengths[rows]
            if method == "matched" and value[0] == 0:
                parts[rows] = data[rows]
                continue
            part = replace(asked, progress=share_of(asked.progress, number, len(groups)))
            parts[rows] = self._denoised(y[rows], value, method, walk, part, rows.tolist())
        return parts

    def noise_of(self, data: np.ndarray) -> np.ndarray:
        """The standard deviation of each picture's noise in its own units, (N,): :func:`unstir.editing.noise_level`."""
        if self.model.spec.kind != "image":
            raise UserError(f"how noisy {self.model.spec.kind} are cannot be read from them: say it")
        with refusing():
            return editing.noise_level(self.model.inside(data)).cpu().numpy() * self.unit

    def restore(
        self,
        measured: np.ndarray,
        operator: Operator,
        noise: float | None = None,
        **common: Any,
    ) -> np.ndarray:
        """Draws of the pictures behind ``y = A x0 + noise``: blurred, made small, made grey.

        Args:
            measured: y, uint8 (N, h, w, c). operator: A, from :mod:`unstir.editing`.
            noise: standard deviation in levels; by default 0 where A has a pseudo-inverse, so that A of what is drawn is y, else 1.
        """
        asked = Asked.of(common)
        if self.model.spec.kind != "image":
            raise UserError(f"only pictures are restored, and this run is of {self.model.spec.kind}")
        with refusing():
            y = self.model.spec.inside(np.asarray(measured)).to(self.model.device)
            expected = operator.forward(torch.zeros(1, *self.model.spec.shape, device=y.device)).shape[1:]
        if y.shape[1:] != expected:
            h, w, c = expected[1], expected[2], expected[0]
            raise UserError(f"what was measured is of shape (N, {h}, {w}, {c}) here, not {np.shape(measured)}")
        sigma = (0.0 if operator.gram is not None else 1.0) if noise is None else noise
        walk = self.walk(asked, sampler="ancestral")

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            shape, variance = (len(y[rows]), *self.model.spec.shape), (sigma / self.unit) ** 2
            return editing.restore(
                denoiser, y[rows], operator, variance, walk.grid, shape, sampler=walk.sampler, **keys
            )

        return self.drawn(work, len(y), walk, calls_of(walk), asked)

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
        with refusing():
            return editing.downscale(self.model.spec.shape[1], self.model.spec.shape[2], factor)

    def measured(self, data: np.ndarray, operator: Operator | None, noise: float = 0.0, seed: int = 0) -> np.ndarray:
        """``A x0 + noise`` of data, as users hold it: to try a restoration on what is known."""
        x0 = self.model.inside(data)
        y = x0 if operator is None else operator.forward(x0)
        normal = self.model.noise(seed, 0, len(y)).normal(tuple(y.shape[1:]), "measurement", dtype=y.dtype)
        return self.model.outside(y + noise / self.unit * normal)

    def vary(
        self,
        data: np.ndarray,
        strength: float = 0.5,
        **common: Any,
    ) -> np.ndarray:
        """Something like each item: noised to ``t = strength T`` and back.

        Args:
            strength: 0 … 1: 0 leaves everything, 1 nothing.
        """
        asked = Asked.of(common)
        x0, t = self.model.inside(data), self.time(strength)
        walk = self.walk(asked)
        grid = self.begun_at(walk, t)

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            return editing.vary(denoiser, x0[rows], t, grid, sampler=walk.sampler, **keys)

        return self.drawn(work, len(x0), walk, calls_of(walk, grid), asked)

    def interpolate(
        self,
        a: np.ndarray,
        b: np.ndarray,
        weights: Sequence[float] | int = _PATH,
        *,
        strength: float | None = None,
        **common: Any,
    ) -> np.ndarray:
        """Paths from each a to its b: (N, len(weights), …).

        Args:
            a, b: (N, …). weights: 0 at a, 1 at b; or how many, evenly spread.
            strength: None joins their noises, found as :meth:`invert` does; a number noises both to ``t = strength T`` and joins
                what that gives [HO20 §4.3].
        """
        asked = Asked.of(common)
        ends = [self.model.inside(x) for x in (a, b)]
        if ends[0].shape != ends[1].shape:
            raise UserError(f"a path has two ends: {len(ends[0])} items and {len(ends[1])} are no pairs")
        w = weights_of(weights)
        n, k = len(ends[0]), len(w)
        x, y = (end.repeat_interleave(k, 0) for end in ends)
        walk, t = (
            self.walk(asked, None if strength is not None else self.reversible),
            None if strength is None else self.time(strength),
        )
        grid = walk.grid if t is None else self.begun_at(walk, t)
        every = torch.tensor(w, dtype=torch.float64, device=x.device).repeat(n)

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            options: dict[str, Any] = {"t": t, "sampler": walk.sampler}
            return editing.interpolate(denoiser, x[rows], y[rows], every[rows], grid, **options, **keys)

        calls = calls_of(walk, grid) * (1 if t is not None else 3)
        keys = [i // k for i in range(n * k)]  # all of a path are one sample
        out = self.drawn(work, n * k, walk, calls, asked, keys)
        return out.reshape(n, k, *out.shape[1:])

    def invert(
        self,
        data: np.ndarray,
        **common: Any,
    ) -> np.ndarray:
        """The noise that a deterministic sampler makes each item of: float32 (N, *E) as the network sees it.

        :meth:`decode` makes of it the item again, nearer the more steps there are. By default heun, in 50 steps each way.
        """
        asked = Asked.of(common)
        x0, walk = self.model.inside(data), self.walk(asked, self.reversible)

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            return editing.invert(denoiser, x0[rows], walk.grid, sampler=walk.sampler, condition=keys["condition"])

        return self.drawn(work, len(x0), walk, calls_of(walk), asked, outside=plain)

    def decode(
        self,
        noise: np.ndarray,
        **common: Any,
    ) -> np.ndarray:
        """What the model makes of given noise x_T, float32 (N, *E)."""
        asked = Asked.of(common)
        if np.shape(noise)[1:] != self.model.spec.shape or not self.continuous:
            raise UserError(
                f"noise to decode is of shape (N, {', '.join(map(str, self.model.spec.shape))}), in numbers"
            )
        x, walk = (
            torch.as_tensor(np.asarray(noise, np.float32), device=self.model.device),
            self.walk(asked, self.reversible),
        )

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            return samplers.sample(denoiser, walk.sampler, walk.grid, tuple(x[rows].shape), start=x[rows], **keys)

        return self.drawn(work, len(x), walk, calls_of(walk), asked)

    def mix(
        self,
        first: int | str,
        second: int | str,
        weights: Sequence[float] | int = _PATH,
        *,
        n: int = 1,
        **common: Any,
    ) -> np.ndarray:
        """Samples on the way from one class to another, n paths of one noise each: (n, len(weights), …).

        Args:
            first, second: classes, by name or number. weights: 0 at the first, 1 at the second; or how many, evenly spread.
        """
        w = weights_of(weights)
        k = len(w)
        every = torch.tensor(w, dtype=torch.float64, device=self.model.device).repeat(n)
        asked = Asked.of(common)
        if asked.label is not None:
            raise UserError("the two classes are the label here: leave label out")
        asked = replace(asked, label=first)
        walk, shown = self.walk(asked), How.of(self.model, **asked.how)
        if shown.autoguidance:
            raise UserError(
                "between two classes there is no weaker model's mixture to be guided by: leave autoguidance out"
            )

        def work(rows: slice, denoiser: DenoiserBase, keys: dict[str, Any]) -> Tensor:
            other = self.model.condition(second, range(len(every[rows])))
            assert other is not None
            whole: DenoiserBase = editing.Mixed(denoiser, other, every[rows])
            if shown.guidance != 1:
                options: dict[str, Any] = {"interval": shown.guidance_interval, "rescale": shown.rescale}
                whole = Guided(whole, shown.guidance, **options)
            whole = bounded(whole, self.model.spec, shown.clip)
            shape = (len(every[rows]), *self.model.spec.shape)
            return samplers.sample(whole, walk.sampler, walk.grid, shape, **keys)

        self.model.condition(second, [0])  # refused before anything is drawn
        # Guidance and clipping are laid around the mixture, not around its parts.
        bare = replace(walk, denoiser=self.model.denoiser)
        keys = [i // k for i in range(n * k)]
        out = self.drawn(work, n * k, bare, 2 * calls_of(walk), asked, keys)
        return out.reshape(n, k, *out.shape[1:])

    def _denoised(
        self,
        y: Tensor,
        strength: np.ndarray,
        method: str,
        walk: Walk,
        asked: Asked,
        keys: list[int],
    ) -> np.ndarray:
        grid, column = walk.grid, torch.tensor(strength, device=y.device).reshape(-1, *(1,) * (y.ndim - 1))
        with refusing():
            if method == "matched":
                tau, _ = editing.matched(self.model.denoiser.process, y[:1], float(strength[0]))
                grid = grid if self.model.denoiser.consecutive else self.begun_at(walk, tau)

        def work(rows: slice, denoiser: DenoiserBase, options: dict[str, Any]) -> Tensor:
            noise = float(strength[0]) if method == "matched" else column[rows]
            return editing.denoise(denoiser, y[rows], noise, grid, method=method, sampler=walk.sampler, **options)

        return self.drawn(work, len(y), walk, calls_of(walk, grid), asked, keys)
