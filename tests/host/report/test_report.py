"""The report page is complete and self-contained, and its figures and pictures match the data."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kilotune.report import Budget, Point, ReportData, Scores, Span, Spectrum, charts, render
from kilotune.report.metrics import auc, roc, separation
from kilotune.report.svg import CHAR, linear_ticks, log_ticks


def example() -> ReportData:
    r = np.random.default_rng(1)
    healthy, fault = tuple(r.normal(0.3, 0.4, 200)), tuple(r.normal(3.4, 0.8, 300))
    old_healthy, old_fault = tuple(r.normal(6, 1, 200)), tuple(r.normal(7, 1, 300))
    points = [Point(i * 0.05, s, "healthy", learned=i < 50, refused=i in (3, 4)) for i, s in enumerate(healthy)]
    points += [Point(10 + i * 0.05, s, "fault") for i, s in enumerate(fault)]
    frequency = tuple(float(f) for f in np.arange(1, 513) * 19.53125)
    flat = tuple(float(v) for v in r.rayleigh(1e-4, 512))
    return ReportData(
        title="A <machine> & its twin",
        story=("It learned.",),
        timeline=tuple(points),
        spans=(
            Span(0, 2.5, "learning", "learn"),
            Span(2.5, 10, "healthy", "", 1.6),
            Span(10, 25, "faulty", "", 1.6),
        ),
        before=Scores(old_healthy, old_fault, 5.0),
        after=Scores(healthy, fault, 1.6),
        spectra=(Spectrum("x", frequency, flat, flat[::-1]),),
        budgets=(
            Budget("RAM", "bytes", (("arena", 9800), ("adapter", 5120)), 65536),
            Budget("Instructions a window", "instructions", (("inference", 84000), ("step", 151000))),
        ),
        scorer="combined",
        scorer_why="lowest loss on 60 held-back windows",
        facts=(("windows learned from", "240"),),
        checks=(("adapter equal to the twin's", True, "5f3c"), ("reset loses nothing", False, "sequence 1")),
        notes=("A plain z-score does as well.",),
        commands=("kilotune demo --out 'build/demo'",),
    )


class _Balance(HTMLParser):
    VOID = frozenset({"meta", "br", "line", "rect", "path", "circle"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return None

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_page_is_balanced_and_refers_to_nothing_outside() -> None:
    page = render(example())
    parser = _Balance()
    parser.feed(page)
    assert parser.open == []
    assert parser.links == []
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page
    assert "http" not in page


def test_every_picture_is_well_formed_and_has_a_description() -> None:
    pictures = re.findall(r"<svg.*?</svg>", render(example()), re.DOTALL)
    assert len(pictures) == 2 * (1 + 2 + 1 + 1 + 2)  # wide and narrow of each
    for picture in pictures:
        assert ElementTree.fromstring(picture).get("aria-label")


def test_text_is_escaped_and_figures_are_those_of_the_data() -> None:
    data = example()
    page = render(data)
    assert "A &lt;machine&gt; &amp; its twin" in page
    assert "<machine>" not in page
    assert data.after is not None
    assert data.before is not None
    now = separation(data.after.healthy, data.after.fault, 1.6)
    was = separation(data.before.healthy, data.before.fault, 5.0)
    for known in (now, was):
        assert f"{known.auc:.4f}" in page
        assert f"{100 * known.detection:.1f} %" in page
    assert "14,920 of 65,536 (22.8 %) bytes" in page
    assert 'class="no">NO' in page
    assert 'class="ok">yes' in page


def test_empty_parts_leave_no_section() -> None:
    page = render(ReportData(title="bare"))
    assert "<section>" not in page
    assert "<svg" not in page
    assert "Score over time" not in render(replace(example(), timeline=()))


def _texts(svg: str) -> list[tuple[float, float, float, str]]:
    """(left, right, baseline, text) of all level texts of a picture."""
    out = []
    for node in ElementTree.fromstring(svg).iter("text"):
        if node.get("transform"):
            continue
        width, x = len(node.text or "") * CHAR, float(node.get("x", "0"))
        left = {"start": x, "middle": x - width / 2, "end": x - width}[node.get("text-anchor", "start")]
        out.append((left, left + width, float(node.get("y", "0")), node.text or ""))
    return out


@pytest.mark.parametrize(("width", "css"), [(charts.WIDE, "wide"), (charts.NARROW, "narrow")])
@pytest.mark.parametrize("factor", [1e-3, 1.0, 1234.5])
def test_no_texts_overlap(width: float, css: str, factor: float) -> None:
    data = example()
    assert data.after is not None

    def scale(v: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(factor * x for x in v)

    points = [replace(p, score=p.score * factor, t_s=p.t_s * factor) for p in data.timeline]
    spans = [replace(s, start_s=s.start_s * factor, end_s=s.end_s * factor, threshold=None) for s in data.spans]
    after = Scores(scale(data.after.healthy), scale(data.after.fault), 1.6 * factor)
    spectrum = replace(data.spectra[0], healthy_g=scale(data.spectra[0].healthy_g))
    pictures = [
        charts.timeline(points, spans, width, css),
        charts.distribution(after, width, css),
        charts.roc_curves(data.before, after, width, css),
        charts.spectrum(spectrum, width, css),
    ]
    for picture in pictures:
        texts = _texts(picture)
        for i, a in enumerate(texts):
            for b in texts[i + 1 :]:
                assert abs(a[2] - b[2]) >= 11 or a[1] <= b[0] or b[1] <= a[0], (a, b)


def test_long_streams_keep_their_highest_window() -> None:
    points = [Point(float(i), 0.0) for i in range(100_000)]
    points[77_777] = Point(77_777.0, 9.0)
    kept = charts._thinned(points)
    assert len(kept) <= charts.MOST_DOTS + 2
    assert max(p.score for p in kept) == 9.0


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 12))
def test_ticks_lie_inside_and_are_not_too_many(lo: float, span: float, about: int) -> None:
    ticks = linear_ticks(lo, lo + span, about)
    assert len(ticks) <= about + 1
    assert all(lo - span * 1e-6 - 1e-9 <= t <= lo + span + span * 1e-6 + 1e-9 for t in ticks)


def test_log_ticks_are_within_the_range() -> None:
    assert log_ticks(0.02, 30, 10) == pytest.approx([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20])


# --- figures behind the pictures ---------------------------------------------------------------

scores = st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=30)


@given(scores, scores)
def test_auc_is_the_share_of_pairs_in_order(healthy: list[float], fault: list[float]) -> None:
    pairs = [(f > h) + 0.5 * (f == h) for h in healthy for f in fault]
    assert auc(healthy, fault) == pytest.approx(sum(pairs) / len(pairs))


@given(scores, scores)
def test_area_under_the_roc_is_the_auc(healthy: list[float], fault: list[float]) -> None:
    false_alarms, detection = roc(healthy, fault)
    assert (np.diff(false_alarms) >= 0).all()
    assert (np.diff(detection) >= 0).all()
    area = float(np.sum(np.diff(false_alarms) * (detection[1:] + detection[:-1]) / 2))
    assert area == pytest.approx(auc(healthy, fault))
