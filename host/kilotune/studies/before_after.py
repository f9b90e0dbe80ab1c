"""Scores one machine on one device before and after learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.device.learning import LearnOptions
from kilotune.report.metrics import Separation, separation
from kilotune.studies.streaming import learn, score, threshold
from kilotune.studies.windows import Window

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.link.messages import GuardStatus, LearnReport
    from kilotune.recordings import Recording


@dataclass(frozen=True, slots=True)
class Scored:
    """Scored windows of one recording."""

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
        for k, recording in enumerate(recordings, 1):
            number = f" {k}" if len(recordings) > 1 else ""
            parts.append(Scored(truth, f"{truth}{number}{words}", tuple(score(device, recording))))
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
