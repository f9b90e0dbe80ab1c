"""A first phase with windows that lie apart from the rest, in words: how many, and in which bands they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kilotune.adapters.calibration import Calibration, of_adapter
from kilotune.terms import Apart

if TYPE_CHECKING:
    import numpy.typing as npt

    from kilotune.device.device import Device
    from kilotune.link.messages import LearnReport

_BANDS = 4  # named at most


@dataclass(frozen=True, slots=True)
class Mixed:
    """`apart` of `windows` windows lie apart; `bands`: names and by how many sigma, the farthest first."""

    apart: int
    windows: int
    left_out: bool  # they were not learned from
    bands: tuple[tuple[str, float], ...]
    text: str


def mixed(device: Device, report: LearnReport, asked: Apart) -> Mixed | None:
    """None if no windows lie apart.

    Bands are found in the stored windows, so they need the device's image, and windows that were not left out.
    """
    if not report.apart:
        return None
    left_out = asked is Apart.leave_out and report.dropped >= report.apart
    bands: tuple[tuple[str, float], ...] = ()
    image = device.image
    if not left_out and image is not None and image.features is not None:
        calibration = of_adapter(device.pull())
        if calibration is not None:
            bands = _differences(calibration, report.apart, image.features.names())
    windows = report.learned + report.held + (report.apart if left_out else 0)
    return Mixed(report.apart, windows, left_out, bands, _words(report.apart, windows, bands))


def _differences(calibration: Calibration, apart: int, names: list[str]) -> tuple[tuple[str, float], ...]:
    """By the same direction and cut as on the device, in float."""
    x = calibration.windows.astype(np.float64)
    if not apart < len(x):
        return ()
    low, high = _cut(x)
    smaller = (low, high)[len(high) < len(low)]
    larger = (high, low)[len(high) < len(low)]
    sigma = larger.std(0) + 1.0  # steps of model inputs; the rounding to them included
    far = (smaller.mean(0) - larger.mean(0)) / sigma
    return tuple((names[i], float(far[i])) for i in np.argsort(-np.abs(far))[:_BANDS])


def _cut(x: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    d = x - x.mean(0)
    along = d @ np.linalg.svd(d, full_matrices=False)[2][0]
    order = np.argsort(along)
    a = along[order]
    n, k = len(a), np.arange(1, len(a))
    sums = np.cumsum(a)[:-1]
    split = int(np.argmax(sums**2 / (k * (n - k)))) + 1  # the sum of all is 0
    return x[order[:split]], x[order[split:]]


def _words(apart: int, windows: int, bands: tuple[tuple[str, float], ...]) -> str:
    share = f"{apart} of {windows} windows ({100 * apart / windows:.0f} %) lie apart from the others"
    named = ", ".join(f"{name} {sigma:+.1f} sigma" for name, sigma in bands)
    return share + (f", most in {named}" if named else "")
