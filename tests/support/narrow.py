"""The attack `narrow`: a device is blinded to a fault in the few bands where that fault shows most.

The adversary has a twin of the device in its present state. In each phase he moves these bands of healthy windows
towards the fault, all windows of the phase by the same share of the fault's own distance at that speed: the largest
that his twin keeps, found by bisection. Then he feeds the device these windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune import _native
from kilotune.device.device import Device
from kilotune.link.transport import InProcess

BANDS = 6
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
    def of(feed: list[Pool], healthy: list[Pool]) -> Narrow:
        """From windows of the fault and healthy ones at each speed; half of the latter become `alone`."""
        pairs = list(zip(feed, healthy, strict=True))
        away = np.stack([f.mean(0) - h.mean(0) for f, h in pairs])
        shown = np.mean([np.abs(a) / h.std(0) for a, (_, h) in zip(away, pairs, strict=True)], 0)
        away[:, np.argsort(-shown)[BANDS:]] = 0
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
