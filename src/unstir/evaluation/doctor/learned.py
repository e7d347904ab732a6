"""A look at what the network has learned: its loss beside its beginning's, and beside what is known without any network."""

from __future__ import annotations

from typing import Any

from unstir.evaluation.doctor.evidence import Evidence
from unstir.evaluation.doctor.findings import MATERIAL, Finding, Gain, Look


def learned(evidence: Evidence) -> Look:
    """Whether held-out items are denoised better than by the network's beginning, and how far on the way to what yardsticks know.

    The room is the loss of the beginning less that of the yardsticks (at each level the best of: the normal law of the training
    items, ``E[x0 | x_t]`` of these items alone; of bits and symbols each place by its own frequencies). A network that takes a twin
    of the beginning's place has won nothing of it; one that has surely won less than half knows less than a formula.
    Where the room is not worth a sentence, as of points that are normal, the beginning was right and nothing is found.
    """
    begin, known = evidence.initial_errors, evidence.least_known
    here = evidence.errors
    room, won = Gain.of(begin, known), Gain.of(begin, here)
    share = won.fall / room.fall if room.fall > 0 else 1.0
    figures: dict[str, Any] = {
        "loss": won.after, "beginning": won.before, "known": room.after, "share": share, "half": won.half,
        "by_level": by_level(evidence),
    }  # fmt: skip
    said = f"held-out loss {won.after:.4f}; before training {won.before:.4f}, known without a network {room.after:.4f}"
    if not room.certain:
        return Look("learned", f"{said}: there is little to learn", figures)
    if -won.fall - won.half > MATERIAL:
        text = (
            f"the network is worse than before it was trained: held-out loss {won.after:.3g}, {won.before:.3g} at the beginning: "
            "the weights are damaged, of another configuration, or the training diverged"
        )
        advice = "train anew with optimiser.learning_rate halved; of weights from elsewhere check the configuration beside them"
        return Look("learned", said, figures, Finding("wrong", text, advice, figures))
    if won.below(0.1, room):
        text = (
            f"the network is untrained: held-out items are denoised no better than at the beginning (loss {won.after:.3f}, then "
            f"{won.before:.3f}; {room.after:.3f} is known without a network)"
        )
        return Look("learned", said, figures, Finding("untrained", text, _advice(evidence), figures))
    if won.below(0.5, room):
        text = (
            f"the network has learned too little: {share:.0%} of what is known without any network (held-out loss {won.after:.3f}, "
            f"{won.before:.3f} at the beginning, {room.after:.3f} known)"
        )
        return Look("learned", said, figures, Finding("undertrained", text, _advice(evidence), figures))
    formula = evidence.known_errors.get("Gaussian" if evidence.real else "marginals")
    behind = None if formula is None else Gain.of(here, formula)
    if behind is not None and behind.certain:
        text = (
            f"over all levels of noise the network still knows less than {_formula(evidence)} of the same data does (held-out loss "
            f"{behind.before:.3f}, {behind.after:.3f} by formula), so samples are grainy or faint"
        )
        return Look("learned", said, figures, Finding("undertrained", text, _advice(evidence), figures))
    return Look("learned", said, figures)


def _formula(evidence: Evidence) -> str:
    return "a normal law" if evidence.real else "each place by itself"


def high_noise(evidence: Evidence) -> Look | None:
    """Whether at high noise the network is at least as good as the normal law of the training items.

    There ``x_t`` shows little more than mean and covariance of the data, and the closed form ``m + alpha C (alpha² C + sigma²)^-1
    (x_t - alpha m)`` is nearly all that can be known; who is surely worse draws wrong colours and compositions.
    """
    places = evidence.high
    gaussian = evidence.known_errors.get("Gaussian" if evidence.real else "marginals")
    if gaussian is None or not places:
        return None
    gain = Gain.of(evidence.errors[places], gaussian[places])
    name = _formula(evidence)
    figures = {"loss": gain.before, "known": gain.after, "half": gain.half}
    said = f"loss at high noise {gain.before:.4f}; {name} {gain.after:.4f}"
    if not gain.certain:
        return Look("high noise", said, figures)
    text = (
        f"at high noise the network knows less than {name} of the same data does: loss {gain.before:.3f}, "
        f"{gain.after:.3f} by formula"
    )
    advice = _advice(evidence)
    if evidence.model.config.objective.get("name") == "simple":
        advice += '; the objective "edm", the presets\' own, counts high noise as much as low'
    return Look("high noise", said, figures, Finding("high-noise", text, advice, figures))


def by_level(evidence: Evidence) -> list[dict[str, float]]:
    """The table behind: at each level the time, the noise, and all losses."""
    rows = []
    for i, level in enumerate(evidence.levels):
        row = {"t": level.t, "noise": level.noise, "loss": float(evidence.errors[i].mean())}
        if evidence.raw_errors is not None:
            row["raw"] = float(evidence.raw_errors[i].mean())
        row["beginning"] = float(evidence.initial_errors[i].mean())
        rows.append(row | {name: float(errors[i].mean()) for name, errors in evidence.known_errors.items()})
    return rows


def _advice(evidence: Evidence) -> str:
    seen = evidence.subject.images
    return f"train longer: it has seen {seen:,} images" if seen else "train it, or load the weights of the trained run"
