"""The device's policy about time around plain scores, on a computer: what a device that goes on learning is held to.

As firmware/runtime/learn/life.h and docs/SPEC.md, 2.1, in floating point: phases that get rarer, a threshold that
includes the measured drift, watching once that is small, and an anchor, which is the z-score of the features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kilotune.studies.baselines import STATISTICS, Z_SCORE, joined, student_threshold, z_score

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kilotune.image.base_profile import LifeSettings
    from kilotune.studies.baselines import Measured

    Floats = npt.NDArray[np.float64]
    Score = Callable[[Measured], Floats]

NEAREST = "nearest stored windows"
ROWS = (*(name for name in STATISTICS if name != "peak"), Z_SCORE, NEAREST)
HOLD_RECORDS, SETTLED, UNKNOWN_DRIFT, OLD_AGE = 4, 1.0, 1.0, 4096
_NEIGHBOURS = 2


@dataclass(frozen=True, slots=True)
class Watched:
    """What was said of every record."""

    watching_from: int | None  # record; None: it never settled
    over: tuple[float | None, ...]  # share of each record's windows above the threshold; None: not watched
    alarms: tuple[int, ...]  # records at which an alarm began


@dataclass
class _Share:
    """Windows of whole records, an unbiased sample of the time so far (algorithm R)."""

    slots: int
    rng: np.random.Generator
    kept: list[Measured] = field(default_factory=list)
    seen: int = 0

    def offer(self, record: Measured) -> None:
        for w in range(len(record)):
            self.seen += 1
            one = record[w : w + 1]
            if len(self.kept) < self.slots:
                self.kept.append(one)
            elif (slot := int(self.rng.integers(self.seen))) < self.slots:
                self.kept[slot] = one


def watch(
    row: str, records: Sequence[Measured], settings: LifeSettings, *, stored: int, seed: int, prior_std: Floats | None
) -> Watched:
    """One life by one plain score; causal, and in one pass. `stored`: windows, a quarter of them held back."""
    keeper = _Keeper(row, settings, stored, seed, prior_std)
    over: list[float | None] = []
    alarms, recent, on = [], 0, False
    for t, record in enumerate(records):
        share, alarmed = keeper.take(t, record)
        over.append(share)
        recent = (recent << 1 | alarmed) & ((1 << settings.of) - 1)
        before, on = on, recent.bit_count() >= settings.alarmed
        if on and not before:
            alarms.append(t)
    begins = [t for t, share in enumerate(over) if share is not None]
    return Watched(begins[0] if begins else None, tuple(over), tuple(alarms))


class _Keeper:
    def __init__(self, row: str, settings: LifeSettings, stored: int, seed: int, prior_std: Floats | None) -> None:
        import numpy as np

        self.row, self.settings, self.prior = row, settings, prior_std
        held = max(1, stored // HOLD_RECORDS)
        self.learn, self.held = (_Share(n, np.random.default_rng([seed, n])) for n in (stored - held, held))
        self.score: Score | None = None
        self.anchor: tuple[Score, float] | None = None
        self.settled, self.due = False, settings.first
        self.level = self.limit = 0.0
        self.near: list[float] = []
        self.drifts: list[float] = []
        self.alarmed = False

    def take(self, t: int, record: Measured) -> tuple[float | None, bool]:
        """(share of windows above the threshold, whether the record is alarmed)"""
        import numpy as np

        if not len(record):
            return None, False
        if t >= self.due and self.learn.kept and self.held.kept:
            self._phase(t)
        was, self.alarmed, share = self.alarmed, False, None
        if self.score is not None:
            above = self.score(record) - self.level
            self.near.append(float(np.median(above)))
            if self.settled:
                share = float((above > self.limit).mean())
                self.alarmed = self.near[-1] > self.limit or self._far(record)
        if not (self.alarmed or was):
            (self.held if t % HOLD_RECORDS == HOLD_RECORDS - 1 else self.learn).offer(record)
        return share, self.alarmed

    def _far(self, record: Measured) -> bool:
        import numpy as np

        if self.anchor is None:
            return False
        score, level = self.anchor
        return float(np.median(score(record))) - level > self.settings.anchor

    def _phase(self, t: int) -> None:
        import numpy as np

        if self.near:
            self.drifts.append(max(0.0, float(np.quantile(self.near, 0.6))))
            self.settled |= t >= 2 * self.settings.first and self.drifts[-1] < SETTLED
        drift = max(self.drifts[-3:]) if len(self.drifts) > 1 else UNKNOWN_DRIFT
        learn, held = joined(self.learn.kept), joined(self.held.kept)
        self.score = fitted(self.row, learn, self.prior)
        scores = self.score(held)
        self.level = float(scores.mean())
        self.limit = student_threshold(scores) - self.level + 1.5 * drift
        self.near = []
        self.due = t + max(2, (t + 2) // (4 if t < OLD_AGE else 2))
        if self.settled and self.anchor is None:
            anchor = fitted(Z_SCORE, learn, self.prior)
            self.anchor = (anchor, float(anchor(held).mean()))


def fitted(row: str, learn: Measured, prior_std: Floats | None) -> Score:
    """A score in log2; of several axes the one that is farthest above what was learned."""
    import numpy as np

    if row == Z_SCORE:
        return z_score(learn, prior_std)[2]
    if row == NEAREST:
        return _nearest(learn, prior_std)
    k = STATISTICS.index(row)
    mean = learn.statistics[:, :, k].mean(0)
    return lambda m: np.asarray((m.statistics[:, :, k] - mean).max(1), np.float64)


def _nearest(learn: Measured, prior_std: Floats | None) -> Score:
    import numpy as np

    spread = learn.features.std(0) if prior_std is None else np.sqrt((learn.features.var(0) + prior_std**2) / 2)
    scale = np.maximum(spread, 1e-3)
    known = learn.features / scale

    def score(m: Measured) -> Floats:
        z = m.features / scale
        squares: Any = ((z[:, None] - known) ** 2).mean(2)
        return np.asarray(np.log2(np.sort(squares, 1)[:, :_NEIGHBOURS].mean(1) + 1e-6), np.float64)

    return score
