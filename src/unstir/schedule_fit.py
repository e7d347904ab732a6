"""Training of the schedules that learn: small functions above the bound, since the bound is what teaches them.

Both ways are pure: they take a schedule, train a copy of it, and give the copy back. What they need to know of the model is
a function that builds its denoiser on a given schedule, so an exact denoiser and a network serve alike. To train a network
and its schedule together, put :func:`k_bits` or :func:`diffusion_nats` into the loop and the schedule's parameters into the
optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from unstir.bound.terms import decoder_nats, nats, step_nats
from unstir.denoisers import DenoiserBase, Prediction
from unstir.noise import NoiseSource
from unstir.processes import Gaussian
from unstir.schedules import Learned, MonotoneLogSNR
from unstir.shapes import Anything, Reals, Rows64, Stack

S = TypeVar("S", Learned, MonotoneLogSNR)


@dataclass(frozen=True)
class Fit(Generic[S]):
    """A schedule after training.

    Args:
        schedule: the trained copy.
        history: what was watched on the way, by name, one number an update, from before the first to before the last.
    """

    schedule: S
    history: dict[str, list[float]] = field(default_factory=dict)


def frozen_noise(x0: Reals, T: int, noise: NoiseSource | None = None) -> Stack:
    """The standard normal noise of x_2 … x_T for every sample, (T - 1, B, *E): drawn once, the same for every schedule.

    Args:
        x0: (B, *E).
        noise: default a source of seed 0 with indices 0 … B-1.
    """
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    drawn = [noise.normal(x0.shape[1:], "frozen noise", t, x0.dtype) for t in range(2, T + 1)]
    return torch.stack(drawn) if drawn else x0.new_zeros(0, *x0.shape)


def k_bits(denoiser: DenoiserBase, x0: Reals, eps: Anything) -> Rows64:
    """``K = (-sum_{t>=2} KL_t + H_q(x_T|x0) - H_q(x_1|x0) - H_p(x_T)) / ln 2``, bits per sample (B,), higher is better.

    [SD15 eq. 14], with ``x_t = alpha_t x0 + sigma_t eps_t``: a differentiable function of the network and of the schedule,
    because the noise is held still. The same K as :attr:`unstir.bound.Bound.k_bits`, for Gaussian data; as there, it is a
    bound on log p for data whose mean square is the prior's.

    All T - 1 terms are evaluated in one batch of (T - 1) B rows.

    Args:
        x0: (B, *E). eps: (T - 1, B, *E), see :func:`frozen_noise`.
    """
    process, T = _gaussian(denoiser), denoiser.process.T
    if eps.shape != (T - 1, *x0.shape):
        raise ValueError(f"K over T = {T} steps needs noise of shape {(T - 1, *x0.shape)}, not {tuple(eps.shape)}")
    t = torch.arange(2, T + 1, dtype=torch.float64, device=x0.device).repeat_interleave(len(x0))
    rows = x0.repeat(T - 1, *(1,) * (x0.ndim - 1))
    k = nats(process.marginal(x0, T).entropy()) - nats(process.marginal(x0, 1).entropy())
    k = k - nats(process.prior(x0.shape, x0.dtype, x0.device).entropy())
    if T > 1:
        prediction = denoiser.predict(process.marginal(rows, t).sample(eps.flatten(0, 1)), t)
        k = k - step_nats(prediction, rows, t - 1).reshape(T - 1, len(x0)).sum(0)
    return k / math.log(2)


def fit_betas(
    make: Callable[[Learned], DenoiserBase],
    schedule: Learned,
    x0: Reals,
    *,
    updates: int = 200,
    learning_rate: float = 0.05,
    noise: NoiseSource | None = None,
) -> Fit[Learned]:
    """Gradient ascent on :func:`k_bits` over beta_2 … beta_T with frozen noise, beta_1 fixed [SD15 §2.4.1].

    Args:
        make: the denoiser on a schedule; called once, with the copy that is trained.
        x0: (B, *E), of unit mean square.
        learning_rate: of the first update; it falls to 0 along a straight line.
        noise: what :func:`frozen_noise` draws from.

    Returns:
        The trained schedule, and the mean K by update as ``k_bits``.
    """
    trained = Learned(schedule.T, schedule.first_beta, schedule.logits)
    denoiser, eps = make(trained), frozen_noise(x0, schedule.T, noise)
    climb, watched = _Adam(trained.parameters(), learning_rate, updates), []
    for _ in range(updates):
        k = k_bits(denoiser, x0, eps).mean()
        watched.append(float(k.detach()))
        climb.step(*torch.autograd.grad(-k, trained.parameters()))
    return Fit(trained, {"k_bits": watched})


def diffusion_nats(denoiser: DenoiserBase, x0: Reals, u: Rows64, eps: Reals) -> Rows64:
    """``½ gamma'(u) |eps - eps_hat(x_u)|²``: one draw of the continuous-time bound's diffusion part, nats per sample (B,).

    (Kingma et al. 2021, eqs. 15, 17.) Averaged over uniform u and over eps it is ``½ ∫ |…|² dgamma``: it depends on gamma's
    two ends and not on the way between them, which sets only how much the draws differ.

    Args:
        denoiser: on a process whose schedule is a :class:`MonotoneLogSNR`.
        x0: (B, *E). u: (B,), in [0, 1]. eps: (B, *E).
    """
    process, schedule = _gaussian(denoiser), denoiser.process.schedule
    if not isinstance(schedule, MonotoneLogSNR):
        raise ValueError(f"the continuous-time bound needs a schedule with a gamma, not {type(schedule).__name__}")
    t = 1 + u * (schedule.T - 1)
    prediction = denoiser.predict(process.marginal(x0, t).sample(eps), t)
    assert isinstance(prediction, Prediction)
    return 0.5 * schedule.slope(u) * nats((eps - prediction.eps) ** 2)


def ends_nats(denoiser: DenoiserBase, x0: Reals, eps: Reals, decoder: str = "normal") -> Rows64:
    """The prior's part and the decoder's, ``KL(q(x_T|x0) ‖ p(x_T)) - log p(x0|x_1)``: the rest of the bound, nats (B,).

    Args:
        x0: (B, *E). eps: the noise of x_1, (B, *E). decoder: ``normal`` or ``discretized``, with the variance of x_1.
    """
    process = _gaussian(denoiser)
    prior = nats(process.marginal(x0, process.T).kl(process.prior(x0.shape, x0.dtype, x0.device)))
    t = torch.ones(len(x0), dtype=torch.float64, device=x0.device)
    prediction = denoiser.predict(process.marginal(x0, t).sample(eps), t)
    return prior + decoder_nats(prediction, x0, decoder)


def fit_log_snr(
    make: Callable[[MonotoneLogSNR], DenoiserBase],
    schedule: MonotoneLogSNR,
    x0: Reals,
    *,
    updates: int = 500,
    learning_rate: float = 0.02,
    ends: bool = True,
    decoder: str = "normal",
    noise: NoiseSource | None = None,
) -> Fit[MonotoneLogSNR]:
    """The ends of gamma by the bound, its interior by the bound's variance (Kingma et al. 2021, §5.3 and its appendix).

    The expected bound does not depend on the interior, so there the gradient is that of the squared draw, ``E[draw²]``,
    whose minimum is the least variance. Each update draws one u for each sample, spread evenly over [0, 1] from a common random
    start (their appendix on low-discrepancy times), and fresh noise.

    Args:
        make: the denoiser on a schedule; called once, with the copy that is trained.
        x0: (B, *E).
        learning_rate: of the first update; it falls to 0 along a straight line.
        ends: whether the ends are trained too. With a density as decoder they drift apart without limit, ever more slowly.
        decoder: as in :func:`ends_nats`.
        noise: default a source of seed 0 with indices 0 … B-1.

    Returns:
        The trained schedule; by update, the mean ``bound`` in nats and the ``square`` of its diffusion part, averaged.
    """
    trained = MonotoneLogSNR(schedule.T, schedule.ends.tolist(), interior=schedule.interior)
    denoiser = make(trained)
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    descent = _Adam(trained.parameters(), learning_rate, updates)
    spread = torch.arange(len(x0), dtype=torch.float64, device=x0.device) / len(x0)
    watched: dict[str, list[float]] = {"bound": [], "square": []}
    for i in range(updates):
        u = (noise.uniform((), "schedule time", i)[0] + spread) % 1
        draws = diffusion_nats(denoiser, x0, u, noise.normal(x0.shape[1:], "schedule noise", i, x0.dtype))
        with torch.set_grad_enabled(ends):
            rest = ends_nats(denoiser, x0, noise.normal(x0.shape[1:], "schedule ends", i, x0.dtype), decoder)
        bound, square = (draws + rest).mean(), (draws**2).mean()
        watched["bound"].append(float(bound.detach()))
        watched["square"].append(float(square.detach()))
        (of_interior,) = torch.autograd.grad(square, [trained.interior], retain_graph=ends)
        of_ends = torch.autograd.grad(bound, [trained.ends])[0] if ends else torch.zeros_like(trained.ends)
        descent.step(of_ends, of_interior)
    return Fit(trained, watched)


def _gaussian(denoiser: DenoiserBase) -> Gaussian:
    if not isinstance(denoiser.process, Gaussian):
        raise ValueError("only the Gaussian chain can hold its noise still while its schedule moves")
    return denoiser.process


class _Adam:
    """Adam with a rate that falls to 0 along a straight line: the last updates average the noise of the draws out."""

    def __init__(self, parameters: list[Tensor], rate: float, updates: int) -> None:
        self.parameters = parameters
        self.optimiser = torch.optim.Adam(parameters, rate)
        self.falling = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda i: 1 - i / updates)

    def step(self, *gradients: Tensor) -> None:
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = gradient
        self.optimiser.step()
        self.falling.step()
