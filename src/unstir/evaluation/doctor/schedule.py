"""Looks at the schedule: whether the chain ends in noise, and whether the network learned with the times that it is told."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from unstir import processes, schedules
from unstir.denoisers.gaussian import Preconditioned
from unstir.errors import UserError
from unstir.evaluation import likelihood
from unstir.evaluation.doctor.evidence import Evidence, decibel
from unstir.evaluation.doctor.findings import Finding, Gain, Look
from unstir.processes import Process
from unstir.runs import config as configs
from unstir.runs import load
from unstir.schedules import VariancePreserving

_STEPS = 1000  # of the chain that most codes have


def end(evidence: Evidence) -> Look:
    """Whether at T nothing but noise is left: the bound's first term in bits/dim, and the signal-to-noise ratio.

    ``KL(q(x_T | x0) ‖ p(x_T))`` is in closed form; above 1e-3 bits/dim samples begin where training never was.
    """
    process, schedule, x0 = evidence.process, evidence.process.schedule, evidence.heldout.x0
    square = float(x0.double().square().mean())
    if evidence.real:
        kl = schedule.prior_kl_bits(square)
    else:
        prior = process.prior(x0.shape, x0.dtype if x0.is_floating_point() else torch.float32, x0.device)
        nats = process.marginal(x0, process.T).kl(prior).flatten(1).sum(1).mean()
        kl = float(nats) / (x0[0].numel() * math.log(2))
    with torch.no_grad():
        snr = float(schedule.log_snr(process.T).exp())
    figures = {"prior_kl_bits": kl, "terminal_snr_db": decibel(snr), "T": process.T}
    said = f"at T = {process.T} the prior KL is {kl:.2g} bits/dim, signal to noise {decibel(snr):.0f} dB"
    report = likelihood.prior_report(evidence.model, kl, square)
    if report is None:
        return Look("end of the chain", said, figures)
    text, _, advice = report.rpartition(": ")
    return Look("end of the chain", said, figures, Finding("schedule-end", text, f"{advice}, and train anew", figures))


def written(evidence: Evidence) -> Look | None:
    """Whether a run's configuration says the same of the chain as the model that its training wrote."""
    run = evidence.run
    if run is None or not run.model.exists():
        return None
    try:
        there = load(run.model).config
    except UserError:
        return None
    here = configs.read(run.config)
    told = {name: (getattr(there, name), getattr(here, name)) for name in ("schedule", "process", "prediction")}
    apart = {name: pair for name, pair in told.items() if pair[0] != pair[1]}
    figures = {name: {"trained": a, "now": b} for name, (a, b) in apart.items()}
    if not apart:
        return Look("configuration", f"{run.config.name} and {run.model.name} say the same of the chain", figures)
    name, (trained, now) = next(iter(apart.items()))
    finding = Finding(
        "schedule-mismatch",
        f"{run.config.name} was changed after training: its {name} is {_named(now)}, and {run.model.name} "
        f"was trained with {_named(trained)}",
        f"write {name} back as it was in {run.config.name}, or sample from {run.model}",
        figures,
    )
    return Look("configuration", finding.text, figures, finding, rest=0.0)


def times(evidence: Evidence) -> Look | None:
    """Whether the network answers best when told its own schedule's times, or surely better when told another one's.

    The noised items stay as they are; told is the time at which the other schedule has the same log-SNR. The loss of a network
    is least, level by level, with the times that it learned with. Another schedule is named where its times surely take a part of
    the loss away and lead below the beginning's loss: only then is something learned that the wrong times hid.
    """
    schedule, denoiser = evidence.process.schedule, evidence.subject.denoiser
    if not isinstance(schedule, VariancePreserving):
        return None
    if _told_noise(evidence):
        said = "the network is told the noise itself, not the time: any schedule suits it"
        return Look("times", said, {"told": "noise"})
    with torch.no_grad():
        log_snr = schedule.log_snr(torch.tensor([level.t for level in evidence.levels], dtype=torch.float64))
    others = _candidates(evidence, log_snr)
    figures: dict[str, Any] = {"own": schedule.describe(), "loss": Gain.of(evidence.errors, evidence.errors).after}
    tries: dict[str, float] = {}
    found: dict[str, tuple[Tensor, Gain, Gain]] = {}
    for name, t in others.items():
        after = evidence.errors_of(denoiser, told=t.tolist())
        gain, begun = (Gain.of(before, after, len(others)) for before in (evidence.errors, evidence.initial_errors))
        tries[name] = gain.after
        if gain.certain and begun.certain:
            found[name] = after, gain, begun
    figures["told_otherwise"] = tries
    said = f"held-out loss {figures['loss']:.4f} with its own times, " + (
        f"{min(tries.values()):.4f} with the best of {len(tries)} other schedules'" if tries else "no others to try"
    )
    if not found:
        return Look("times", said, figures)
    best, gain, begun = min(found.values(), key=lambda each: each[1].after)
    # Schedules that run alike where it counts cannot be told apart by their losses.
    alike = [name for name, (after, _, _) in found.items() if not Gain.of(after, best, len(others)).certain]
    named = " or ".join(alike)
    finding = Finding(
        "schedule-mismatch",
        f"the network learned with another schedule than it is sampled with: told the times of {named} its held-out loss is "
        f"{gain.after:.3f}, with those of {_named(schedule.describe())} {gain.before:.3f}",
        f"set schedule to what training had, {named}, or train anew with this one",
        figures | gain.to_json() | {"alike": alike},
    )
    return Look("times", said, figures, finding, rest=gain.after / begun.before)


def _told_noise(evidence: Evidence) -> bool:
    """Whether the network is told the same whatever the schedule calls a noise level's time."""
    return isinstance(evidence.subject.denoiser.parameterisation, Preconditioned)


def _candidates(evidence: Evidence, log_snr: Tensor) -> dict[str, Tensor]:
    """Times of other schedules at these log-SNR, by what they are called; left out are those that hardly differ."""
    config, own = evidence.model.config, evidence.process
    whole = evidence.subject.denoiser.whole_times or evidence.subject.denoiser.consecutive
    mine = torch.tensor([level.t for level in evidence.levels], dtype=torch.float64)
    found: dict[str, Tensor] = {}
    for name in ("linear_beta", "cosine", "inverse_time", "quadratic", "sigmoid_beta", "sigmoid_alpha_bar"):
        for steps in sorted({own.T, _STEPS}):
            of_1000 = name in ("linear_beta", "quadratic", "sigmoid_beta")
            described: dict[str, Any] = {"name": name, "T": steps}
            if of_1000 and steps != 1000:
                described = {"name": "rescaled", "of": {"name": name, "T": 1000}, "T": steps}
            try:
                process: Process = processes.from_description(config.process, schedules.from_description(described))
            except (ValueError, TypeError):
                continue
            t = process.schedule.time(log_snr).clamp(min=1e-3)
            t = t.round().clamp(min=1) if whole else t
            if whole and float(t.max()) > own.T:
                continue  # the network has no such time
            if float((t - mine).abs().max()) > 0.02 * max(own.T, steps):
                found[f"{name}, T = {steps}"] = t
    return found


def _named(described: dict[str, Any]) -> str:
    return ", ".join([str(described.get("name")), *(f"{k} = {v}" for k, v in described.items() if k != "name")])
