"""Whether healthy and faulty recordings can be compared at all, or differ in how they were recorded.

A fault raises some parts of the spectrum of some axes. A wrong unit raises all of them alike, a permuted axis makes
each look like another, and a lower rate leaves the upper part empty. A detector separates all of these perfectly.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kilotune.recordings.units import STANDARD_GRAVITY

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kilotune.recordings import Recording

    Floats = npt.NDArray[np.float64]

BANDS, POINTS, LEAST_POINTS = 24, 1024, 64  # of the spectra that are compared
LEAST_BANDS = 12  # to see where a band ends
QUIETEST = 0.25  # quantile of the bands' differences: a fault leaves some bands as they were
LOUDER = 2.0  # log2 of amplitude: if all bands differ by this much, it is not a fault
ALIKE = 0.35  # log2: spread of the bands' differences within which a factor is the same for all
STEP_DC_G = 0.3  # g: an offset that a remounted or turned sensor has
UNLIKE, BETTER = 0.7, 0.5  # log2: axes differ by so much, and in another order by less than this share of it
EDGE = 8.0  # log2 of power: what one side lacks at the top of the band
_NAMES = "xyzw"
_FACTORS = (
    (STANDARD_GRAVITY, "m/s^2 read as g"), (1000.0, "mg read as g"),
    (1000.0 * STANDARD_GRAVITY, "mm/s^2 read as g"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Doubt:
    """A difference between the sides. `certain`: it comes from the recording and not from the machine."""

    text: str
    certain: bool


@dataclass(frozen=True, slots=True)
class Side:
    """What one side's recordings look like."""

    spectrum: Floats  # (axes, BANDS) log2 of amplitude, median over windows
    dc_g: Floats  # (axes,) median offset
    unit: tuple[str, ...]
    axes: int


def compare(healthy: Sequence[Recording], fault: Sequence[Recording], full_scale_g: float) -> list[Doubt]:
    """All doubts about a comparison of the two; empty if there are none."""
    # A spectrum crosses no gap, and all have one resolution; recordings too short for any say nothing.
    sides = [[max(r.stretches, key=lambda s: len(s.samples)) for r in side] for side in (healthy, fault)]
    sides = [[s for s in side if len(s.samples) >= LEAST_POINTS] for side in sides]
    if not all(sides):
        return []
    points = min(POINTS, *(len(s.samples) for side in sides for s in side))
    a, b = (_side(side, full_scale_g, points) for side in sides)
    doubts = []
    if a.unit != b.unit:
        doubts.append(
            Doubt(f"the healthy files hold {' and '.join(a.unit)}, the faulty ones {' and '.join(b.unit)}", False)
        )
    doubts += _resampled(healthy, fault)
    scaled = _level(a, b)
    doubts += scaled
    if not scaled:
        doubts += _axes(a, b)
    doubts += _offset(a, b)
    doubts += _edge(a, b)
    return doubts


def _side(recordings: Sequence[Recording], full_scale_g: float, points: int) -> Side:
    import numpy as np

    from kilotune.device.samples import to_g

    files = [np.asarray(to_g(r, full_scale_g), np.float64) for r in recordings]
    spectra = np.stack([_spectrum(g, points) for g in files])
    dc = np.median([np.median(g, axis=0) for g in files], axis=0)
    units = tuple(sorted({r.unit for r in recordings}))
    return Side(np.median(spectra, 0), np.asarray(dc), units, files[0].shape[1])


