"""How far a rate or an AUC may be from the truth, from the windows and the files that it was counted on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.report.metrics import auc

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Interval = tuple[float, float]
Files = Sequence[Sequence[float]]  # scores, file by file

_Z = 1.959964  # 95 %
_DRAWS = 400  # of files, with replacement


@dataclass(frozen=True, slots=True)
class Intervals:
    """95 %, from 0 to 1."""

    auc: Interval
    false_alarms: Interval
    detection: Interval


def wilson(share: float, trials: float) -> Interval:
    """Wilson's interval of a share seen in this many independent trials; 0 to 1 if there are none."""
    if not trials > 0 or math.isnan(share):
        return 0.0, 1.0
    z2 = _Z * _Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    # At the ends, rounding must not exclude the share itself.
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def intervals(healthy: Files, fault: Files, threshold: float, *, independent: float = 1.0) -> Intervals:
    """Of AUC and both rates. `independent`: windows that overlap count for so much less, hop over window.

    Wilson's interval knows only the number of windows. Where a side has several files, windows of one file resemble
    each other, so files are drawn with replacement too, and the wider of both is given. The AUC is no better known
    than a share of the smaller side.
    """
    import numpy as np

    a, b = ([np.asarray(file, np.float64) for file in side if len(file)] for side in (healthy, fault))
    if not a or not b:
        return Intervals((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    whole_a, whole_b = np.concatenate(a), np.concatenate(b)
    sizes = whole_a.size * independent, whole_b.size * independent
    found = (
        wilson(auc(whole_a.tolist(), whole_b.tolist()), min(sizes)),
        wilson(float((whole_a > threshold).mean()), sizes[0]),
        wilson(float((whole_b > threshold).mean()), sizes[1]),
    )
    drawn = _drawn(a, b, threshold)
    wide = [_wider(one, list(values)) for one, values in zip(found, zip(*drawn, strict=True), strict=True)]
    return Intervals(*wide)


def _drawn(
    a: list[npt.NDArray[np.float64]], b: list[npt.NDArray[np.float64]], threshold: float
) -> list[tuple[float, float, float]]:
    """(AUC, false alarms, detection) of files drawn with replacement; once, as they are, where no side has several."""
    import numpy as np

    rng = np.random.default_rng(1)
    several = len(a) > 1 or len(b) > 1
    # Of every pair of files once: what is drawn is only how often each counts.
    pairs = np.array([[auc(x.tolist(), y.tolist()) for y in b] for x in a])
    na, nb = (np.array([len(x) for x in side], np.float64) for side in (a, b))
    fa, fb = (np.array([float((x > threshold).mean()) for x in side]) for side in (a, b))
    draws = _DRAWS if several else 1
    # (draws, files) windows of each file in a draw
    wa, wb = (
        n * (rng.multinomial(len(n), np.full(len(n), 1 / len(n)), size=draws) if several else 1) for n in (na, nb)
    )
    wa, wb = (w.reshape(draws, -1) / w.reshape(draws, -1).sum(1, keepdims=True) for w in (wa, wb))
    areas = np.einsum("di,ij,dj->d", wa, pairs, wb)
    return list(zip(areas.tolist(), (wa @ fa).tolist(), (wb @ fb).tolist(), strict=True))


def _wider(one: Interval, drawn: list[float]) -> Interval:
    ordered = sorted(drawn)
    cut = int(0.025 * len(ordered))
    return min(one[0], ordered[cut]), max(one[1], ordered[-1 - cut])
