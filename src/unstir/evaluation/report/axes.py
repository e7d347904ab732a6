"""Curves as SVG on axes with round numbers, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

Points = Sequence[tuple[float, float]]

NOTHING = '<p class="soft">nothing was recorded</p>'
STYLES = ("a", "b", "c", "d")  # each its colour and its dashes: see the page's style sheet
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 360.0, 230.0, 48.0, 12.0, 26.0, 38.0
_ROOM = 0.04
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Curve:
    """What is drawn by one line.

    Args:
        points: (x, y), by rising x. half: half of an interval around each y. marks: whether each point has a dot.
        stairs: y holds from its own x to the next one's.
    """

    points: Points
    half: Sequence[float] = ()
    marks: bool = False
    stairs: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis, logarithmic where that was asked for and everything on it is positive."""

    title: str
    log: bool = False


class Scale:
    """Where values stand along an axis, 0 … 1, and the round values marked on it.

    Args:
        room: left free at either end, as a share of what the values take.
    """

    def __init__(self, values: Sequence[float], log: bool, room: float = 0.0) -> None:
        self.log = log and min(values) > 0
        seen = [self._at(value) for value in values]
        low, high = min(seen), max(seen)
        if high - low < 1e-9 * max(1.0, abs(high)):
            pad = abs(high) / 2 or 0.5
            low, high = (low - 0.15, high + 0.15) if self.log else (low - pad, high + pad)
        self.low, self.span = low - room * (high - low), (1 + 2 * room) * (high - low)

    def share(self, value: float) -> float:
        return (self._at(value) - self.low) / self.span

    def ticks(self, at_most: int) -> list[float]:
        """Round values within the axis, rising."""
        if self.log:
            decades = range(math.floor(self.low), math.ceil(self.low + self.span) + 1)
            for steps in ((1, 2, 5), (1, 3), (1,)):
                found = self._within([m * 10.0**d for d in decades for m in steps])
                if len(found) <= at_most:
                    break
            if len(found) > at_most:
                found = found[:: math.ceil(len(found) / at_most)]
            if len(found) >= 2:
                return found
            low, high = 10.0**self.low, 10.0 ** (self.low + self.span)
        else:
            low, high = self.low, self.low + self.span
        rough = (high - low) / at_most
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * (1 - 1e-9))
        first = math.ceil(low / step - 1e-9)
        return self._within([i * step for i in range(first, math.floor(high / step + 1e-9) + 1)])

    def _within(self, values: Sequence[float]) -> list[float]:
        return [v for v in values if -1e-6 <= self.share(v) <= 1 + 1e-6]

    def _at(self, value: float) -> float:
        return math.log10(value) if self.log else value


def plot(curves: Mapping[str, Curve], x: Axis, y: Axis, levels: Mapping[str, float] | None = None) -> str:
    """Up to four curves and levels as SVG, and beneath it the key; what is not finite is left out.

    Args:
        levels: horizontal lines by name, such as what real data score.
    """
    kept = {name: _finite(curve) for name, curve in curves.items()}
    kept = {name: curve for name, curve in kept.items() if curve.points}
    if not kept:
        return NOTHING
    drawn = [y for curve in kept.values() for _, y in curve.points]
    log = y.log and min(drawn) > 0
    lines = {name: v for name, v in (levels or {}).items() if math.isfinite(v) and (v > 0 or not log)}
    reach = [v + sign * h for curve in kept.values() for (_, v), h in zip(curve.points, curve.half) for sign in (-1, 1)]
    shown = [*drawn, *lines.values()]
    # On a logarithmic axis an interval is cut off beneath all that is drawn, since it may reach to 0.
    up = Scale([*shown, *(max(v, min(shown)) if log else v for v in reach)], log, room=_ROOM)
    across = Scale([v for curve in kept.values() for v, _ in curve.points], x.log)
    styles = dict(zip((*kept, *lines), STYLES, strict=False))
    parts = [*_frame(across, up, x, y)]
    for name, value in lines.items():
        h = _y(up, value)
        parts.append(f'<path class="line level {styles[name]}" d="M{_LEFT:g} {h:.1f}H{_WIDTH - _RIGHT:g}"/>')
    for name, curve in kept.items():
        parts += _drawn(curve, across, up, styles[name])
    title = escape(f"{y.title} against {x.title}")
    svg = f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{title}">{"".join(parts)}</svg>'
    return svg + _key(styles) if len(styles) > 1 else svg