def _spectrum(g: Any, n: int) -> Any:
    """(axes, BANDS) log2 of the rms amplitude of a bin, in bands of equal ratio; median over windows."""
    import numpy as np

    cut = np.lib.stride_tricks.sliding_window_view(g, n, axis=0)[:: max(1, n // 2)]
    window = np.hanning(n)
    power = np.abs(np.fft.rfft((cut - cut.mean(-1, keepdims=True)) * window, axis=-1)) ** 2
    edges = np.unique(np.geomspace(2, n // 2, BANDS + 1).round().astype(int))
    means = np.stack([power[..., a:b].mean(-1) for a, b in itertools.pairwise(edges)], -1)
    return np.median(0.5 * np.log2(means + 1e-18), axis=0)


def _resampled(healthy: Sequence[Recording], fault: Sequence[Recording]) -> list[Doubt]:
    def rates(recordings: Sequence[Recording]) -> set[str]:
        return {n for r in recordings for n in r.notes if "sampled from" in n} or {"at the model's rate"}

    a, b = rates(healthy), rates(fault)
    if a == b:
        return []
    return [
        Doubt(
            f"the sides come from different rates (healthy: {'; '.join(sorted(a))}. Faulty: {'; '.join(sorted(b))}): "
            "the edge that resampling leaves is easy to detect",
            False,
        )
    ]


def _level(a: Side, b: Side) -> list[Doubt]:
    """Doubts if all bands of all axes differ, which no fault causes, or by a single factor, as with a wrong unit."""
    import numpy as np

    difference = (b.spectrum - a.spectrum).ravel()
    low, middle, high = (float(np.quantile(difference, q)) for q in (QUIETEST, 0.5, 1 - QUIETEST))
    up, down = low > LOUDER, high < -LOUDER
    if not up and not down:
        return []
    factor = 2.0 ** abs(middle)
    louder = "faulty" if up else "healthy"
    even = high - low < 2 * ALIKE
    text = f"every part of the spectrum of every axis is about {factor:.3g} times louder on the {louder} side"
    named = [words for size, words in _FACTORS if abs(math.log2(factor / size)) < ALIKE]
    if named and even:
        return [Doubt(f"{text}: {named[0]}? State the unit of each side, or convert one", True)]
    if even:
        return [Doubt(f"{text}, by a single factor: a unit, a gain or a sensor's range, not a fault", True)]
    return [
        Doubt(f"{text}: is this the unit, the gain or the speed rather than the fault?", bool(named) and _heavy(a, b))
    ]


def _heavy(a: Side, b: Side) -> bool:
    """Whether gravity is not 1 g on one side."""
    import numpy as np

    sizes = sorted(float(np.linalg.norm(side.dc_g)) for side in (a, b))
    return sizes[0] > 0.5 and abs(math.log2(sizes[1] / sizes[0] / STANDARD_GRAVITY)) < ALIKE


def _axes(a: Side, b: Side) -> list[Doubt]:
    """The order of axes that makes the faulty side most similar to the healthy one."""
    import numpy as np

    if a.axes < 2 or a.axes != b.axes:
        return []

    def distance(order: Sequence[int]) -> float:
        # The shape and the level of each axis; the median ignores the bands that a fault raises.
        spectra = np.abs(b.spectrum[list(order)] - a.spectrum)
        return float(np.mean(np.median(spectra, axis=1)))

    same = distance(range(a.axes))
    order = min(itertools.permutations(range(a.axes)), key=distance)
    if order == tuple(range(a.axes)) or same < UNLIKE * 0.5 or distance(order) > BETTER * same:
        return []
    words = ", ".join(f"{_NAMES[i]} as {_NAMES[k]}" for i, k in enumerate(order) if i != k)
    return [
        Doubt(
            f"the axes seem to be in another order on the faulty side (healthy {words}): the spectra then differ by "
            f"{distance(order):.2f} instead of {same:.2f} (log2). Give both sides the same order, with --columns",
            distance(order) < 0.3 * same,
        )
    ]


def _offset(a: Side, b: Side) -> list[Doubt]:
    import numpy as np

    step = float(np.abs(a.dc_g - b.dc_g).max())
    if step < STEP_DC_G:
        return []
    shown = [", ".join(f"{v:+.2f}" for v in side.dc_g) for side in (a, b)]
    return [
        Doubt(
            f"the constant part differs: healthy {shown[0]} g, faulty {shown[1]} g. Was the sensor remounted, or is "
            "the unit different? Remounting changes what the device has learned",
            False,
        )
    ]


def _edge(a: Side, b: Side) -> list[Doubt]:
    """A doubt if one side lacks the top of the band, as after resampling elsewhere."""
    import numpy as np

    def drop(side: Side) -> float:
        top = side.spectrum.shape[1]
        upper, below = side.spectrum[:, -1], side.spectrum[:, top // 2 : -3]
        return float(np.median(2 * (np.median(below, axis=1) - upper)))

    if a.spectrum.shape[1] < LEAST_BANDS:
        return []
    drops = drop(a), drop(b)
    if abs(drops[0] - drops[1]) < EDGE:
        return []
    empty = "healthy" if drops[0] > drops[1] else "faulty"
    return [
        Doubt(
            f"the {empty} side has almost nothing at the top of the band, unlike the other side: was it recorded at a "
            "lower rate, or filtered?",
            True,
        )
    ]


def judge(doubts: Sequence[Doubt]) -> str:
    """What forbids a recommendation; empty if nothing does."""
    return "; ".join(d.text for d in doubts if d.certain)
