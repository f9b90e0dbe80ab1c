"""The material of a report page: a study, what was found beside it, and the words for both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilotune.device.wording import guard_in_words, report_in_words, scorer_name
from kilotune.report.data import Budget, Point, ReportData, Scores, Span
from kilotune.studies.findings import Findings, against_words

if TYPE_CHECKING:
    from kilotune.image.features import FeatureConfig
    from kilotune.image.image import Image
    from kilotune.studies.before_after import Stage, Study


def timeline(found: Study, config: FeatureConfig) -> tuple[tuple[Point, ...], tuple[Span, ...]]:
    """Points and spans of before, learning and after, in a row."""
    points: list[Point] = []
    spans: list[Span] = []
    at = 0.0
    step, length = config.hop / config.rate_hz, config.window / config.rate_hz

    def stage(which: Stage) -> None:
        nonlocal at
        for part in which.parts:
            begin = at
            for w in part.windows:
                if w.score is not None:
                    points.append(Point(at + length, w.score, part.truth, refused=bool(w.refused)))
                at += step
            at += length
            spans.append(Span(begin, at, part.label, "", which.threshold))

    stage(found.before)
    spans.append(Span(at, at + found.learned_s, f"learning, {len(found.learn_windows)} windows", "learn"))
    for k, w in enumerate(found.learn_windows):
        if w.score is not None:
            points.append(Point(at + length + k * step, w.score, "", w.learned, bool(w.refused)))
    at += found.learned_s
    stage(found.after)
    return tuple(points), tuple(spans)


def report_data(
    found: Study,
    image: Image,
    *,
    title: str,
    subtitle: str,
    findings: Findings | None = None,
    budgets: tuple[Budget, ...] = (),
    checks: tuple[tuple[str, bool, str], ...] = (),
    notes: tuple[str, ...] = (),
    facts: tuple[tuple[str, str], ...] = (),
    commands: tuple[str, ...] = (),
) -> ReportData:
    config = image.features
    assert config is not None
    points, spans = timeline(found, config)
    before, after = found.before, found.after
    return ReportData(
        title=title,
        subtitle=subtitle,
        story=(sentence(found),) if findings is None else (sentence(found), against_words(findings)),
        timeline=points,
        spans=spans,
        before=Scores(before.of("healthy"), before.of("fault"), before.threshold),
        after=Scores(after.of("healthy"), after.of("fault"), after.threshold),
        spectra=() if findings is None else findings.spectra,
        tables=() if findings is None else findings.tables,
        budgets=budgets,
        scorer=scorer_name(found.learn_report),
        scorer_why=_why(found),
        facts=(
            ("method", image.method),
            ("outcome", report_in_words(found.learn_report)),
            ("windows to learn from", _learned(found)),
            ("guardrails", guard_in_words(found.guard) or "no objection"),
            *facts,
            ("model image, SHA-256", image.image_hash.hex()),
            ("base model, SHA-256", image.base_hash.hex()),
        ),
        checks=checks,
        notes=notes if findings is None else (*notes, *findings.notes),
        commands=commands,
    )


def _learned(found: Study) -> str:
    report = found.learn_report
    kept = "" if report is None else f", {report.learned} stored and {report.held} held back"
    refused = sum(bool(w.refused) for w in found.learn_windows)
    return f"{len(found.learn_windows)} offered{kept}" + (f"; {refused} refused" if refused else "")


def _why(found: Study) -> str:
    held = found.learn_report.held if found.learn_report is not None else 0
    return f"chosen by the device on {held} healthy windows held back from training"


def sentence(found: Study) -> str:
    """What learning achieved, in figures."""
    b, a = found.before.separation, found.after.separation
    was = f"AUC {b.auc:.3f}"
    if found.before.threshold is not None:
        was += f", {100 * b.detection:.0f} % detected at {100 * b.false_alarms:.0f} % false alarms"
    now = f"AUC {a.auc:.3f}, {100 * a.detection:.0f} % detected at {100 * a.false_alarms:.0f} % false alarms"
    return (
        f"Before learning: {was}. After learning from {found.learned_s:.1f} s of this machine's own healthy "
        f"vibration: {now}, on {a.healthy} healthy and {a.fault} faulty windows that were not used for learning."
    )
