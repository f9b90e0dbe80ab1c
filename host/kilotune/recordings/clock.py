"""Time stamps: how fast they tick, how evenly, and where samples are missing between them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LEAST_STAMPS = 3
# A column of time may restart or repeat now and then; one that does so often is none.
_MOST_BACKWARD = 0.02
# Share of steps that must be near the usual one; gaps are the others.
_LEAST_REGULAR = 0.7
_HALF = 0.5
_SLACK = 1.01  # on the resolution of rounded stamps
# An epoch's stamps by their size: 2001 to 2286.
_EPOCHS = ((1e9, 1e10, "s", 1.0), (1e12, 1e13, "ms", 1e-3), (1e15, 1e16, "us", 1e-6), (1e18, 1e19, "ns", 1e-9))
_PLAUSIBLE_HZ = (10.0, 150_000.0)  # of a recording of vibration whose stamps have no unit
_READINGS = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


@dataclass(frozen=True, slots=True)
class Ticks:
    """`step`: usual distance of two samples; `starts`: index of each first sample behind a gap, 0 first.

    `offsets`: time of each of those since the first; `jitter`: standard deviation of the usual steps, relative;
    `resolution`: of rounded stamps, 0 where they are fine. All but `jitter` in the stamps' own unit.
    """

    step: float
    starts: tuple[int, ...]
    offsets: tuple[float, ...]
    jitter: float
    resolution: float
    backward: int  # places where time went back: a logger that began anew


def ticks_of(stamps: npt.NDArray[Any]) -> Ticks | None:
    """None where these numbers do not tick: they fall too often, stand still, or are all different."""
    import numpy as np

    if stamps.size < LEAST_STAMPS:
        return None
    times = np.asarray(stamps, np.float64)
    if not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    forward = steps[steps > 0]
    backward = int((steps < 0).sum())
    if forward.size == 0 or backward > _MOST_BACKWARD * steps.size + (steps.size >= 20):
        return None
    usual = float(np.median(forward))
    resolution = _resolution(steps, usual)
    near = (steps >= 0) & (np.abs(steps - usual) <= max(_HALF * usual, _SLACK * resolution))
    if near.sum() < _LEAST_REGULAR * steps.size:
        return None
    step = float(steps[near].mean())
    jumps = (steps < 0) | _missing(steps, step, _SLACK * resolution)
    starts = np.flatnonzero(jumps) + 1
    jitter = float(steps[near].std() / step) if step > 0 else 0.0
    if resolution:
        step = _slope(times, (0, *(int(i) for i in starts), times.size), step)
    offsets = _offsets(times, steps, step)
    return Ticks(
        step,
        (0, *(int(i) for i in starts)),
        (0.0, *(float(offsets[i]) for i in starts)),
        0.0 if resolution >= 0.25 * step else jitter,
        resolution if resolution >= 0.25 * step else 0.0,
        backward,
    )


def _missing(steps: npt.NDArray[np.float64], step: float, slack: float) -> npt.NDArray[np.bool_]:
    """Steps that are longer than one, and not because a stamp came late: the next is then shorter by as much."""
    import numpy as np

    padded = np.concatenate(([step], steps, [step]))
    around = padded[:-2] + padded[1:-1] + padded[2:]
    late = np.minimum(around - 3 * step, steps - step)
    # Beside another gap or a step back, neighbours say nothing.
    alone = (padded[:-2] <= 1.5 * step + slack) & (padded[2:] <= 1.5 * step + slack)
    alone &= (padded[:-2] >= 0) & (padded[2:] >= 0)
    return np.where(alone, late, steps - step) > _HALF * step + slack


def _slope(times: npt.NDArray[np.float64], bounds: tuple[int, ...], step: float) -> float:
    """The step of rounded stamps, by a line through the longest run without a gap: its ends are rounded too."""
    import numpy as np

    first, end = max(pairwise(bounds), key=lambda run: run[1] - run[0])
    if end - first < 32:
        return step
    places = np.arange(end - first) - (end - first - 1) / 2
    run = times[first:end] - times[first]
    slope = float((places * (run - run.mean())).sum() / (places**2).sum())
    return slope if slope > 0 else step


def _resolution(steps: npt.NDArray[np.float64], usual: float) -> float:
    """What rounded stamps are multiples of, where that is no finer than the usual step; else 0.

    Stamps in whole milliseconds step by 0 or 1 at 1,600 Hz and by 1 or 2 at 800 Hz, those of a FIFO by 0 or a whole
    batch. Steps of 2 are also what a lost sample leaves. The difference: rounding never departs from an even clock
    by more than a step, and losses add up.
    """
    import numpy as np

    stands = int((steps < 0.25 * usual).sum())
    if stands >= 2 and stands > 0.005 * steps.size:
        return usual
    doubled = int(((steps > 1.5 * usual) & (steps <= 2.01 * usual)).sum())
    if doubled < 3:
        return 0.0
    block = min(steps.size, -(-25 * steps.size // doubled))
    departures = []
    for k in range(0, steps.size - block + 1, block):
        time = np.cumsum(steps[k : k + block])
        even = np.arange(1, block + 1) * (time[-1] / block)
        departures.append(float(np.ptp(time - even)))
    return usual if float(np.median(departures)) <= 2 * _SLACK * usual else 0.0


def _offsets(times: npt.NDArray[np.float64], steps: npt.NDArray[np.float64], step: float) -> npt.NDArray[np.float64]:
    """Time since the first sample; where it went back, one step passed as far as anybody knows."""
    import numpy as np

    if not (steps < 0).any():
        return times - times[0]  # type: ignore[no-any-return]
    return np.concatenate(([0.0], np.cumsum(np.where(steps < 0, step, steps))))


def epoch_unit(stamps: npt.NDArray[Any]) -> tuple[str, float] | None:
    """(unit, seconds in one) of stamps that count from 1970."""
    first = float(stamps[0])
    for low, high, name, second in _EPOCHS:
        if low <= first < high:
            return name, second
    return None


def plausible_units(step: float) -> list[tuple[str, float]]:
    """Units of time in which this step is that of a recording of vibration."""
    low, high = _PLAUSIBLE_HZ
    return [(name, second) for name, second in _READINGS if low <= 1 / (step * second) < high]


def rate_of(ticks: Ticks, second: float) -> float:
    """Samples a second; a whole number where the stamps can mean one."""
    rate = 1.0 / (ticks.step * second)
    nearest = round(rate)
    return float(nearest) if nearest and abs(rate - nearest) < 1e-4 * rate else rate


def calendar_seconds(columns: list[npt.NDArray[Any]]) -> npt.NDArray[np.float64] | None:
    """Seconds of four columns that hold hour, minute, second and microsecond; None where these are none."""
    import numpy as np

    if len(columns) != 4 or columns[0].size < 8:
        return None
    limits = (24, 60, 60, 1_000_000)
    for values, limit in zip(columns, limits, strict=True):
        numbers = np.asarray(values, np.float64)
        inside = np.isfinite(numbers) & (numbers >= 0) & (numbers < limit)
        # Microseconds may have lost their last digits, or have some behind the point.
        if not inside.all() or (limit <= 60 and (numbers != np.rint(numbers)).any()):
            return None
    h, m, s, us = (np.asarray(c, np.float64) for c in columns)
    seconds = h * 3600 + m * 60 + s + us * 1e-6
    seconds = seconds + 86_400.0 * np.concatenate(([0], np.cumsum(np.diff(seconds) < -43_200)))
    if np.ptp(us) == 0 or ticks_of(seconds) is None:
        return None
    return seconds  # type: ignore[no-any-return]
