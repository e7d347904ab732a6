"""Inpainting by multiplying with a point, as in figure 5 of [SD15]: a hole in a picture, filled by the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unstir import editing
from unstir.reproduce import pictures
from unstir.reproduce.experiment import Measured, Setting, Variant, trained
from unstir.reproduce.pictures import dataset, variants
from unstir.reproduce.plots import figure, strips
from unstir.reproduce.table import Figure, Row, Table
from unstir.runs import Model
from unstir.samplers import Grid

__all__ = ["TITLE", "dataset", "measure", "report", "variants"]

TITLE = "Inpainting a hole of half the side: error inside it, in standard deviations of the data, and at its border"

METHODS = {
    "r constant [SD15]": "constant",
    "noised to the step": "renoised",
    "carried along": "carried",
    "on x0, all that is known of it": "observed",
}
RULES = 2  # since 2: filled on x0 too
FILLED, SEAM = "error inside", "jump at the border / elsewhere"


def hole(x0: Tensor) -> Tensor:
    """True where pixels are missing: the middle half of each side, bool (1, 1, H, W)."""
    mask = torch.zeros(1, 1, *x0.shape[-2:], dtype=torch.bool)
    h, w = x0.shape[-2:]
    mask[..., h // 4 : h - h // 4, w // 4 : w - w // 4] = True
    return mask


def filled(model: Model, x0: Tensor, steps: int) -> dict[str, Tensor]:
    """What each method puts into the hole; what is known comes back as it was."""
    grid = Grid.uniform(model.denoiser.process.schedule, steps)
    known = ~hole(x0)
    return {name: editing.inpaint(model.denoiser, x0, known, grid, method=m) for name, m in METHODS.items()}


def seam(x: Tensor, mask: Tensor) -> float:
    """Root mean square jump between neighbours across the hole's border, as a share of that between all other neighbours."""
    crossing, others = [], []
    for axis in (-1, -2):
        jump = x.diff(dim=axis).square()
        across = (mask.int().diff(dim=axis) != 0).expand_as(jump)
        crossing.append(jump[across])
        others.append(jump[~across])
    return float((torch.cat(crossing).mean() / torch.cat(others).mean()).sqrt())


def measure(model: Model, dataset: Any, variant: Variant, setting: Setting) -> Measured:
    x0 = pictures.clean(model, dataset, variant)
    mask, measured = hole(x0), {}
    for name, x in filled(model, x0, variant.facts["steps"]).items():
        measured |= {f"{FILLED}: {name}": pictures.error(x, x0, mask), f"{SEAM}: {name}": seam(x, mask)}
    return measured | {f"{SEAM}: real": seam(x0, mask)}


def report(measured: dict[str, list[Measured]], folder: Path, setting: Setting) -> Table:
    rows = []
    for kind, figures in measured.items():
        rows.append(Row(f"{kind}: real", {SEAM: Figure.over([seed[f"{SEAM}: real"] for seed in figures])}))
        for name in METHODS:
            columns = {
                column: Figure.over([seed[f"{column}: {name}"] for seed in figures]) for column in (FILLED, SEAM)
            }
            rows.append(Row(f"{kind}: {name}", columns))
    return Table(
        "inpaint",
        TITLE,
        (FILLED, SEAM),
        rows,
        [
            "A hole has no one right filling: two draws of the truth would differ by √2 of what is uncertain, so error alone does not",
            "rank methods; the jump at the border says whether the filling knows of what is around it (real pictures: the first row).",
            "The last method multiplies p(x0 | x_t), read as a Gaussian of the network's own covariance, so that what is known tells",
            "the rest of the picture; the others hold the known part in place and leave it to the network to notice.",
        ],
        [str(_pictures(folder, setting))],
        seeds=setting.seeds,
    )


def _pictures(folder: Path, setting: Setting) -> Path:
    path = folder / "inpaint.png"
    kinds = variants(setting)
    with figure(path, 1, len(kinds), size=(5.2, 4.2)) as axes:
        for axis, variant in zip(axes[0], kinds):
            model = trained(folder, variant)
            x0 = pictures.clean(model, pictures.own(variant), variant)[: pictures.SHOWN]
            made = filled(model, x0, variant.facts["steps"])
            shown = [x0, x0.masked_fill(hole(x0), float(x0.amin())), *made.values()]
            strips(
                axis, pictures.frames(shown), ["x0", "known", "[SD15]", "noised", "carried", "on x0"], [""] * len(x0)
            )
    return path
