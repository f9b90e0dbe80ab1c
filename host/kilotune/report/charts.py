"""The pictures of a report, each drawn for a given width, so that there is one for phones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kilotune.report.data import Budget, Point, Scores, Span, Spectrum
from kilotune.report.metrics import auc, roc
from kilotune.report.svg import CHAR, Plot, Scale, padded

WIDE, NARROW = 860.0, 370.0
MOST_DOTS = 1600


def both(draw: object, *arguments: object) -> str:
    """One picture in two widths; the page shows the one that fits."""
    assert callable(draw)
    return str(draw(*arguments, WIDE, "wide")) + str(draw(*arguments, NARROW, "narrow"))


def timeline(points: Sequence[Point], spans: Sequence[Span], width: float, css: str) -> str:
    """Score of each window over time, threshold and phases marked."""
    heading = 34.0 if css == "wide" else 20.0
    plot = Plot(width, 330 if css == "wide" else 290, top=heading)
    scores = [p.score for p in points] + [s.threshold for s in spans if s.threshold is not None]
    end = max([p.t_s for p in points] + [s.end_s for s in spans])
    x, y = plot.x_scale(0.0, max(end, 1e-3)), plot.y_scale(*padded(min(scores), max(scores)))
    for k, span in enumerate(spans):
        if span.kind == "learn":
            plot.rect(x(span.start_s), plot.y1, x(span.end_s) - x(span.start_s), plot.y0 - plot.y1, "learn")
        elif k:
            plot.line(x(span.start_s), plot.y0, x(span.start_s), plot.y1, "phase")
    plot.axes(x, y, "time in the stream, seconds", "anomaly score, log2")
    _headings(plot, x, spans, css)
    kept = _thinned(points)
    for group, name in (("healthy", "healthy"), ("fault", "fault"), ("", "unknown")):
        chosen = [p for p in kept if p.truth == group and not p.learned and not p.refused]
        plot.dots([(x(p.t_s), y(p.score)) for p in chosen], name, 2.0)
    plot.dots([(x(p.t_s), y(p.score)) for p in kept if p.learned], "learned", 2.0)
    plot.dots([(x(p.t_s), y(p.score)) for p in kept if p.refused and not p.learned], "refused", 2.0)
    for span in spans:
        if span.threshold is not None:
            plot.line(x(span.start_s), y(span.threshold), x(span.end_s), y(span.threshold), "threshold")
    return plot.svg("Anomaly score of each window over time, with the threshold and the learn phase", css)


def _headings(plot: Plot, x: Scale, spans: Sequence[Span], css: str) -> None:
    """Names of the spans above the picture if all fit, else their numbers."""
    numbered = bool(unnamed_spans(spans, plot.width, css))
    for k, span in enumerate(spans):
        words = str(k + 1) if numbered else span.label
        if x(span.end_s) - x(span.start_s) >= len(words) * CHAR:
            plot.text((x(span.start_s) + x(span.end_s)) / 2, plot.y1 - 8, words, "span", "middle")


def unnamed_spans(spans: Sequence[Span], width: float, css: str) -> list[str]:
    """The legend of the spans if not all names fit above the picture; empty if they do."""
    if not spans:
        return []
    end = max(s.end_s for s in spans) or 1.0
    inner = width - 66.0
    fits = css == "wide" and all(len(s.label) * CHAR <= (s.end_s - s.start_s) / end * inner - 6 for s in spans)
    return [] if fits else [f"{k + 1} {s.label}" for k, s in enumerate(spans)]


def _thinned(points: Sequence[Point]) -> list[Point]:
    """At most MOST_DOTS points; keeps the lowest and the highest of each stretch."""
    if len(points) <= MOST_DOTS:
        return list(points)
    step = math.ceil(2 * len(points) / MOST_DOTS)
    kept: list[Point] = []
    for i in range(0, len(points), step):
        part = points[i : i + step]
        kept += sorted({min(part, key=_score), max(part, key=_score)}, key=lambda p: p.t_s)
    return kept


def _score(point: Point) -> float:
    return point.score


def distribution(scores: Scores, width: float, css: str) -> str:
    """Histogram of the scores of healthy and faulty windows, with the threshold."""
    plot = Plot(width, 230, top=22, left=48)
    all_scores = [*scores.healthy, *scores.fault]
    marks = all_scores + ([scores.threshold] if scores.threshold is not None else [])
    lo, hi = padded(min(marks), max(marks), 0.04)
    bins = 36 if css == "wide" else 28
    healthy, fault = _shares(scores.healthy, lo, hi, bins), _shares(scores.fault, lo, hi, bins)
    x, y = plot.x_scale(lo, hi), plot.y_scale(0, max([*healthy, *fault, 0.01]) * 1.08)
    plot.axes(x, y, "anomaly score, log2", "share of windows, %")
    for shares, name in ((healthy, "healthy"), (fault, "fault")):
        plot.path(_steps(shares, x, y, lo, (hi - lo) / bins), f"area {name}", close=True)
    if scores.threshold is not None:
        at = x(scores.threshold)
        plot.line(at, plot.y0, at, plot.y1 - 4, "threshold")
        right = at > (plot.x0 + plot.x1) / 2
        plot.text(at + (-5 if right else 5), plot.y1 - 8, "threshold", "span", "end" if right else "start")
    return plot.svg("Distribution of scores of healthy and of faulty windows", css)


def _shares(values: Sequence[float], lo: float, hi: float, bins: int) -> list[float]:
    """Percent of the values in each bin."""
    out = [0.0] * bins
    for v in values:
        out[min(bins - 1, max(0, int((v - lo) / (hi - lo) * bins)))] += 100.0 / len(values)
    return out


def _steps(shares: Sequence[float], x: Scale, y: Scale, lo: float, step: float) -> list[tuple[float, float]]:
    points = [(x(lo), y(0))]
    for k, share in enumerate(shares):
        points += [(x(lo + k * step), y(share)), (x(lo + (k + 1) * step), y(share))]
    return [*points, (x(lo + len(shares) * step), y(0))]


def roc_curves(before: Scores | None, after: Scores | None, width: float, css: str) -> str:
    """Detection against false alarms at every threshold; a dot marks the device's own threshold."""
    plot = Plot(width, width * 0.92, top=12)
    x, y = plot.x_scale(0, 100), plot.y_scale(0, 100)
    plot.axes(x, y, "false alarms, % of healthy windows", "detection, % of faulty windows")
    plot.line(x(0), y(0), x(100), y(100), "chance")
    rows: list[tuple[str, str]] = []
    for scores, name, words in ((before, "before", "before learning"), (after, "after", "after learning")):
        if scores is None or not scores.healthy or not scores.fault:
            continue
        false_alarms, detection = roc(scores.healthy, scores.fault)
        points = [(x(100 * float(f)), y(100 * float(d))) for f, d in zip(false_alarms, detection, strict=True)]
        plot.path(_staircase(points), f"curve {name}")
        rows.append((name, f"{words}: AUC {auc(scores.healthy, scores.fault):.3f}"))
        if scores.threshold is not None:
            f = sum(s > scores.threshold for s in scores.healthy) / len(scores.healthy)
            d = sum(s > scores.threshold for s in scores.fault) / len(scores.fault)
            plot.add(f'<circle cx="{x(100 * f):.1f}" cy="{y(100 * d):.1f}" r="5" class="mark {name}"/>')
    longest = max((len(words) for _, words in rows), default=0)
    left, top = plot.x1 - longest * CHAR - 30, plot.y0 - 20 * len(rows) - 18
    plot.rect(left - 10, top - 16, longest * CHAR + 36, 20 * len(rows) + 14, "box")
    for k, (name, words) in enumerate(rows):
        plot.line(left, top + 20 * k, left + 18, top + 20 * k, f"curve {name}")
        plot.text(left + 24, top + 20 * k + 4, words, "legend")
    return plot.svg("Detection against false alarms before and after learning", css)


