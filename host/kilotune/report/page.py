"""Puts a report's pictures and texts into the page template."""

from __future__ import annotations

from html import escape
from importlib import resources
from string import Template

from kilotune.report import charts
from kilotune.report.data import Budget, ReportData, Scores, Table
from kilotune.report.metrics import Separation, separation
from kilotune.version import __version__

HALF_WIDE = 420.0  # drawing width of a picture that shares its row


def render(data: ReportData) -> str:
    """The whole page as HTML, without references to other files."""
    template = Template(resources.files("kilotune.report").joinpath("template.html").read_text(encoding="utf-8"))
    sections = [
        _timeline(data),
        _distributions(data),
        _separation(data),
        *(_table(t) for t in data.tables),
        _spectra(data),
        _learned(data),
        _budgets(data),
        _checks(data),
        _notes(data),
        _commands(data),
    ]
    return template.substitute(
        version=escape(__version__),
        title=escape(data.title),
        subtitle=f'<p class="sub">{escape(data.subtitle)}</p>' if data.subtitle else "",
        story="".join(f'<p class="story">{escape(s)}</p>' for s in data.story),
        tiles=_tiles(data),
        sections="\n".join(s for s in sections if s),
    )


def _section(title: str, about: str, body: str) -> str:
    intro = f'<p class="about">{escape(about)}</p>' if about else ""
    return f"<section><h2>{escape(title)}</h2>{intro}{body}</section>"


def _known(scores: Scores | None) -> Separation | None:
    if scores is None or not scores.healthy or not scores.fault:
        return None
    threshold = scores.threshold if scores.threshold is not None else float("inf")
    return separation(scores.healthy, scores.fault, threshold)


