"""The attack `narrow`: a device is blinded to a fault in the few bands where that fault shows most.

The adversary has a twin of the device in its present state. In each phase he moves these bands of healthy windows
towards the fault, all windows of the phase by the same share of the fault's own distance at that speed: the largest
that his twin keeps, found by bisection. Then he feeds the device these windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune import _native
from kilotune.device.device import Device
from kilotune.link.transport import InProcess

BANDS, PHASE = 6, 16  # bands moved; windows of a phase
MOST, TRIES = 1.5, 6  # of the fault's distance; bisections

Pool = npt.NDArray[Any]  # (windows, features) of one speed


class Twin:
    """A device whose flash can be copied: what it learns begins from there, so a copy learns the same."""

    def __init__(self, image: kilotune.Image, flash: bytearray) -> None:
        self.image, self.flash = image, flash
        self.device = Device(InProcess(_native.Session(image.content, flash)), image=image)

    def copy(self) -> Twin:
        return Twin(self.image, bytearray(self.flash))


@dataclass(frozen=True)
class Narrow:
    """What the adversary knows of one fault, by speed, and windows that he never feeds."""

    healthy: list[Pool]  # to feed
    away: npt.NDArray[Any]  # (speeds, features): from healthy to the fault, in the chosen bands only
    alone: npt.NDArray[Any]  # (windows, features): a fault in these bands and nowhere else

    @staticmethod
    def in_bands(bands: list[int], size: float, healthy: list[Pool]) -> Narrow:
        """Of a fault that moves these features up by `size` of their standard deviations at one speed."""
        spread = np.mean([h.std(0) for h in healthy], 0)
        away = np.zeros((len(healthy), len(spread)))
        away[:, bands] = size * spread[bands]
        return Narrow._with(away, healthy)

    @staticmethod
    def of(feed: list[Pool], healthy: list[Pool]) -> Narrow:
        """From windows of the fault and healthy ones at each speed; half of the latter become `alone`."""
        pairs = list(zip(feed, healthy, strict=True))
        away = np.stack([f.mean(0) - h.mean(0) for f, h in pairs])
        shown = np.mean([np.abs(a) / h.std(0) for a, (_, h) in zip(away, pairs, strict=True)], 0)
        away[:, np.argsort(-shown)[BANDS:]] = 0
        return Narrow._with(away, healthy)

    @staticmethod
    def _with(away: npt.NDArray[Any], healthy: list[Pool]) -> Narrow:
        halves = [len(h) // 2 for h in healthy]
        rest = [h[n + 1 :] for h, n in zip(healthy, halves, strict=True)]
        alone = np.concatenate([r + a for r, a in zip(rest, away, strict=True)])
        return Narrow([h[:n] for h, n in zip(healthy, halves, strict=True)], away, rounded(alone))

    def stream(self, n: int, seed: int) -> npt.NDArray[Any]:
        """(n, features): healthy windows without end, of each speed in turn, with its mean and covariance.

        Each is the speed's mean and the departures of two windows from it, added at a random angle.
        """
        rng = np.random.default_rng([seed, 78])
        rows = []
        for k in range(n):
            pool = self.healthy[k % len(self.healthy)].astype(float)
            a, b = pool[rng.permutation(len(pool))[:2]] - pool.mean(0)
            angle = rng.uniform(0, 2 * np.pi)
            rows.append(pool.mean(0) + np.cos(angle) * a + np.sin(angle) * b)
        return np.array(rows)


def rounded(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.clip(np.rint(x), -32768, 32767)).astype(np.int16)


Learn = Callable[[Device, npt.NDArray[Any]], list[bool]]  # one phase; which windows were refused


def learn(settings: dict[str, Any], device: Device, windows: npt.NDArray[Any]) -> list[bool]:
    """One later phase; which of the windows were refused."""
    refused: list[bool] = []
    device.learn(windows, resume=True, on_result=lambda r: refused.append(r.refused != 0), **settings)
    return refused


def detected(device: Device, windows: npt.NDArray[Any]) -> float:
    """Share of windows above the threshold."""
    return float(device.score(windows, ready_features=True).anomalous.mean())


def largest_kept(
    twin: Twin, windows: npt.NDArray[Any], away: npt.NDArray[Any], learn: Learn
) -> tuple[Twin, list[bool]]:
    """A copy that learned `windows` moved by the largest share of `away` that it keeps, and what it refused.

    Where it keeps none: with 0.
    """

    def tried(share: float) -> tuple[Twin, list[bool]]:
        copy = twin.copy()
        return copy, learn(copy.device, rounded(windows + share * away))

    def keeps(found: tuple[Twin, list[bool]]) -> bool:
        return not found[0].device.status().guard.returned

    best = tried(MOST)
    if keeps(best):
        return best
    best, low, high = tried(0.0), 0.0, MOST
    for _ in range(TRIES):
        middle = (low + high) / 2
        found = tried(middle)
        if keeps(found):
            best, low = found, middle
        else:
            high = middle
    return best


Step = Callable[[Twin, npt.NDArray[Any], npt.NDArray[Any], Learn], tuple[Twin, list[bool]]]  # as `largest_kept`


class Creep:
    """A step of set size: each phase by `by` further than the last one that was kept."""

    def __init__(self, by: float) -> None:
        self._by, self._share = by, 0.0

    def __call__(
        self, twin: Twin, windows: npt.NDArray[Any], away: npt.NDArray[Any], learn: Learn
    ) -> tuple[Twin, list[bool]]:
        share = min(MOST, self._share + self._by)
        refused = learn(twin.device, rounded(windows + share * away))
        if not twin.device.status().guard.returned:
            self._share = share
        return twin, refused


def least_detection(
    twin: Twin, attack: Narrow, phases: int, settings: dict[str, Any], step: Step = largest_kept
) -> float:
    """Of the fault in the attacked bands, in any phase."""
    stream = attack.stream(phases * PHASE, 0)
    least = 1.0
    for at in range(0, len(stream), PHASE):
        away = attack.away[np.arange(at, at + PHASE) % len(attack.away)]
        twin, _ = step(twin, stream[at : at + PHASE], away, partial(learn, {**settings, "seed": 2 + at}))
        twin.device.commit()
        least = min(least, detected(twin.device, attack.alone))
    return least
