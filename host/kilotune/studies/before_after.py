"""Scores one machine on one device before and after learning: the data for a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kilotune.device.learning import LearnOptions
from kilotune.device.wording import guard_in_words, report_in_words, scorer_name
from kilotune.report.data import Budget, Point, ReportData, Scores, Span, Spectrum
from kilotune.report.metrics import Separation, separation
from kilotune.studies.streaming import learn, score, threshold
from kilotune.studies.windows import Window

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.image.features import FeatureConfig
    from kilotune.image.image import Image
    from kilotune.link.messages import GuardStatus, LearnReport
    from kilotune.recordings import Recording

MOST_SPECTRA = 3  # axes shown


@dataclass(frozen=True, slots=True)
class Scored:
    """Scored windows of the recordings of one state of the machine."""

    truth: str  # "healthy" or "fault"
    label: str
    windows: tuple[Window, ...]

    @property
    def scores(self) -> tuple[float, ...]:
        return tuple(w.score for w in self.windows if w.score is not None)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything scored in one state of the device, with one threshold."""

    parts: tuple[Scored, ...]
    threshold: float | None

    def of(self, truth: str) -> tuple[float, ...]:
        return tuple(s for part in self.parts if part.truth == truth for s in part.scores)

    @property
    def separation(self) -> Separation:
        return separation(
            self.of("healthy"), self.of("fault"), float("inf") if self.threshold is None else self.threshold
        )


def score_stage(device: Device, healthy: Sequence[Recording], fault: Sequence[Recording], *, words: str = "") -> Stage:
    """Scores all recordings with the device's present adapter."""
    parts = []
    for truth, recordings in (("healthy", healthy), ("fault", fault)):
        windows = tuple(w for r in recordings for w in score(device, r))
        parts.append(Scored(truth, f"{truth}{words}", windows))
    return Stage(tuple(parts), threshold(device))


@dataclass(frozen=True, slots=True)
class Study:
    before: Stage
    learned_s: float  # length of what was learned from
    learn_report: LearnReport | None
    guard: GuardStatus
    learn_windows: tuple[Window, ...]
    after: Stage


def study(
    device: Device,
    *,
    to_learn: Sequence[Recording],
    healthy: Sequence[Recording],
    fault: Sequence[Recording],
    options: LearnOptions,
    progress: Callable[[float, float, str], None] = lambda done, total, note: None,
) -> Study:
    progress(0, 3, "before learning")
    before = score_stage(device, healthy, fault, words=", before")
    progress(1, 3, "learning")
    seen: list[Window] = []
    report = learn(device, to_learn, options, emit=seen.append)
    guard = device.status().guard
    progress(2, 3, "after learning")
    after = score_stage(device, healthy, fault, words=", after")
    return Study(before, sum(r.seconds for r in to_learn), report, guard, tuple(seen), after)


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


def spectra(
    healthy: Sequence[Recording], fault: Sequence[Recording], after: Stage, config: FeatureConfig
) -> tuple[Spectrum, ...]:
    """Spectra of the healthy window with the median score and the faulty one with the highest, per axis."""
    calm = _window_of(healthy, after.parts[0], config, highest=False)
    wild = _window_of(fault, after.parts[1], config, highest=True)
    if calm is None or wild is None:
        return ()
    import numpy as np

    n = config.window
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    frequency = np.fft.rfftfreq(n, 1 / config.rate_hz)[1:]

    def amplitude(block: Any) -> Any:
        # One-sided amplitude in g rms of each bin: the Hann window passes half of a tone's amplitude.
        spectrum = np.abs(np.fft.rfft((block - block.mean(0)) * hann[:, None], axis=0))[1:]
        return spectrum * (2 / (0.5 * n)) / np.sqrt(2)

    a, b = amplitude(calm), amplitude(wild)
    names = ("x", "y", "z", "w")
    return tuple(
        Spectrum(names[i], tuple(map(float, frequency)), tuple(map(float, a[:, i])), tuple(map(float, b[:, i])))
        for i in range(min(MOST_SPECTRA, a.shape[1]))
    )


def _window_of(recordings: Sequence[Recording], scored: Scored, config: FeatureConfig, *, highest: bool) -> Any:
    """The samples (window, axes) in g of the window chosen by its score; None if nothing was scored."""
    import numpy as np

    from kilotune.device.samples import to_g

    known = sorted((w.score, i) for i, w in enumerate(scored.windows) if w.score is not None)
    if not known:
        return None
    index = known[-1][1] if highest else known[len(known) // 2][1]
    for stretch in (s for r in recordings for s in r.stretches):
        count = stretch.windows(config.window, config.hop)
        if index < count:
            start = index * config.hop
            return np.asarray(to_g(stretch, config.full_scale_g)[start : start + config.window], np.float64)
        index -= count
    return None


def report_data(
    found: Study,
    image: Image,
    *,
    title: str,
    subtitle: str,
    healthy: Sequence[Recording],
    fault: Sequence[Recording],
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
        story=(sentence(found),),
        timeline=points,
        spans=spans,
        before=Scores(before.of("healthy"), before.of("fault"), before.threshold),
        after=Scores(after.of("healthy"), after.of("fault"), after.threshold),
        spectra=spectra(healthy, fault, after, config),
        budgets=budgets,
        scorer=scorer_name(found.learn_report),
        scorer_why=_why(found),
        facts=(
            ("method", image.method),
            ("outcome", report_in_words(found.learn_report)),
            ("guardrails", guard_in_words(found.guard) or "no objection"),
            *facts,
            ("model image, SHA-256", image.image_hash.hex()),
            ("base model, SHA-256", image.base_hash.hex()),
        ),
        checks=checks,
        notes=notes,
        commands=commands,
    )


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
