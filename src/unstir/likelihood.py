"""The log-likelihood along the probability-flow ODE: no bound, the density of the model that the ODE samples from.

The ODE that takes x0 through all marginals q(x_t) without noise (Song et al. 2021, eq. 13) is a change of variables between
data and prior, whose logarithm of volume is the integral of a divergence (Chen et al. 2018, eq. 8; Song et al. 2021, eq. 39):

    ``log p(x0) = log p(x_T) + log |det dx_T / dx0|``

In ``y = x_t / r`` with ``r² = alpha_t² + sigma_t²`` and the angle ``phi = atan(sigma_t / alpha_t)`` the ODE reads
``dy/dphi = v / r`` on every schedule, and the volume grows by ``div_x v`` per unit of phi. It is solved here in
``u = -asinh(alpha_t / sigma_t) = log tan(phi / 2)``, where ``dphi/du = sin phi``. Near the data u is the logarithm of the
noise, the scale on which fine detail comes and goes; near the noise it is the angle, to which alpha_t = 0 is an ordinary
place. A schedule enters through alpha and sigma alone, so its kinks between table entries do not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unstir.bound import bits_per_dim
from unstir.denoisers import Bounded, Condition, DenoiserBase, Prediction
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.shapes import Data, Numbers, Numbers64, RowLabels, Rows64

DIVERGENCES = ("auto", "exact", "hutchinson")
_EXACT_UP_TO = 64  # numbers in a sample for which auto takes the exact divergence: one backward pass for each
_START = 1e-3  # sigma / alpha where the ODE begins unless told otherwise: an eighth of the width of an 8-bit level
_SMALLEST = 1e-8  # step in u; a smooth field never needs it
_MOST = 2000  # steps tried; 12,000 network calls are more than a field worth the wait needs
_PROGRESS = 1000

# Dormand & Prince 1980, 5(4). The last row of stages is also the fifth-order result, so its slope opens the next step.
_NODES = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
_STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
# The fifth-order result less the fourth-order one.
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


@dataclass(frozen=True)
class OdeLikelihood:
    """``-log p(x0) = prior + divergence`` for each sample, nats per whole sample, float64; lower is better.

    Args:
        prior: ``-log p(x_T)`` at the end of the flow, (B,).
        divergence: ``-log |det dx_T / dx0|``, (B,).
        standard_error: of the total over Hutchinson's probes, (B,): 0 for the exact divergence, infinite for a single probe.
        start_shift: what the noise at the start adds to the total, to first order in its variance, (B,).
        calls: network calls for each sample, long (B,).
        dims: D, the data's numbers.
        dequantised: whether the data were 8-bit levels spread over their bins.
    """

    prior: Rows64
    divergence: Rows64
    standard_error: Rows64
    start_shift: Rows64
    calls: RowLabels
    dims: int
    dequantised: bool = False

    @property
    def total(self) -> Rows64:
        """``-log p(x0)``, nats of a density on the scaled axis, lower is better: (B,)."""
        return self.prior + self.divergence

    @property
    def bits(self) -> Rows64:
        """:attr:`total` in bits per whole sample, (B,)."""
        return self.total / math.log(2)

    @property
    def bits_per_dim(self) -> Rows64:
        """``total / (D ln 2) + log2(255/2)``, (B,); see :func:`unstir.bound.bits_per_dim`.

        Raises:
            ValueError: for data that was not dequantised here.
        """
        if not self.dequantised:
            raise ValueError(
                "bits/dim counts the bits of 8-bit levels, and these data have none: a density of points depends on their "
                "unit, so take .total in nats or .bits a sample; for 8-bit data set dequantise=True"
            )
        return bits_per_dim(self.total, self.dims, density=True)


def ode_log_likelihood(
    denoiser: DenoiserBase,
    x0: Data,
    *,
    condition: Condition | None = None,
    tolerance: float | None = None,
    steps: int | None = None,
    start: float | None = None,
    divergence: str = "auto",
    probes: int = 1,
    dequantise: bool = False,
    draws: int = 1,
    noise: NoiseSource | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> OdeLikelihood:
    """``-log p(x0) = -log p(x_T) - log |det dx_T / dx0|`` along the probability-flow ODE (Song et al. 2021, eq. 39).

    It is the density of the model itself: where the schedule leaves some signal at T, the prior's misfit is in it, as it is
    in samples. It begins at a time above 0, and so is the density of ``x0 + (sigma/alpha) eps`` at that time's noise. That
    changes ``log p`` by ``½ (sigma/alpha)² (laplacian p)/p`` to first order, which costs nothing to know:
    ``start_shift = -½ (|eps|² - sigma div eps)``, and ``total - start_shift`` is the value at no noise up to the fourth power
    of sigma/alpha. Each row takes its own steps, so its value does not depend on the rows beside it.

    Args:
        denoiser: its process is Gaussian, with any ``alpha, sigma``; unclipped, and in eval mode.
        x0: (B, *E), on the scaled axis. Networks see its dtype; the flow is float64.
        tolerance: the error a step may make, in y (of size 1) and in nats per dim of log-volume; default 1e-6, for float32 1e-4:
            what trained networks say about neighbouring times is wavy, and finer steps only follow the waves.
        steps: so many equal steps in u of the fifth-order method, instead of steps chosen by the tolerance.
        start: the time to begin at; default where sigma/alpha is 1e-3. A network that only learned whole times is surest
            from 1.
        divergence: ``exact``, one backward pass for each of the D numbers; ``hutchinson``, the unbiased estimate
            ``e·(J e)`` from random signs e (Hutchinson 1990; Grathwohl et al. 2019), fixed along each path; ``auto``,
            exact up to D = 64.
        probes: how many e, each of which costs a backward pass.
        dequantise: for 8-bit data, needed for bits/dim: x0 stands on its levels and is spread evenly over their bins, see
            :func:`dequantised`. The mean over draws bounds ``-log`` of the level's mass from above (Theis et al. 2016).
        draws: of the dequantisation, over which the result is averaged.
        noise: of signs and dequantisation; default a source of seed 0 with indices 0 … B-1.
        progress: called with (done, all), in thousandths of the way.

    Raises:
        ValueError: for a process that is not Gaussian, a clipped denoiser, data off the levels, or a number out of range; and
            where the field is so rough or so large that no step meets the tolerance.
    """
    process = denoiser.process
    if not isinstance(process, Gaussian):
        raise ValueError(
            f"a {type(process).__name__.lower()} chain jumps between values and has no ODE: use the variational bound"
        )
    if denoiser.consecutive:
        raise ValueError("this denoiser speaks of the step from t to t - 1 alone, and the ODE asks at real times")
    if any(isinstance(part, Bounded) for part in denoiser.modules()):
        raise ValueError(
            "clipping bends the flow where the predicted x0 leaves its range, and no density has that flow: give the denoiser "
            "unclipped"
        )
    if not x0.is_floating_point() or x0.ndim < 2:
        raise ValueError(f"x0 must be floating-point numbers (B, *E), not {x0.dtype} of shape {tuple(x0.shape)}")
    if divergence not in DIVERGENCES:
        raise ValueError(f"no divergence is called {divergence!r}; there are {', '.join(DIVERGENCES)}")
    if tolerance is None:
        tolerance = 1e-6 if x0.dtype == torch.float64 else 1e-4
    if min(probes, draws, 1 if steps is None else steps) < 1 or not tolerance > 0:
        raise ValueError("probes, draws and steps must be at least 1, and the tolerance positive")
    if draws > 1 and not dequantise:
        raise ValueError("draws are those of the dequantisation: without it, one says everything")
    dims = math.prod(x0.shape[1:])
    exact = divergence == "exact" or (divergence == "auto" and dims <= _EXACT_UP_TO)
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    parts: list[tuple[Tensor, ...]] = []
    # The caller may have gradients off, and even inference mode on; what comes from there must be copied to be derived by.
    with torch.inference_mode(False), torch.enable_grad():
        x = x0.detach().clone()
        for draw in range(draws):
            there = dequantised(x, noise.uniform(x.shape[1:], "dequantise", draw)) if dequantise else x
            signs = None
            if not exact:
                words = [noise.integers(x.shape[1:], "hutchinson", draw * probes + i) for i in range(probes)]
                signs = torch.stack([(w & 1) * 2 - 1 for w in words], 1).to(_seen_as(x))
            flow = _Flow(denoiser, condition, signs, _seen_as(x), start)
            report = None if progress is None else _Part(progress, draw, draws)
            parts.append(flow.measure(there.double(), steps, tolerance, report))
    prior, volume, error, shift, calls = (torch.stack(part) for part in zip(*parts))
    return OdeLikelihood(
        prior=prior.mean(0),
        divergence=-volume.mean(0),
        standard_error=error.square().sum(0).sqrt() / draws,
        start_shift=shift.mean(0),
        calls=calls.sum(0),
        dims=dims,
        dequantised=dequantise,
    )


def dequantised(x0: Numbers, u: Numbers) -> Numbers64:
    """``(2k + 2u - 1)/255 - 1`` for x0 at level k: spread over the bin around the level, float64, of x0's shape.

    All bins together fill ±256/255, on which the uniform density scores exactly 8 bits/dim.

    Args:
        u: uniform draws in (0, 1), of x0's shape.

    Raises:
        ValueError: if x0 does not lie on the levels ``2k/255 - 1``.
    """
    level = (x0.double() + 1) * (255 / 2)
    k = level.round()
    if not bool(
        (((level - k).abs() <= 1e-2) & (k >= 0) & (k <= 255)).all()
    ):  # asked this way round, NaN is refused too
        raise ValueError(
            "the data does not lie on the 256 levels 2k/255 - 1, so it cannot be dequantised and bits/dim has no meaning "
            "for it: measure nats with dequantise=False"
        )
    return (2 * k + 2 * u - 1) / 255 - 1


class _Part:
    """The progress of one draw among several."""

    def __init__(self, report: Callable[[int, int], None], draw: int, draws: int) -> None:
        self.report, self.draw, self.draws = report, draw, draws

    def __call__(self, fraction: float) -> None:
        self.report(self.draw * _PROGRESS + int(fraction * _PROGRESS), self.draws * _PROGRESS)


class _Flow:
    """The ODE of a batch: ``dy/du`` and the rate of log-volume, and what follows from its solution.

    Args:
        signs: Hutchinson's e, (B, probes, *E), or None for the exact divergence.
        dtype: what the denoiser sees.
        start: the first time, or None.
    """

    @torch.no_grad()  # a schedule may have weights of its own
    def __init__(
        self,
        denoiser: DenoiserBase,
        condition: Condition | None,
        signs: Tensor | None,
        dtype: torch.dtype,
        start: float | None,
    ) -> None:
        self.denoiser, self.condition, self.signs, self.dtype = denoiser, condition, signs, dtype
        self.schedule = denoiser.process.schedule
        T = float(self.schedule.T)
        first = float(self.schedule.time(-2 * math.log(_START))) if start is None else float(start)
        if not 0 <= first < T or not float(self.schedule.sigma(first)) > 0:
            raise ValueError(f"the ODE must start at a time above 0, where there is some noise, and below T = {T:g}")
        self.times = (first, T)
        self.alpha, self.alpha_T = (float(self.schedule.alpha(t)) for t in self.times)
        self.sigma, self.sigma_T = (float(self.schedule.sigma(t)) for t in self.times)
        self.ends = (-math.asinh(self.alpha / self.sigma), -math.asinh(self.alpha_T / self.sigma_T))

    def measure(self, x0: Tensor, steps: int | None, tolerance: float, report: _Part | None) -> tuple[Tensor, ...]:
        """-log p(x_T), log |det dx_T/dx0|, its standard error, the start's shift and the calls, each (B,); x0 is float64."""
        alpha, sigma = self.alpha, self.sigma
        r, r_T = math.hypot(alpha, sigma), math.hypot(self.alpha_T, self.sigma_T)
        dims = x0[0].numel()
        y = x0 * (alpha / r)
        every = torch.arange(len(y), device=y.device)
        slopes = self.slopes(torch.full((len(y),), self.ends[0], dtype=torch.float64, device=y.device), y, every)
        if not all(bool(torch.isfinite(slope).all()) for slope in slopes):
            raise ValueError(
                f"the denoiser gives no finite answer at t = {self.times[0]:g}, where the ODE starts: set a later start"
            )
        # eps and its divergence from the first slopes: v = r² dy/du / sigma, and x_t = alpha x0 + sigma eps.
        eps = (sigma * y + alpha * r * slopes[0] / sigma) / r
        div_eps = (sigma * dims + alpha * r * slopes[1].mean(1) / sigma) / r**2
        shift = -0.5 * (eps.square().flatten(1).sum(1) - sigma * div_eps)

        y, volume, calls = self.solve(y, slopes, steps, tolerance, report)
        x_T = y * r_T
        prior = -self.denoiser.process.prior(x_T.shape, x_T.dtype, x_T.device).log_prob(x_T).flatten(1).sum(1)
        error = torch.zeros_like(prior)
        if self.signs is not None:
            n = volume.shape[1]
            error = volume.std(1) / math.sqrt(n) if n > 1 else torch.full_like(prior, math.inf)
        return prior, volume.mean(1) + dims * math.log(r_T * alpha / r), error, shift, calls

    def slopes(self, u: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """``dy/du = sigma v / r²`` (n, *E) and ``sigma div_x v / r`` (n, probes), float64, for some rows of the batch."""
        with torch.no_grad():  # a schedule may have weights of its own
            # alpha / sigma = sinh(-u) names the real time; beyond the last one there is none, and at alpha = 0 no log-SNR.
            t = self.schedule.time(2 * torch.sinh(-u).log())
            t = torch.where(u < self.ends[1], t, self.times[1]).clamp(*self.times)
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            r = torch.hypot(alpha, sigma)
        x = (_column(r, y) * y).to(self.dtype).requires_grad_()
        prediction = self.denoiser.predict(x, t, None if self.condition is None else self.condition.select(rows))
        assert isinstance(prediction, Prediction)
        v = prediction.v
        traces = self._traces(v, x, rows)
        return _column(sigma / r**2, y) * v.detach().double(), (sigma / r)[:, None] * traces

    def _traces(self, v: Tensor, x: Tensor, rows: Tensor) -> Tensor:
        """``div_x v`` or, for each probe, ``e·(J e)``: (n, probes), float64."""
        n, dims = len(x), x[0].numel()
        if not v.requires_grad:  # v is the same wherever x is
            return torch.zeros(
                n, 1 if self.signs is None else self.signs.shape[1], dtype=torch.float64, device=x.device
            )
        flat = v.flatten(1)

        def pulled_back(along: Tensor, keep: bool) -> Tensor:
            # Rows do not see each other, so one pass serves them all. Only x's gradient is asked for: no weight gets one.
            (g,) = torch.autograd.grad(flat, x, along, retain_graph=keep, materialize_grads=True)
            return g.flatten(1).double()

        if self.signs is not None:
            signs = self.signs[rows].flatten(2)
            last = signs.shape[1] - 1
            return torch.stack([(pulled_back(e, i < last) * e).sum(1) for i, e in enumerate(signs.unbind(1))], 1)
        total = torch.zeros(n, dtype=torch.float64, device=x.device)
        for d in range(dims):
            along = torch.zeros_like(flat)
            along[:, d] = 1
            total += pulled_back(along, d < dims - 1)[:, d]
        return total[:, None]

    def solve(
        self, y: Tensor, slopes: tuple[Tensor, Tensor], steps: int | None, tolerance: float, report: _Part | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """y (B, *E) and log-volume (B, probes) at the end, by Dormand & Prince's method with a step size for each row.

        Args:
            slopes: at the beginning.
        """
        begin, end = self.ends
        y, dims = y.clone(), y[0].numel()
        volume = torch.zeros_like(slopes[1])
        u = torch.full((len(y),), begin, dtype=torch.float64, device=y.device)
        h = torch.full_like(u, (end - begin) / (steps or 32))
        calls = torch.ones(len(y), dtype=torch.long, device=y.device)
        first_y, first_volume = slopes
        rows = torch.arange(len(y), device=y.device)
        tries = 0
        while len(rows):
            tries += 1
            left = end - u[rows]
            last = h[rows] >= left * (1 - 1e-9)
            step = torch.where(last, left, h[rows])
            ks, rates = [first_y[rows]], [first_volume[rows]]
            new = y[rows]
            for node, stage in zip(_NODES, _STAGES):
                new = y[rows] + _column(step, y) * sum(a * k for a, k in zip(stage, ks) if a)
                # Counted from the end, so that the last node of the last step is the end and not its neighbour.
                k, rate = self.slopes(end - (left - node * step), new, rows)
                ks.append(k)
                rates.append(rate)
            grown = step[:, None] * sum(a * rate for a, rate in zip(_STAGES[-1], rates))
            calls[rows] += len(_STAGES)

            taken = torch.ones_like(last)
            if steps is None:
                in_y = _column(step, y) * sum(a * k for a, k in zip(_ERROR, ks))
                in_volume = step[:, None] * sum(a * rate for a, rate in zip(_ERROR, rates))
                worst = torch.maximum(_rms(in_y) / (1 + _rms(new)), _rms(in_volume) / dims) / tolerance
                worst = worst.nan_to_num(nan=math.inf)
                taken = worst <= 1
                h[rows] = step * (0.9 * worst**-0.2).clamp(0.2, 5)
                if tries > _MOST or bool((~taken & (step < _SMALLEST)).any()):
                    raise ValueError(
                        "the ODE is too rough for its tolerance, or not finite: loosen the tolerance, give a number of steps, "
                        "or start at a later time"
                    )
            kept = rows[taken]
            y[kept], volume[kept] = new[taken], volume[kept] + grown[taken]
            u[kept] = torch.where(last, end, u[rows] + step)[taken]
            first_y[kept], first_volume[kept] = ks[-1][taken], rates[-1][taken]
            rows = rows[~(taken & last)]
            if report:
                report(float((u - begin).mean() / (end - begin)))
        return y, volume, calls


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def _rms(values: Tensor) -> Tensor:
    return values.square().flatten(1).mean(1).sqrt()


def _seen_as(x: Tensor) -> torch.dtype:
    """What a denoiser is shown: at least float32."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32
