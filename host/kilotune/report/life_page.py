"""A life as one picture: score, threshold, phases, drift, anchor and alarms, record by record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template

from kilotune.report.charts import both
from kilotune.report.svg import Plot, Scale, padded
from kilotune.version import __version__


@dataclass(frozen=True, slots=True)
class Beat:
    """One record; all in log2."""

    score: float | None
    limit: float
    distance: float | None
    watched: bool
    alarm: bool
    phases: int
    drift: float | None


@dataclass(frozen=True, slots=True)
class LifeData:
    title: str
    subtitle: str
    story: tuple[str, ...]
    beats: tuple[Beat, ...]
    healthy: int  # records that are taken for healthy
    anchor: float  # log2 from the anchor that is an alarm
    header: tuple[str, ...]  # of the table
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def render_life(data: LifeData) -> str:
    """The whole page as HTML; it refers to no other file."""
    template = Template(resources.files("kilotune.report").joinpath("template.html").read_text(encoding="utf-8"))
    return template.substitute(
        version=escape(__version__),
        title=escape(data.title),
        subtitle=f'<p class="sub">{escape(data.subtitle)}</p>',
        story=f'<p class="story">{escape(" ".join(data.story))}</p>',
        tiles="",
        sections=_picture(data) + _table(data) + _notes(data),
    )


def _picture(data: LifeData) -> str:
    key = (
        '<ul class="key"><li><i style="background:var(--healthy)"></i>record</li>'
        '<li><i style="background:var(--fault)"></i>record while there is an alarm</li>'
        '<li><i class="line"></i>what it is alarmed above</li>'
        '<li><i style="background:var(--learned)"></i>distance from the anchor</li>'
        '<li><i style="background:var(--before)"></i>drift before each phase</li>'
        '<li><i style="background:var(--learn-bg)"></i>not watched yet</li></ul>'
    )
    about = (
        "Each dot is the median score of a record above what the last phase held back; grey lines are phases, in which "
        "the device learned. The lower picture has the distance from the anchor, what the device had learned when it "
        f"settled: {data.anchor:g} log2 from it is an alarm, whatever has been learned since."
    )
    body = both(_scores, data) + both(_distances, data)
    return f'<section><h2>The life</h2><p class="about">{escape(about)}</p>{body}{key}</section>'


def _scores(data: LifeData, width: float, css: str) -> str:
    plot = Plot(width, 320 if css == "wide" else 280)
    beats = data.beats
    shown = [b.score for b in beats if b.score is not None] + [b.limit for b in beats if b.watched]
    x, y = _scales(plot, len(beats), shown or [0.0])
    _ground(plot, data, x)
    plot.axes(x, y, "record", "score, log2")
    for wanted, name in ((False, "healthy"), (True, "fault")):
        dots = [(x(t), y(b.score)) for t, b in enumerate(beats) if b.score is not None and b.alarm is wanted]
        plot.dots(dots, name, 2.0)
    for part in _runs([b.limit if b.watched else None for b in beats]):
        plot.path(_steps(part, x, y), "curve thin threshold")
    return plot.svg("Score of each record with its limit, phases and alarms", css)


def _distances(data: LifeData, width: float, css: str) -> str:
    plot = Plot(width, 240 if css == "wide" else 220)
    beats = data.beats
    far, drift = [b.distance for b in beats], [b.drift for b in beats]
    x, y = _scales(plot, len(beats), [v for v in (*far, *drift, 0.0, data.anchor) if v is not None])
    _ground(plot, data, x)
    plot.axes(x, y, "record", "log2")
    for part in _runs(drift):
        plot.path(_steps(part, x, y), "curve thin before")
    for part in _runs(far):
        plot.path([(x(t), y(v)) for t, v in part], "curve thin after")
    plot.line(x(0), y(data.anchor), x(len(beats)), y(data.anchor), "threshold")
    return plot.svg("Distance of each record from the anchor, and the drift that each phase has measured", css)


def _scales(plot: Plot, records: int, values: Sequence[float]) -> tuple[Scale, Scale]:
    return plot.x_scale(0, max(records, 1)), plot.y_scale(*padded(min(values), max(values)))


def _ground(plot: Plot, data: LifeData, x: Scale) -> None:
    """What is not watched, where phases were, and where the healthy part ends."""
    beats = data.beats
    begin = next((t for t, b in enumerate(beats) if b.watched), len(beats))
    plot.rect(x(0), plot.y1, x(begin) - x(0), plot.y0 - plot.y1, "learn")
    for t in range(1, len(beats)):
        if beats[t].phases != beats[t - 1].phases:
            plot.line(x(t), plot.y0, x(t), plot.y1, "phase")
    if 0 < data.healthy < len(beats):
        plot.line(x(data.healthy), plot.y0, x(data.healthy), plot.y1, "chance")


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Stretches of values that are there."""
    found: list[list[tuple[int, float]]] = [[]]
    for t, value in enumerate(values):
        if value is None:
            found.append([])
        else:
            found[-1].append((t, value))
    return [run for run in found if run]


def _steps(run: Sequence[tuple[int, float]], x: Scale, y: Scale) -> list[tuple[float, float]]:
    return [point for t, v in run for point in ((x(t), y(v)), (x(t + 1), y(v)))]


def _table(data: LifeData) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in data.header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in data.rows)
    return f"<section><h2>Alarms</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></section>"


def _notes(data: LifeData) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in data.notes)
    return f'<section><h2>Notes</h2><ul class="notes">{notes}</ul></section>' if notes else ""