def _tiles(data: ReportData) -> str:
    after, before = _known(data.after), _known(data.before)
    tiles: list[tuple[str, str, str]] = []
    if after is not None:
        # Without a threshold there are no rates.
        armed = data.after is not None and data.after.threshold is not None
        was_armed = data.before is not None and data.before.threshold is not None
        tiles.append((f"{after.auc:.3f}", _was(before, f"{before.auc:.3f}" if before else ""), "AUC"))
        if armed:
            rates = (("detection", after.detection, before and before.detection),
                     ("false alarms", after.false_alarms, before and before.false_alarms))  # fmt: skip
            for what, now, old in rates:
                was = _was(before, _percent(float(old or 0.0))) if was_armed else ""
                tiles.append((_percent(now), was, what))
    for budget in data.budgets:
        if budget.unit == "bytes":
            used = sum(n for _, n in budget.parts)
            of = f"of {_kilobytes(budget.available)}" if budget.available else ""
            tiles.append((_kilobytes(used), of, budget.title))
    if not tiles:
        return ""
    cells = (
        f'<div class="tile"><b>{escape(big)}</b><div class="what">{escape(what)}</div>'
        f'<div class="was">{escape(was)}</div></div>'
        for big, was, what in tiles
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def _was(before: Separation | None, text: str) -> str:
    return f"before: {text}" if before is not None else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _kilobytes(n: int) -> str:
    return f"{n / 1024:.1f} KB" if n < 1024 * 1024 else f"{n / 1024 / 1024:.2f} MB"


def _key(entries: list[tuple[str, str]], css: str = "") -> str:
    """A legend: (CSS colour variable or "line", words)."""
    items = []
    for colour, words in entries:
        mark = '<i class="line"></i>' if colour == "line" else f'<i style="background:var(--{colour})"></i>'
        items.append(f"<li>{mark if colour else ''}{escape(words)}</li>")
    return f'<ul class="key {css}">{"".join(items)}</ul>'


def _timeline(data: ReportData) -> str:
    if not data.timeline:
        return ""
    picture = charts.both(charts.timeline, data.timeline, data.spans)
    entries = [("healthy", "healthy"), ("fault", "faulty"), ("soft", "state unknown")]
    present = {p.truth for p in data.timeline if not p.learned}
    shown = [e for e, truth in zip(entries, ("healthy", "fault", ""), strict=True) if truth in present]
    if any(p.learned for p in data.timeline):
        shown.append(("learned", "learned from"))
    if any(p.refused for p in data.timeline):
        shown.append(("mark", "refused by the gate"))
    if any(s.threshold is not None for s in data.spans):
        shown.append(("line", "threshold"))
    picture += _key(shown)
    for width, css in ((charts.WIDE, "wide"), (charts.NARROW, "narrow")):
        names = charts.unnamed_spans(data.spans, width, css)
        picture += _key([("", name) for name in names], css) if names else ""
    return _section(
        "Score over time",
        "One dot per window. The higher it is, the less the window looks like what the device knows.",
        picture,
    )


def _distributions(data: ReportData) -> str:
    parts = []
    for scores, title in ((data.before, "Before learning"), (data.after, "After learning")):
        if scores is not None and (scores.healthy or scores.fault):
            picture = charts.distribution(scores, HALF_WIDE, "wide")
            picture += charts.distribution(scores, charts.NARROW, "narrow")
            parts.append(f"<div><h3>{title}</h3>{picture}</div>")
    if not parts:
        return ""
    body = f'<div class="pair">{"".join(parts)}</div>'
    body += _key([("healthy", "healthy windows"), ("fault", "faulty windows"), ("line", "threshold")])
    return _section(
        "Scores before and after", "The less the two overlap, the better a threshold can separate them.", body
    )


def _separation(data: ReportData) -> str:
    after, before = _known(data.after), _known(data.before)
    if after is None and before is None:
        return ""
    width = HALF_WIDE
    picture = charts.roc_curves(data.before, data.after, width, "wide")
    picture += charts.roc_curves(data.before, data.after, charts.NARROW, "narrow")
    rows = ""
    for name, known, scores in (
        ("before learning", before, data.before),
        ("after learning", after, data.after),
    ):
        if known is None or scores is None:
            continue
        rates = scores.threshold is not None
        rows += _row(f"AUC {name}", f"{known.auc:.4f}")
        rows += _row(f"detection {name}", _percent(known.detection)) if rates else ""
        rows += _row(f"false alarms {name}", _percent(known.false_alarms)) if rates else ""
    some = after or before
    assert some is not None
    rows += _row("windows", f"{some.healthy:,} healthy, {some.fault:,} faulty")
    body = f'<div class="pair"><div>{picture}</div><div><table>{rows}</table></div></div>'
    return _section(
        "Detection against false alarms",
        "Every point of a curve is a possible threshold; the dot is the one that the device set.",
        body,
    )


def _row(name: str, value: str) -> str:
    return f'<tr><td class="name">{escape(name)}</td><td class="value">{escape(value)}</td></tr>'


def _spectra(data: ReportData) -> str:
    if not data.spectra:
        return ""
    body = ""
    for one in data.spectra:
        body += f"<h3>Axis {escape(one.axis)}</h3>" if len(data.spectra) > 1 else ""
        body += charts.both(charts.spectrum, one)
    one = data.spectra[0]
    names = (("healthy", "a healthy window", one.healthy_name), ("fault", "an anomalous window", one.anomalous_name))
    body += _key([(colour, f"{words}: {name}" if name else words) for colour, words, name in names])
    return _section(
        "Spectrum of two windows at the nearest operating point",
        "Amplitude of each frequency, mean removed, Hann window.",
        body,
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    body = f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>'
    return _section(table.title, table.about, body)


def _learned(data: ReportData) -> str:
    if not data.facts and not data.scorer:
        return ""
    rows = "".join(_row(name, value) for name, value in data.facts)
    if data.scorer:
        rows = _row("scorer in use", data.scorer) + (_row("why", data.scorer_why) if data.scorer_why else "") + rows
    return _section("What was learned", "", f"<table>{rows}</table>")


def _budgets(data: ReportData) -> str:
    body = "".join(_one_budget(b) for b in data.budgets)
    return _section("Memory and instructions", "", body) if body else ""


def _one_budget(budget: Budget) -> str:
    used = sum(n for _, n in budget.parts)
    share = f" of {budget.available:,} ({100 * used / budget.available:.1f} %)" if budget.available else ""
    title = f"<h3>{escape(budget.title)}: {used:,}{share} {escape(budget.unit)}</h3>"
    if budget.unit == "instructions":
        title = f"<h3>{escape(budget.title)}</h3>"
    rows = "".join(
        f'<tr><td><span class="swatch" style="background:var(--p{k % 6})"></span>{escape(label)}</td>'
        f'<td class="number">{n:,}</td></tr>'
        for k, (label, n) in enumerate(budget.parts)
    )
    return f"{title}{charts.both(charts.budget, budget)}<table>{rows}</table>"


def _checks(data: ReportData) -> str:
    if not data.checks:
        return ""
    rows = "".join(
        f'<tr><td class="name">{escape(name)}</td><td class="value"><span class="{"ok" if ok else "no"}">'
        f"{'yes' if ok else 'NO'}</span> {escape(detail)}</td></tr>"
        for name, ok, detail in data.checks
    )
    return _section("Checks", "", f"<table>{rows}</table>")


def _notes(data: ReportData) -> str:
    if not data.notes:
        return ""
    items = "".join(f"<li>{escape(n)}</li>" for n in data.notes)
    return _section("Notes", "", f'<ul class="notes">{items}</ul>')


def _commands(data: ReportData) -> str:
    if not data.commands:
        return ""
    return _section("Commands that made this report", "", f"<pre>{escape(chr(10).join(data.commands))}</pre>")
