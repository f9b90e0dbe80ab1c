"""The memory plan of an image as an SVG file: time to the right, addresses upwards, a box for each buffer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilotune.report.svg import CHAR, Plot

if TYPE_CHECKING:
    from kilotune.image.image import Image
    from kilotune.image.memory import Piece

WIDTH, HEIGHT = 900.0, 520.0
KINDS = {
    "data": "activation",
    "mask": "pass mask",
    "gradient": "gradient",
    "scratch": "scratch",
    "backward": "scratch, backward",
}
COLOURS = {"data": "#4e79a7", "mask": "#b07aa1", "gradient": "#e15759", "scratch": "#76b7b2", "backward": "#f28e2b"}
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#222}.tick{fill:#555}.grid{stroke:#eee}.axis{stroke:#444}"
    ".box{stroke:#fff;stroke-width:0.7}.in{fill:#fff;font-size:10px}.peak{fill:none;stroke:#222;stroke-width:1.5}"
    ".turn{stroke:#444;stroke-dasharray:4 4}" + "".join(f".{k}{{fill:{c}}}" for k, c in COLOURS.items()) + "</style>"
)


def alive_bytes(pieces: tuple[Piece, ...]) -> dict[int, int]:
    """Bytes in use at each step; overlapping pieces count once."""
    steps = range(min(p.first for p in pieces), max(p.last for p in pieces) + 1)
    return {s: sum(e - b for b, e in _merged([p for p in pieces if p.first <= s <= p.last])) for s in steps}


def _merged(pieces: list[Piece]) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for begin, end in sorted((p.offset, p.offset + p.size) for p in pieces):
        if spans and begin <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((begin, end))
    return spans


def memory_plan(image: Image) -> str:
    """One column per step: the input, the ops forward, the loss, the ops backward with the ops that run again."""
    pieces, ops = image.memory, len(image.layers)
    plot = Plot(WIDTH, HEIGHT, left=64.0, right=16.0, top=44.0)
    first, last = -1, max([ops, *(p.last for p in pieces)])
    x = plot.x_scale(first, last + 1)
    y = plot.y_scale(0.0, max(image.arena_bytes, 1))
    for tick in y.ticks(8):
        plot.line(plot.x0, y(tick), plot.x1, y(tick), "grid")
        plot.text(plot.x0 - 7, y(tick) + 4, f"{tick:,.0f}", "tick", "end")
    for p in pieces:
        _box(plot, p, x(p.first), x(p.last + 1), y(p.offset + p.size), y(p.offset), image)
    _steps(plot, image, last, x)
    used = alive_bytes(pieces)
    line = [point for s, n in used.items() for point in ((x(s), y(n)), (x(s + 1), y(n)))]
    plot.path(line, "peak")
    at = plot.x0
    for kind in KINDS:
        if any(p.key.split()[0] == kind for p in pieces):
            plot.rect(at, 12, 11, 11, f"box {kind}")
            plot.text(at + 16, 22, KINDS[kind])
            at += 30 + CHAR * len(KINDS[kind])
    plot.line(at, 18, at + 16, 18, "peak")
    plot.text(at + 22, 22, f"in use, at most {max(used.values()):,} of {image.arena_bytes:,} bytes")
    svg = plot.svg("Memory plan: time by address", "plan")
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{STYLE}", 1) + "\n"


def _box(plot: Plot, p: Piece, left: float, right: float, top: float, bottom: float, image: Image) -> None:
    kind = p.key.split()[0]
    title = f"{p.key}: {p.size:,} bytes from {p.offset:,}, steps {p.first} to {p.last}"
    plot.rect(left, top, right - left, bottom - top, f"box {kind}", title)
    if bottom - top >= 12 and right - left >= CHAR * len(p.key) * 0.9:
        plot.text((left + right) / 2, (top + bottom) / 2 + 4, p.key, "in", "middle")


def _numbers(image: Image) -> list[str]:
    """The op of each step from 0 on; an op that runs again for the backward pass has a plus."""
    ops = range(len(image.layers))
    found = [*map(str, ops), "loss"]
    for i in reversed(ops):
        found += [f"+{again}" for before, again in image.reruns if before == i]
        found.append(str(i))
    return found


def _steps(plot: Plot, image: Image, last: int, x: object) -> None:
    assert callable(x)
    ops = len(image.layers)
    every = max(1, (last + 2) // 30)
    names = {-1: "in", ops: "loss" if last > ops else "out"}
    numbers = dict(enumerate(_numbers(image)))
    for s in range(-1, last + 1):
        words = names.get(s, numbers.get(s, ""))
        if s not in names and (int(words) if words.isdigit() else 1) % every != 0:
            words = ""
        plot.text((x(s) + x(s + 1)) / 2, plot.y0 + 16, words, "tick", "middle")
    plot.line(x(ops), plot.y1, x(ops), plot.y0, "turn")
    plot.text((x(0) + x(ops)) / 2, plot.height - 8, "operators, forward", "label", "middle")
    if last > ops:
        plot.text((x(ops + 1) + x(last + 1)) / 2, plot.height - 8, "backward", "label", "middle")
    plot.line(plot.x0, plot.y0, plot.x1, plot.y0, "axis")
    plot.text(plot.x0 - 7, plot.y1 - 8, "bytes", "tick", "end")
