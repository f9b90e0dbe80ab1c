"""What is in a recording: each axis in figures, as an engineer looks at it before anything is learned from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.recordings.recording import Channel, Recording

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CLIPPED_RUN = 3  # equal samples at the very top or bottom: a converter at its end
_CONSTANT_S = 0.05  # seconds without any change
_CONSTANT_LEAST = 16  # samples of that, at least


@dataclass(frozen=True, slots=True)
class AxisLook:
    """In the recording's unit. All but `dc` are of the signal without its mean.

    `kurtosis`: 3 for noise, more for knocks; None where nothing moves. `clipped`: samples in runs at the highest or
    lowest value; `constant`: stretches of it in which nothing changes.
    """

    channel: Channel
    dc: float
    rms: float
    peak: float
    crest: float | None
    kurtosis: float | None
    clipped: int
    constant: int


@dataclass(frozen=True, slots=True)
class Look:
    recording: Recording
    axes: tuple[AxisLook, ...]

    @property
    def gaps(self) -> int:
        return len(self.recording.starts) - 1


def look_at(recording: Recording) -> Look:
    channels = recording.channels or tuple(Channel(str(i), recording.unit, "caller") for i in range(recording.axes))
    return Look(recording, tuple(_axis(recording, i, channel) for i, channel in enumerate(channels)))


def _axis(recording: Recording, index: int, channel: Channel) -> AxisLook:
    import numpy as np

    values = recording.samples[:, index].astype(np.float64)
    dc = float(values.mean())
    moving = values - dc
    rms = float(np.sqrt((moving**2).mean()))
    peak = float(np.abs(moving).max())
    still = rms <= 1e-12 * max(1.0, abs(dc))
    kurtosis = None if still else float(((moving / rms) ** 4).mean())
    least = max(_CONSTANT_LEAST, round(_CONSTANT_S * recording.rate_hz))
    clipped = constant = 0
    for stretch in recording.stretches:
        part = stretch.samples[:, index]
        constant += len(_runs(part, np.ones(part.size, bool), least))
        if not still:
            ends = (part == recording.samples[:, index].max()) | (part == recording.samples[:, index].min())
            clipped += sum(_runs(part, ends, _CLIPPED_RUN))
    return AxisLook(channel, dc, rms, peak, None if still else peak / rms, kurtosis, clipped, constant)


def _runs(values: npt.NDArray[np.generic], where: npt.NDArray[np.bool_], least: int) -> list[int]:
    """Lengths of runs of equal values, of `least` at least, that lie `where`."""
    import numpy as np

    if values.size == 0:
        return []
    edges = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    lengths = np.diff(np.concatenate((edges, [values.size])))
    return [int(n) for n in lengths[(lengths >= least) & where[edges]]]


def sentence(recording: Recording) -> str:
    """One line: what was understood of a file."""
    channels = recording.channels
    names = ", ".join(c.name for c in channels[:6]) + (", ..." if len(channels) > 6 else "")
    units = dict.fromkeys(f"{c.unit} ({c.unit_from})" for c in channels)
    unit = "; ".join(units) or recording.unit
    parts = [
        f"{recording.axes} {'axis' if recording.axes == 1 else 'axes'}{f' {names}' if names else ''} in {unit}",
        f"{recording.rate_hz:g} Hz" + (f" ({recording.rate_from})" if recording.rate_from else ""),
        f"{recording.seconds:.3f} s",
    ]
    if len(recording.starts) > 1:
        parts.append(f"{len(recording.starts)} stretches")
    return f"{recording.name}: " + ", ".join(parts)
