"""The report's figures: film strips as pictures, curves as SVG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from PIL import Image

from unstir.data import Split, contact_sheet
from unstir.noise import NoiseSource
from unstir.runs import Model

Points = Sequence[tuple[float, float]]


def forward_film(model: Model, split: Split, rows: int = 4, frames: int = 11, seed: int = 0) -> Image.Image:
    """Each row one held-out picture on its way to noise: x_t at evenly spaced t, the same noise all along the row."""
    x0 = model.inside(np.asarray(split.x[:rows]))
    noise = NoiseSource(seed, range(rows), x0.device).normal(model.spec.shape, "forward film")
    times = torch.linspace(0, model.denoiser.process.T, frames).tolist()
    seen = [model.spec.levels(model.outside(model.denoiser.process.marginal(x0, t).sample(noise))) for t in times]
    return _strip(seen)


def reverse_film(
    model: Model, rows: int = 4, steps: int = 20, frames: int = 11, seed: int = 0
) -> tuple[Image.Image, Image.Image]:
    """Each row one sample on its way from noise: x_t, and the x0 that was predicted from it."""
    walked, predicted = [], []
    for _, x, x0 in model.film(rows, steps=steps, seed=seed):
        walked.append(model.spec.levels(x))
        predicted.append(model.spec.levels(x0))
    places = np.linspace(0, len(walked) - 1, min(frames, len(walked))).round().astype(int)
    return _strip([walked[i] for i in places]), _strip([predicted[i] for i in places])


def embedded(image: Image.Image, alt: str) -> str:
    """An image inside the page itself."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}">'


def curves(series: dict[str, Points], x_title: str, y_title: str, *, log_y: bool = False) -> str:
    """Up to two curves as SVG, with a key; on a logarithmic axis where that was asked for and every y is positive."""
    series = {name: [p for p in points if math.isfinite(p[1])] for name, points in series.items()}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return "<p class='soft'>nothing was recorded</p>"
    log_y = log_y and all(y > 0 for points in series.values() for _, y in points)
    width, height, left, bottom = 640.0, 240.0, 56.0, 34.0
    xs = [x for points in series.values() for x, _ in points]
    ys = [math.log10(y) if log_y else y for points in series.values() for _, y in points]
    low_x, high_x, low_y, high_y = min(xs), max(xs), min(ys), max(ys)
    span_x, span_y = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        y = math.log10(y) if log_y else y
        return left + (x - low_x) / span_x * (width - left - 8), 8 + (high_y - y) / span_y * (height - bottom - 8)

    parts = [
        f'<svg viewBox="0 0 {width:g} {height + 8:g}" role="img" aria-label="{escape(y_title)} against {escape(x_title)}">'
    ]
    for share in (0.0, 0.5, 1.0):
        y = low_y + share * span_y
        value = 10**y if log_y else y
        _, py = place(low_x, value)
        parts.append(f'<line class="axis" x1="{left:g}" x2="{width - 8:g}" y1="{py:.1f}" y2="{py:.1f}"/>')
        parts.append(f'<text x="{left - 6:g}" y="{py + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        x = low_x + share * span_x
        anchor = ("start", "middle", "end")[round(2 * share)]
        parts.append(f'<text x="{place(x, value)[0]:.1f}" y="{height - 12:g}" text-anchor="{anchor}">{x:,.0f}</text>')
    parts.append(f'<text x="{(left + width) / 2:g}" y="{height + 4:g}" text-anchor="middle">{escape(x_title)}</text>')
    for points, style in zip(series.values(), ("a", "b")):
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(x, y) for x, y in points))
        parts.append(f'<polyline class="line {style}" points="{path}"/>')
    key = " · ".join(f'<span class="key {style}">{escape(name)}</span>' for name, style in zip(series, ("a", "b")))
    return f"{''.join(parts)}</svg><figcaption>{escape(y_title)}: {key}</figcaption>"


def _strip(frames: list[np.ndarray]) -> Image.Image:
    """Frames (N, H, W, C) from left to right, one row for each of the N."""
    rows = np.stack(frames, axis=1)
    return contact_sheet(rows.reshape(-1, *rows.shape[2:]), columns=len(frames))
