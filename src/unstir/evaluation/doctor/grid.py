"""A look at how samples are drawn: where the walk begins, and what its steps leave of a law that is known."""

from __future__ import annotations

import math
from typing import Any

import torch

from unstir import samplers
from unstir.denoisers.oracles import GaussianMixtureDenoiser
from unstir.evaluation.doctor.evidence import Evidence
from unstir.evaluation.doctor.findings import Finding, Look
from unstir.schedules import PRIOR_KL_LIMIT

_AXES, _DRAWS = 8, 2_048
_LOST = 0.25
"""The share of contrast whose loss is a finding: black and white become dark and light grey."""


def grid(evidence: Evidence) -> Look:
    """Whether the run's own way of sampling begins in noise, and keeps the contrast of a normal law with the data's variances.

    Walks begin at a draw from the prior, as if that were x_t at the grid's first time: what is left of the data there is the prior's
    KL in closed form. The same solver on the same times then walks with the exact denoiser of a normal law, of which each of 8
    axes carries an eighth of the data's variance; whatever is missing from its variance at the end the steps have lost, since
    the denoiser is exact.
    """
    process, times, how = evidence.process, evidence.grid, evidence.how
    first = float(times.times[0])
    figures: dict[str, Any] = {
        "sampler": how.sampler,
        "steps": times.steps,
        "first": first,
        "last": float(times.times[-2]),
    }
    said = f"{how.walked}, from t = {first:g} by t = {figures['last']:.3g} to 0"
    if not evidence.real:
        return Look("grid", said, figures)
    schedule = process.schedule
    square = float(evidence.heldout.x0.double().square().mean())
    kl = schedule.prior_kl_bits(square, first)
    figures["prior_kl_bits"] = kl
    if kl > max(PRIOR_KL_LIMIT, 1.1 * schedule.prior_kl_bits(square)):
        left = math.sqrt(float(torch.sigmoid(schedule.log_snr(first))))
        finding = Finding(
            "grid-start",
            f"sampling begins at t = {first:g}, where {left:.1%} of the signal is left ({kl:.2g} bits/dim), as if all were noise: the "
            "chain it learned ends at a later time",
            f"let the times begin at T = {process.T}: sample with --spacing uniform, or delete sampling.json",
            figures,
        )
        return Look("grid", said, figures, finding)
    kept = _kept(evidence)
    if kept is None:
        return Look("grid", said, figures)
    figures["contrast_kept"] = kept
    said += f"; of a normal law's contrast it keeps {kept:.0%}"
    if abs(kept - 1) <= _LOST:
        return Look("grid", said, figures)
    text = (
        f"the sampler's steps are too few: with an exact denoiser {how.walked} would keep {kept:.0%} of the contrast, so samples are "
        + ("flat and blurred" if kept < 1 else "too strong")
    )
    advice = (
        "take more steps (--steps 20 or more), or let unstir bench solvers find the best way of sampling at this cost"
    )
    return Look("grid", said, figures, Finding("grid-coarse", text, advice, figures))


def _kept(evidence: Evidence) -> float | None:
    """The root of the share of a normal law's variance that the walk ends with; None of a law that has none."""
    fit = evidence.known.fit
    if fit is None:
        return None
    variances = torch.cat([fit.leading, torch.full((len(fit.middle) - fit.rank,), fit.rest, dtype=torch.float64)])
    reached = variances.cumsum(0) / variances.sum()
    places = torch.searchsorted(reached, (torch.arange(_AXES, dtype=torch.float64) + 0.5) / _AXES)
    chosen = variances[places.clamp(max=len(variances) - 1)]
    denoiser = evidence.subject.denoiser
    rule = denoiser.variance if denoiser.variance in ("small", "large") else "small"
    exact = GaussianMixtureDenoiser(
        evidence.process, torch.ones(1, dtype=torch.float64), torch.zeros(1, _AXES), torch.diag(chosen)[None], rule
    )
    walk = evidence.model.walk()
    drawn = samplers.sample(exact, walk.sampler, walk.grid, (_DRAWS, _AXES), seed=0).double()
    return math.sqrt(float((drawn.square().mean(0) / chosen).mean()))
