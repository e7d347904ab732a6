"""A look at labels: whether the network listens to them."""

from __future__ import annotations

from dataclasses import replace

import torch

from unstir.evaluation.doctor.evidence import Evidence
from unstir.evaluation.doctor.findings import Finding, Gain, Look


def use(evidence: Evidence) -> Look | None:
    """Whether held-out items are denoised better with their own class than with another item's.

    Something is wrong only where classes tell something: where the mean of its class surely stands nearer to a held-out item than the
    mean of all. With noise in everything those two means are all that a network can say.
    """
    given = evidence.heldout
    if given.condition is None or given.condition.label is None or len(evidence.model.spec.classes) < 2:
        return None
    label = given.condition.label
    others = label.roll(1)
    # Items come spread over the data, often class by class: a neighbour may be of the same class, one further on is not.
    for places in range(2, len(label)):
        same = others == label
        if not bool(same.any()):
            break
        others = torch.where(same, label.roll(places), others)
    at = evidence.high
    right = evidence.errors[at]
    false = replace(given.condition, label=others)
    wrong = evidence.errors_of(evidence.subject.denoiser, at=at, condition=false)
    gain, told = Gain.of(wrong, right), _told(evidence)
    figures = {
        "own": gain.after,
        "other": gain.before,
        "half": gain.half,
        "dropout": evidence.model.config.label_dropout,
    }
    said = f"loss at high noise {gain.after:.4f} with items' own classes, {gain.before:.4f} with others'"
    if told is None or not told.certain or gain.fall - gain.half > 0:
        return Look("labels", said, figures)
    dropped = evidence.model.config.label_dropout
    finding = Finding(
        "labels-unused",
        f"the network does not listen to labels: held-out items are denoised no better with their own class ({gain.after:.3f}) than "
        f"with another ({gain.before:.3f}), though the classes' means differ",
        f"train anew with label_dropout 0.1 in place of {dropped:g}"
        if dropped > 0.5
        else "train longer, then use --guidance 2",
        figures | {"class_means": told.to_json()},
    )
    return Look("labels", said, figures, finding)


def _told(evidence: Evidence) -> Gain | None:
    """Held-out items' square distances from the mean of all training items, and from that of their class."""
    if not evidence.real or evidence.training.condition is None or evidence.training.condition.label is None:
        return None
    split = evidence.dataset.train
    items = evidence.known.items.flatten(1).double()
    assert split.labels is not None
    labels = torch.from_numpy(split.labels[split.spread(len(items))])
    middle = items.mean(0)
    means = torch.stack(
        [
            items[labels == k].mean(0) if bool((labels == k).any()) else middle
            for k in range(len(evidence.model.spec.classes))
        ]
    )
    given = evidence.heldout
    assert given.condition is not None
    assert given.condition.label is not None
    x0 = given.x0.flatten(1).double().cpu()
    own = means[given.condition.label.cpu()]
    return Gain.of((x0 - middle).square().mean(1)[None], (x0 - own).square().mean(1)[None])
