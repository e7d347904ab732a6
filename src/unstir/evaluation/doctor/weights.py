"""Looks at weights: whether they are numbers, and whether the averaged ones have followed the raw ones."""

from __future__ import annotations

import torch
from torch import Tensor

from unstir.averaging import gamma_of
from unstir.errors import UserError
from unstir.evaluation.doctor.evidence import Evidence
from unstir.evaluation.doctor.findings import Finding, Gain, Look
from unstir.runs import Model, load


def finite(evidence: Evidence) -> Look:
    """Whether every weight is a number. One that is none makes every answer none, and pictures black."""
    kinds: dict[str, Model] = {evidence.model.weights: evidence.model}
    if evidence.raw is not None:
        kinds["raw"] = evidence.raw
    if evidence.run is not None and evidence.raw is not None and evidence.run.model.exists():
        try:
            kinds[evidence.run.model.name] = load(evidence.run.model)
        except UserError:
            return _unreadable(evidence)
    bad: dict[str, list[str]] = {}
    numbers = 0
    for kind, model in kinds.items():
        tensors = dict(model.denoiser.network.named_parameters())
        numbers += sum(value.numel() for value in tensors.values())
        names = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
        if names:
            bad[kind] = names
    figures = {"weights": list(kinds), "numbers": numbers, "not_finite": bad}
    if not bad:
        return Look("weights", f"{numbers:,} weights ({', '.join(kinds)}), all finite", figures)
    kind, names = next(iter(bad.items()))
    kinds_said = " and ".join(bad)
    others = f" and {len(names) - 1} others" if len(names) > 1 else ""
    well = [other for other in kinds if other not in bad]
    advice = (
        f"the {well[0]} weights are whole: use these (--weights {well[0]}), and train again from an earlier checkpoint"
        if "raw" in well or "ema" in well
        else "delete the newest folder under checkpoints, so that the same train line goes on from the one before it"
    )
    finding = Finding(
        "weights-not-finite",
        f"the {kinds_said} weights hold NaN or infinity ({names[0]}{others}): everything that is drawn from them is black or noise",
        f"{advice}; with optimiser.learning_rate halved, or --precision fp32",
        figures,
    )
    return Look("weights", f"not finite: {kinds_said}", figures, finding)


def _unreadable(evidence: Evidence) -> Look:
    assert evidence.run is not None
    figures = {"file": evidence.run.model.name}
    text = f"{evidence.run.model.name} cannot be read as a model, though the checkpoints can"
    advice = "repeat the train line, which writes it again"
    return Look("weights", text, figures, Finding("model-unreadable", text, advice, figures))


def averages(evidence: Evidence) -> Look | None:
    """Whether the averaged weights are as good as the raw ones.

    If weights went straight from their beginning w_0 to w_n, the average would stand at ``w_0 + m (w_n - w_0)``, with m the
    middle of its profile, ``m = (gamma + 1) / (gamma + 2)`` (Karras et al. 2024, eq. 123), and so it would on average if they went
    by chance, as ``E <w_i, w_n> = E |w_i|²`` of a random walk. Where it stands is found by projection,
    ``c = <ema - w_0, w - w_0> / |w - w_0|²``. An average of which twice ``1 - m`` is still w_0, and whose loss is surely larger than
    that of the raw weights, is too young.
    """
    raw, errors = evidence.raw, evidence.raw_errors
    if raw is None or errors is None:
        return None
    gain = Gain.of(evidence.errors_of(evidence.model.denoiser), errors)
    learned = Gain.of(evidence.initial_errors, errors).fall
    left = _initial_share(evidence, raw)
    expected = _expected_share(evidence.model.config.ema_width)
    figures = {
        "loss_ema": gain.before, "loss_raw": gain.after, "half": gain.half,
        "initial_share": left, "initial_share_at_most": expected,
    }  # fmt: skip
    said = f"held-out loss {gain.before:.4f} averaged, {gain.after:.4f} raw; {max(left, 0):.0%} of the average is initial weights"
    # Of what raw weights have learned the averaged ones must have lost as much as is worth a sentence, too.
    if not gain.certain or gain.fall - gain.half < 0.1 * learned:
        return Look("averages", said, figures)
    if left > 2 * expected:
        finding = Finding(
            "ema-too-young",
            f"the averaged (EMA) weights are too young: {left:.0%} of them is still what training began with, and their "
            f"held-out loss is {gain.before:.3f} where the raw weights have {gain.after:.3f}",
            "sample with --weights raw for now, and train longer, or anew with a smaller ema_width, whose memory is shorter",
            figures,
        )
    else:
        finding = Finding(
            "ema-worse",
            f"the averaged (EMA) weights are worse than the raw ones: held-out loss {gain.before:.3f} against {gain.after:.3f}",
            "sample with --weights raw; if the run was stopped while it learned fast, continue it and the average catches up",
            figures,
        )
    return Look("averages", said, figures, finding)


def _expected_share(width: float) -> float:
    """``1 - m = 1 / (gamma + 2)`` for a profile of this width, ``width² = (g + 1) / ((g + 2)² (g + 3))``."""
    return 1 / (gamma_of(width) + 2)


def _initial_share(evidence: Evidence, raw: Model) -> float:
    """``1 - c``: what part of the averaged weights is still the beginning."""
    begin = _flat(denoiser_parameters(evidence.initial))
    moved = _flat(denoiser_parameters(raw.denoiser)) - begin
    followed = _flat(denoiser_parameters(evidence.model.denoiser)) - begin
    return 1 - float(followed @ moved / (moved @ moved).clamp(min=1e-30))


def denoiser_parameters(denoiser: torch.nn.Module) -> list[Tensor]:
    return [p.detach().double().cpu() for p in denoiser.parameters()]


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors])
