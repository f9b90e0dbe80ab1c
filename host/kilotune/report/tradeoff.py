"""The trade-off found by a search as an SVG file: what training gains, over the RAM that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilotune.report.svg import CHAR, Plot, number, padded

if TYPE_CHECKING:
    from kilotune.compiler.search import Budget, Found

WIDTH, HEIGHT = 760.0, 420.0
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#222}.tick{fill:#555}.grid{stroke:#ddd}"
    ".axis{stroke:#444}.budget{stroke:#b00;stroke-dasharray:5 4}.front{fill:none;stroke:#2a6fb0;stroke-width:2}"
    ".dots{fill:none;stroke-linecap:round}.search{stroke:#2a6fb0}.fixed{stroke:#e08214}.best{stroke:#1b7837}"
    ".over{fill:#b00}</style>"
)


def tradeoff(found: Found, budget: Budget) -> str:
    """RAM to the right (logarithmic), gain upwards; a line joins the sets with a higher gain than all smaller ones."""
    plot = Plot(WIDTH, HEIGHT, left=58.0, right=24.0, top=30.0)
    points = found.points
    sizes = [p.ram_bytes for p in points] + [budget.ram_bytes]
    x = plot.x_scale(min(sizes) / 1.25, max(sizes) * 1.25, log=True)
    y = plot.y_scale(*padded(0.0, max(p.gain for p in points) * 100, 0.08))
    plot.axes(x, y, "arena, adapter and optimiser state, bytes", "held-out loss falls by, %")
    plot.line(x(budget.ram_bytes), plot.y0, x(budget.ram_bytes), plot.y1, "budget")
    plot.text(x(budget.ram_bytes), plot.y1 - 8, f"budget {number(budget.ram_bytes)}", "over", "middle")
    front: list[tuple[float, float]] = []
    highest = -1.0
    for p in points:
        if p.gain > highest:
            highest = p.gain
            front.append((x(p.ram_bytes), y(100 * p.gain)))
    plot.path(front, "front")
    searched = [p for p in points if p.name.startswith("search")]
    fixed = [p for p in points if not p.name.startswith("search")]
    for css, group, radius in (("search", searched, 4.0), ("fixed", fixed, 4.0), ("best", [found.best], 6.0)):
        plot.dots([(x(p.ram_bytes), y(100 * p.gain)) for p in group], css, radius)
    taken: list[tuple[float, float, float]] = []  # ends and height of texts
    for p in fixed:
        width = CHAR * len(p.name)
        left = x(p.ram_bytes) + 8 if x(p.ram_bytes) + 8 + width < plot.x1 else x(p.ram_bytes) - 8 - width
        drops = (14.0 * k for k in range(1, 20))
        height = next(
            h
            for h in (y(100 * p.gain) + drop for drop in drops)
            if all(left > end or left + width < start or abs(h - at) >= 13 for start, end, at in taken)
        )
        taken.append((left, left + width, height))
        plot.text(left, height, p.name)
    legend = (("search", "sets of the search"), ("fixed", "fixed methods"), ("best", "chosen"))
    for k, (css, words) in enumerate(legend):
        at = plot.x0 + 8 + 150 * k
        plot.dots([(at, plot.y1 - 12)], css, 4.0)
        plot.text(at + 9, plot.y1 - 8, words)
    return (
        plot.svg("Gain of training against RAM", "trade-off")
        .replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        .replace("</svg>", "</svg>\n")
        .replace(">", f">{STYLE}", 1)
    )
