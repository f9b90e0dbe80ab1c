"""How well scores separate healthy from faulty windows: AUC, ROC, alarm rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Separation:
    """Results of one scorer on one set of windows; rates are 0 to 1."""

    auc: float
    false_alarms: float  # share of healthy windows above the threshold
    detection: float  # share of faulty windows above the threshold
    healthy: int  # windows
    fault: int


def auc(healthy: Sequence[float], fault: Sequence[float]) -> float:
    """Probability that a faulty window scores above a healthy one; ties count half."""
    import numpy as np

    a, b = np.sort(np.asarray(healthy, np.float64)), np.asarray(fault, np.float64)
    if a.size == 0 or b.size == 0:
        return float("nan")
    below = np.searchsorted(a, b, side="left")
    equal = np.searchsorted(a, b, side="right") - below
    return float((below + 0.5 * equal).sum() / (a.size * b.size))


def roc(healthy: Sequence[float], fault: Sequence[float]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(false alarm rates, detection rates), both from 0 to 1, one point per distinct score."""
    import numpy as np

    a, b = np.sort(np.asarray(healthy, np.float64)), np.sort(np.asarray(fault, np.float64))
    levels = np.unique(np.concatenate([a, b]))[::-1]

    def above(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray((x.size - np.searchsorted(x, levels, side="left")) / max(1, x.size), np.float64)

    return np.concatenate([[0.0], above(a)]), np.concatenate([[0.0], above(b)])


def separation(healthy: Sequence[float], fault: Sequence[float], threshold: float) -> Separation:
    import numpy as np

    a, b = np.asarray(healthy, np.float64), np.asarray(fault, np.float64)

    def share(x: npt.NDArray[np.float64]) -> float:
        return float((x > threshold).mean()) if x.size else float("nan")

    return Separation(auc(healthy, fault), share(a), share(b), int(a.size), int(b.size))
