"""A small SVG writer: scales, ticks, axes with units. Colours are CSS classes of the page."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

CHAR = 6.7  # width of a character of the 12 px label font, rounded up


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [lo, hi] of the data to [a, b] of the picture, linearly or by logarithm."""

    lo: float
    hi: float
    a: float
    b: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            part = (math.log(max(value, self.lo)) - math.log(self.lo)) / (math.log(self.hi) - math.log(self.lo))
        else:
            part = (value - self.lo) / (self.hi - self.lo)
        return self.a + part * (self.b - self.a)

    def ticks(self, about: int) -> list[float]:
        return log_ticks(self.lo, self.hi, about) if self.log else linear_ticks(self.lo, self.hi, about)


def linear_ticks(lo: float, hi: float, about: int) -> list[float]:
    """Round values from lo to hi, near `about` of them."""
    if not hi > lo:
        return [lo]
    raw = (hi - lo) / max(1, about)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(lo / step - 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, math.floor(hi / step + 1e-9) + 1)]


def log_ticks(lo: float, hi: float, about: int) -> list[float]:
    """1, 2, 5 per decade, or 1 per decade if that is too many."""
    decades = range(math.floor(math.log10(lo)), math.ceil(math.log10(hi)) + 1)
    for mantissas in ((1, 2, 5), (1, 3), (1,)):
        found = [m * 10.0**d for d in decades for m in mantissas if lo * 0.999 <= m * 10.0**d <= hi * 1.001]
        if len(found) <= about + 2:
            return found
    return found[:: max(1, len(found) // max(1, about))]


def padded(lo: float, hi: float, share: float = 0.06) -> tuple[float, float]:
    """A range with room at both ends; never empty."""
    if not (math.isfinite(lo) and math.isfinite(hi)):
        return 0.0, 1.0
    if hi <= lo:
        return lo - 0.5, hi + 0.5
    room = (hi - lo) * share
    return lo - room, hi + room


def number(value: float) -> str:
    """Text of a tick: 20000 is 20k, 0.00001 is 1e-05."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:g}M"
    if size >= 1e4:
        return f"{value / 1e3:g}k"
    return f"{value:.6g}"


@dataclass(slots=True)
class Plot:
    """A picture with one pair of axes; coordinates are pixels, (0, 0) at the top left."""

    width: float
    height: float
    left: float = 52.0
    right: float = 14.0
    top: float = 14.0
    bottom: float = 44.0
    _parts: list[str] = field(default_factory=list)

    @property
    def x0(self) -> float:
        return self.left

    @property
    def x1(self) -> float:
        return self.width - self.right

    @property
    def y0(self) -> float:
        return self.height - self.bottom

    @property
    def y1(self) -> float:
        return self.top

    def x_scale(self, lo: float, hi: float, *, log: bool = False) -> Scale:
        return Scale(lo, hi, self.x0, self.x1, log)

    def y_scale(self, lo: float, hi: float, *, log: bool = False) -> Scale:
        return Scale(lo, hi, self.y0, self.y1, log)

    def add(self, part: str) -> None:
        self._parts.append(part)

    def text(self, x: float, y: float, words: str, css: str = "", anchor: str = "start") -> None:
        self.add(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self.add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>')

    def rect(self, x: float, y: float, w: float, h: float, css: str, title: str = "") -> None:
        tip = f"<title>{escape(title)}</title>" if title else ""
        self.add(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, w):.1f}" height="{max(0.0, h):.1f}" '
            f'class="{css}">{tip}</rect>'
        )

    def path(self, points: Sequence[tuple[float, float]], css: str, *, close: bool = False) -> None:
        if points:
            body = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
            self.add(f'<path d="M{body}{"Z" if close else ""}" class="{css}"/>')

    def dots(self, points: Sequence[tuple[float, float]], css: str, radius: float) -> None:
        """Many dots as one path: round caps on strokes of no length."""
        if points:
            body = "".join(f"M{x:.1f},{y:.1f}h0" for x, y in points)
            self.add(f'<path d="{body}" class="dots {css}" style="stroke-width:{2 * radius:g}"/>')

    def axes(self, x: Scale, y: Scale, x_label: str, y_label: str, *, y_ticks: bool = True) -> None:
        """Grid, ticks and labels; ticks are thinned until their texts do not touch."""
        about = max(2, int((self.x1 - self.x0) / 80))
        ticks = x.ticks(about)
        while len(ticks) > 2 and _crowded([x(t) for t in ticks], [number(t) for t in ticks]):
            ticks = ticks[::2]
        for t in ticks:
            self.line(x(t), self.y0, x(t), self.y1, "grid")
            self.text(x(t), self.y0 + 17, number(t), "tick", "middle")
        if y_ticks:
            for t in y.ticks(max(2, int((self.y0 - self.y1) / 48))):
                self.line(self.x0, y(t), self.x1, y(t), "grid")
                self.text(self.x0 - 7, y(t) + 4, number(t), "tick", "end")
        self.line(self.x0, self.y0, self.x1, self.y0, "axis")
        self.text((self.x0 + self.x1) / 2, self.height - 6, x_label, "label", "middle")
        middle = (self.y0 + self.y1) / 2
        self.add(
            f'<text class="label" text-anchor="middle" transform="translate(13 {middle:.1f}) rotate(-90)">'
            f"{escape(y_label)}</text>"
        )

    def svg(self, description: str, css: str) -> str:
        return (
            f'<svg class="{css}" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{escape(description, quote=True)}">{"".join(self._parts)}</svg>'
        )


def _crowded(places: list[float], texts: list[str]) -> bool:
    pairs = list(zip(places, texts, strict=True))
    return any(b - a < (len(s) + len(t)) / 2 * CHAR + 8 for (a, s), (b, t) in itertools.pairwise(pairs))