def label(value: float) -> str:
    """A round number in few letters: 0.02, 1,000, 50k, 2M, 10⁻⁵."""
    size = abs(value)
    if value == 0:
        return "0"
    if size >= 1e9 or size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".")
        power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
        return power if mantissa == "1" else f"{mantissa.replace('-', '−')}·{power}"
    for limit, letter in ((1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e6 if letter == 'M' else 1e3):.4g}{letter}".replace("-", "−")
    return f"{value:,.4g}".replace("-", "−") if size < 1000 else f"{value:,.0f}".replace("-", "−")


def _finite(curve: Curve) -> Curve:
    halves = curve.half or [0.0] * len(curve.points)
    kept = [(p, h if math.isfinite(h) else 0.0) for p, h in zip(curve.points, halves) if all(map(math.isfinite, p))]
    return Curve([p for p, _ in kept], [h for _, h in kept] if curve.half else (), curve.marks, curve.stairs)


def _x(scale: Scale, value: float) -> float:
    return _LEFT + scale.share(value) * (_WIDTH - _LEFT - _RIGHT)


def _y(scale: Scale, value: float) -> float:
    return _TOP + (1 - scale.share(value)) * (_HEIGHT - _TOP - _BOTTOM)


def _frame(across: Scale, up: Scale, x: Axis, y: Axis) -> list[str]:
    bottom = _HEIGHT - _BOTTOM
    parts = [f'<text class="title" x="0" y="11">{escape(y.title)}</text>']
    for value in up.ticks(5):
        h = _y(up, value)
        parts.append(f'<path class="grid" d="M{_LEFT:g} {h:.1f}H{_WIDTH - _RIGHT:g}"/>')
        parts.append(f'<text x="{_LEFT - 6:g}" y="{h + 4:.1f}" text-anchor="end">{label(value)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT:g} {_TOP:g}V{bottom:g}H{_WIDTH - _RIGHT:g}"/>')
    for value in across.ticks(4):
        w = _x(across, value)
        parts.append(f'<path class="axis" d="M{w:.1f} {bottom:g}v4"/>')
        anchor = "end" if w > _WIDTH - _RIGHT - 8 else "middle"
        w = min(w + 8, _WIDTH) if anchor == "end" else w
        parts.append(f'<text x="{w:.1f}" y="{bottom + 16:g}" text-anchor="{anchor}">{label(value)}</text>')
    parts.append(
        f'<text class="title" x="{_WIDTH - _RIGHT + 8:g}" y="{_HEIGHT - 5:g}" text-anchor="end">{escape(x.title)}</text>'
    )
    return parts


def _drawn(curve: Curve, across: Scale, up: Scale, style: str) -> list[str]:
    places = [(_x(across, x), _y(up, y)) for x, y in curve.points]
    parts = []
    if curve.stairs:
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}" + "".join(f"H{w:.1f}V{h:.1f}" for w, h in places[1:])
    else:
        path = "M" + "L".join(f"{w:.1f} {h:.1f}" for w, h in places)
    parts.append(f'<path class="line {style}" d="{path}"/>')
    for (x, y), half in zip(curve.points, curve.half):
        low = max(y - half, 10.0**up.low) if up.log else y - half
        parts.append(f'<path class="bar {style}" d="M{_x(across, x):.1f} {_y(up, low):.1f}V{_y(up, y + half):.1f}"/>')
    if curve.marks or len(places) == 1:
        parts += [f'<circle class="mark {style}" cx="{w:.1f}" cy="{h:.1f}" r="3"/>' for w, h in places]
    return parts


def _key(styles: Mapping[str, str]) -> str:
    swatch = '<svg class="swatch" viewBox="0 0 24 8" aria-hidden="true"><path class="line {}" d="M0 4h24"/></svg>'
    names = (f'<span class="key {style}">{swatch.format(style)}{escape(name)}</span>' for name, style in styles.items())
    return f'<p class="keys">{" ".join(names)}</p>'
