"""Draws AUC and accuracy against device RAM from the figures of the learning bench.

python tests/bench/learning.py ... --json figures.json
python tests/bench/ram_plot.py figures.json docs/learning-ram.svg
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from kilotune.report.svg import CHAR, Plot, padded

PANELS = {
    "P3": "P3, another machine: AUC",
    "P3s": "P3s, the same with 32 windows: AUC",
    "F": "F, fan: AUC",
    "P4": "P4, nine faults: accuracy",
}
WIDTH, HEIGHT = 460.0, 300.0
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#222}.tick{fill:#555}.grid{stroke:#ddd}.axis{stroke:#444}"
    ".front{fill:none;stroke:#bbb;stroke-width:1.5}.dots{fill:none;stroke-linecap:round}"
    ".fixed{stroke:#e08214}.part{stroke:#2a6fb0}.search{stroke:#1b7837}</style>"
)
GROUPS = {"lora": "part", "channels": "part", "search, half": "search", "search, whole": "search"}


def panel(title: str, points: dict[str, tuple[float, float]]) -> str:
    plot = Plot(WIDTH, HEIGHT, left=56.0, right=16.0, top=30.0)
    rams, values = [p[0] for p in points.values()], [p[1] for p in points.values()]
    x = plot.x_scale(*padded(min(rams), max(rams), 0.12))
    y = plot.y_scale(*padded(min(values), max(values), 0.12))
    plot.axes(x, y, "device RAM, bytes", "")
    plot.text(plot.x0, 18, title, "label")
    highest, front = -1.0, []
    for ram, value in sorted(points.values(), key=lambda p: (p[0], -p[1])):
        if value > highest:
            highest = value
            front.append((x(ram), y(value)))
    plot.path(front, "front")
    taken: list[tuple[float, float, float]] = []
    for row, (ram, value) in sorted(points.items(), key=lambda item: -item[1][1]):
        plot.dots([(x(ram), y(value))], GROUPS.get(row, "fixed"), 4.0)
        width = CHAR * len(row)
        left = x(ram) + 7 if x(ram) + 7 + width < plot.x1 else x(ram) - 7 - width
        heights = (y(value) + 4 + step for k in range(20) for step in (13.0 * k, -13.0 * k))
        place = next(
            h
            for h in heights
            if plot.y1 <= h <= plot.y0
            and all(left > end or left + width < start or abs(h - at) >= 13 for start, end, at in taken)
        )
        taken.append((left, left + width, place))
        plot.text(left, place, row)
    return plot.svg(title, "panel")


def main() -> None:
    figures = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    found: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for f in figures:
        if f["ram_bytes"]:
            found[f["protocol"]][f["row"]].append((f["ram_bytes"], f["auc"]))
    parts = []
    for k, (protocol, title) in enumerate(PANELS.items()):
        points = {row: tuple(np.mean(v, 0)) for row, v in found[protocol].items()}
        svg = panel(title, points).replace("<svg ", f'<svg x="{k % 2 * WIDTH}" y="{k // 2 * HEIGHT}" ', 1)
        parts.append(svg.replace('class="panel"', f'class="panel" width="{WIDTH}" height="{HEIGHT}"', 1))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH:g} {2 * HEIGHT:g}">'
    Path(sys.argv[2]).write_text(f"{head}{STYLE}{''.join(parts)}</svg>\n", encoding="utf-8")


if __name__ == "__main__":
    main()