def _staircase(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Drops points in the middle of straight runs, as a ROC has as many points as windows."""
    out: list[tuple[float, float]] = []
    for p in points:
        while len(out) >= 2 and _straight(out[-2], out[-1], p):
            out.pop()
        out.append(p)
    return out


def _straight(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return abs((b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])) < 1e-6


def spectrum(data: Spectrum, width: float, css: str) -> str:
    """Amplitude over frequency of a healthy and an anomalous window."""
    plot = Plot(width, 270, left=64)
    pairs = list(zip(data.freq_hz, data.healthy_g, data.anomalous_g, strict=True))
    kept = [(f, 1000 * h, 1000 * a) for f, h, a in pairs if f > 0]
    amplitudes = [v for _, h, a in kept for v in (h, a) if v > 0]
    top = max(amplitudes, default=1.0)
    # At most five decades are shown; below that is rounding.
    bottom = max(min(amplitudes, default=top / 10), top * 1e-5)
    x = plot.x_scale(kept[0][0], kept[-1][0])
    y = plot.y_scale(bottom, max(top * 1.3, bottom * 10), log=True)
    plot.axes(x, y, "frequency, Hz", "amplitude, mg rms")
    columns = max(120, int(width / 2))
    for k, name in ((1, "healthy"), (2, "fault")):
        plot.path([(x(f), y(max(v, bottom))) for f, v in _peaks([(row[0], row[k]) for row in kept], columns)],
                  f"curve thin {name}")  # fmt: skip
    return plot.svg(f"Spectrum of a healthy and an anomalous window, axis {data.axis}", css)


def _peaks(curve: Sequence[tuple[float, float]], columns: int) -> list[tuple[float, float]]:
    """The highest value of each stretch, so that no peak is lost in drawing."""
    step = max(1, math.ceil(len(curve) / columns))
    return [max(curve[i : i + step], key=lambda p: p[1]) for i in range(0, len(curve), step)]


def budget(data: Budget, width: float, css: str) -> str:
    """One bar made of parts, relative to what is available if that is known."""
    used = sum(n for _, n in data.parts)
    whole = max(data.available or 0, used, 1)
    plot = Plot(width, 34, left=0, right=0, top=0, bottom=0)
    plot.rect(0, 4, width, 26, "room")
    at = 0.0
    for k, (label, n) in enumerate(data.parts):
        w = width * n / whole
        plot.rect(at, 4, w - (1 if w > 3 else 0), 26, f"part p{k % 6}", f"{label}: {n:,} {data.unit}")
        at += w
    return plot.svg(f"{data.title}: {used:,} {data.unit} used", css)
