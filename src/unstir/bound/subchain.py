"""The best K steps for likelihood: a shortest path over the bound's own terms (Watson et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from unstir.bound.terms import DecoderVariance, decoder_nats, precise, step_nats
from unstir.denoisers import Condition, DenoiserBase
from unstir.noise import NoiseSource
from unstir.shapes import Data, Instants, Table

CANDIDATES = 64


@torch.no_grad()
def bound_terms(
    denoiser: DenoiserBase,
    x0: Data,
    times: Sequence[int | float] | Instants,
    *,
    condition: Condition | None = None,
    decoder: str | None = None,
    decoder_variance: DecoderVariance = "beta_1",
    noise: NoiseSource | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Table:
    """``terms[i, j] = E KL(q(x_s|x_t,x0) ‖ p(x_s|x_t))`` for every pair of times s < t, and ``E[-log p(x0|x_t)]`` at s = 0.

    One network call a time serves all pairs that start there, since what was said about x_t does not depend on s.

    Args:
        times: n rising times above 0.

    Returns:
        nats per sample averaged over x0, float64 (n + 1, n + 1), for times (0, *times): row s, column t, +inf where s >= t.

    Raises:
        ValueError: for times that do not rise, and for ``decoder_variance="ho20"``, which is no matter of one pair.
    """
    process, x0 = denoiser.process, precise(x0)
    if not len(x0):
        raise ValueError("the terms are averages over data, and need at least one sample")
    if decoder_variance == "ho20":
        raise ValueError(
            'the decoder "ho20" depends on the next time of the chain, which is yet to be found: use "beta_1"'
        )
    noise = NoiseSource(0, range(len(x0)), x0.device) if noise is None else noise
    path = torch.cat([torch.zeros(1, dtype=torch.float64), torch.as_tensor(times, dtype=torch.float64).cpu()])
    if not bool((path.diff() > 0).all()):
        raise ValueError("the times of a chain must rise from above 0")
    terms = torch.full((len(path), len(path)), torch.inf, dtype=torch.float64)
    for j in range(1, len(path)):
        time = path[j].to(x0.device).expand(len(x0))
        # The same noise at every time: with other draws at each the search would find the luckiest times, not the best.
        x_t = process.marginal(x0, time).draw(noise, "bound terms")
        prediction = denoiser.predict(x_t, time, condition)
        terms[0, j] = decoder_nats(prediction, x0, decoder, decoder_variance).mean()
        for i in range(1, j):
            terms[i, j] = step_nats(prediction, x0, path[i].to(x0.device).expand(len(x0))).mean()
        if progress:
            progress(j, len(path) - 1)
    return terms


def shortest_chain(terms: Table, steps: int) -> list[int]:
    """The cheapest path of exactly so many steps from the last place down to place 0: its places but 0, rising.

    Args:
        terms: (n + 1, n + 1), the cost of the step from place j (column) down to place i (row), as of :func:`bound_terms`.

    Raises:
        ValueError: when there are more steps than places to step from, or no chain of so many has a finite cost.
    """
    n = len(terms) - 1
    if not 1 <= steps <= n:
        raise ValueError(f"there are {n} times to choose from, so a chain has 1 to {n} steps, not {steps}")
    cost = torch.full((n + 1,), torch.inf, dtype=torch.float64)
    cost[0] = 0
    came_from = []
    for _ in range(steps):
        # cost[j] after one more step: the best place i below j to have come from.
        cost, origin = (cost[:, None] + terms).min(0)
        came_from.append(origin)
    if not bool(cost[n] < torch.inf):
        raise ValueError(
            f"no chain of {steps} steps has a finite bound: choose among other times, or a denoiser less sure"
        )
    chain, place = [], n
    for origin in reversed(came_from):
        chain.append(place)
        place = int(origin[place])
    return chain[::-1]


def best_times(
    denoiser: DenoiserBase,
    x0: Data,
    steps: int,
    *,
    candidates: Sequence[int | float] | None = None,
    **options: object,
) -> list[float]:
    """The K times, rising to T, whose chain has the lowest bound on this data among chains through the candidates.

    Args:
        steps: K.
        candidates: rising times up to T to choose from; by default 64 whole ones (K, where that is more), closer
            together at the start, where the terms are largest.
        options: as of :func:`bound_terms`.
    """
    T = denoiser.process.T
    times = list(candidates) if candidates is not None else candidate_times(T, steps)
    if not times or times[-1] != T:
        raise ValueError(f"the candidates must rise to T = {T}")
    terms = bound_terms(denoiser, x0, times, **options)  # pyright: ignore[reportArgumentType]
    return [times[place - 1] for place in shortest_chain(terms, steps)]


def candidate_times(T: int, steps: int) -> list[float]:
    """The times that :func:`best_times` chooses from: 64 whole ones, or as many as there are steps, from 1 to T.

    As far as whole times allow it they are squares of evenly spaced numbers.
    """
    most = min(max(CANDIDATES, steps), T)
    wanted = (torch.linspace(0, 1, most, dtype=torch.float64) ** 2 * (T - 1) + 1).round().tolist() if most > 1 else [T]
    times: list[float] = []
    for t in wanted:
        times.append(max(float(t), times[-1] + 1) if times else float(t))
    return times
