"""Records a device's sensor: raw samples with time stamps, and what was lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kilotune.common.files import write_atomically
from kilotune.errors import KilotuneError
from kilotune.link.cbor import bad_message
from kilotune.link.pace import Pace
from kilotune.link.status import RefusedError, statuses
from kilotune.terms import COUNTS_AT_FULL_SCALE

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.link import messages

FORMATS = (".npz", ".csv")
AXES = ("x", "y", "z")
_NEWEST = 0xFFFFFFFF  # as a start: from now on
_PAUSE_S = 0.005  # between requests while the sensor has nothing new
# Temporary refusals: the device trains, or a host still uses the engine.
_PASSING = ("busy", "wrong_state")


@dataclass(frozen=True, slots=True)
class LiveRecording:
    """`counts` int16 (n, axes); `time_s` (n,) since the first sample, by the sensor's rate within a stretch.

    `stretches`: indices of samples that do not directly follow the one before; the first is 0. `dropped`: samples that
    the device discarded before this computer fetched them. `overruns`: how often the sensor's own FIFO overflowed.
    The number of samples lost to an overflow is unknown, so the stretch after it is timed by this computer's clock.
    """

    counts: npt.NDArray[np.int16]
    time_s: npt.NDArray[np.float64]
    rate_hz: float
    full_scale_g: float
    chip: str
    stretches: tuple[int, ...]
    dropped: int
    overruns: int

    @property
    def samples_g(self) -> npt.NDArray[np.float32]:
        scaled = self.counts.astype(np.float64) * (self.full_scale_g / COUNTS_AT_FULL_SCALE)
        return scaled.astype(np.float32)

    def save(self, path: Path) -> None:
        """As .npz (samples, time_s, rate_hz and what was lost) or .csv (time_s, x, y, z in g)."""
        if path.suffix.lower() == ".npz":
            import io

            content = io.BytesIO()
            np.savez(
                content, samples=self.samples_g, time_s=self.time_s, rate_hz=self.rate_hz,
                dropped=self.dropped, overruns=self.overruns, stretches=np.asarray(self.stretches),
            )  # fmt: skip
            write_atomically(path, content.getvalue())
        elif path.suffix.lower() == ".csv":
            rows = [",".join(("time_s", *AXES[: self.counts.shape[1]]))]
            for t, frame in zip(self.time_s, self.samples_g, strict=True):
                rows.append(f"{t:.6f}," + ",".join(f"{v:.6f}" for v in frame))
            write_atomically(path, ("\n".join(rows) + "\n").encode())
        else:
            raise KilotuneError(
                "bad_argument", f"{path.name}: recordings are not written in that format", "use " + " or ".join(FORMATS)
            )


def record(
    device: Device,
    *,
    seconds: float,
    progress: Callable[[float, float], None] | None = None,
    rescue: Callable[[LiveRecording], None] | None = None,
) -> LiveRecording:
    """Records the sensor from now on, for `seconds`. `progress`: seconds done, of how many.

    `rescue` gets what was recorded if the recording ends early, by an error or Ctrl-C, before that is raised.

    Raises KilotuneError if the device has no sensor or is locked, or the sensor delivers nothing for `timeout_s`.
    """
    info = device.info()
    keeper = _Keeper(info.rate_hz, info.axes, round(seconds * info.rate_hz))
    chip = device.status().sensor.chip.name
    try:
        _fill(keeper, device, info.rate_hz, info.axes, progress)
    except BaseException:
        if rescue is not None and keeper.count:
            rescue(keeper.recording(info.full_scale_g, chip))
        raise
    return keeper.recording(info.full_scale_g, chip)


def _fill(
    keeper: _Keeper,
    device: Device,
    rate_hz: float,
    axes: int,
    progress: Callable[[float, float], None] | None,
) -> None:
    """Asks the device, without a pause while it has more, until the keeper has all that it wants."""
    clock = device.client.clock
    found = _ask(device, _NEWEST)
    at, gaps = found.frames_end, found.gaps
    pace = Pace(clock, device.client.timeout_s, "the recording", rate_hz / 100, "samples")
    heard_s = clock()
    while keeper.missing:
        found = _ask(device, at)
        now_s = clock()
        pace.require(keeper.count, now_s)
        restarted = found.frames_end < at  # its stream: after training, a host's stream, or a reset
        if found.data and not restarted:
            heard_s = now_s
        elif now_s - heard_s > device.client.timeout_s:
            raise KilotuneError(
                "timeout", f"the sensor gave no sample for {device.client.timeout_s:g} s", "`kilotune info` shows why"
            )
        if restarted:
            keeper.break_off()
            at, gaps = 0, found.gaps
            continue
        if not found.data:
            clock.sleep(_PAUSE_S)
        elif not at <= found.frames_first <= found.frames_end - len(found.data) // (2 * axes):
            raise bad_message("samples of its sensor out of order")
        gap_at = found.gap_at if found.gaps != gaps else None
        keeper.take(at, found.frames_first, found.data, gap_at, found.gaps - gaps, now_s - _behind(found, rate_hz))
        gaps = found.gaps
        at = found.frames_first + len(found.data) // (2 * axes)
        if progress is not None:
            progress(keeper.count / rate_hz, keeper.wanted / rate_hz)


def _behind(found: messages.RawFrames, rate_hz: float) -> float:
    """By how many seconds the first frame of an answer is older than the newest one."""
    return (found.frames_end - found.frames_first) / rate_hz


def _ask(device: Device, at: int) -> messages.RawFrames:
    clock = device.client.clock
    end_s = clock() + device.client.timeout_s
    while True:
        try:
            return device.raw(at)
        except RefusedError as error:
            if statuses()[error.status].name not in _PASSING or clock() > end_s:
                raise
            clock.sleep(_PAUSE_S)


class _Keeper:
    """Puts pieces together, and notices if one does not follow the last."""

    def __init__(self, rate_hz: float, axes: int, wanted: int) -> None:
        self._rate_hz = rate_hz
        self._axes = axes
        self.wanted = wanted
        self._pieces: list[npt.NDArray[np.int16]] = []
        self._starts: list[tuple[int, float]] = []  # start of each stretch: index here, time in s
        self._base: int | None = None  # the device's index of this stretch's first sample
        self._origin_s = 0.0
        self.count = self.dropped = self.overruns = 0

    @property
    def missing(self) -> bool:
        return self.count < self.wanted

    def break_off(self, overruns: int = 0) -> None:
        """Starts a new stretch after a gap; only the computer's clock can tell its length."""
        self._base = None
        self.overruns += overruns

    def take(self, asked: int, first: int, data: bytes, gap_at: int | None, gaps: int, arrived_s: float) -> None:
        """`arrived_s`: when frame `first` was measured, by the computer's clock."""
        frames = np.frombuffer(data, "<i2").reshape(-1, self._axes)
        if first > asked:
            self.dropped += first - asked
            if self._base is not None:  # the device counts what is missing, so time continues
                self._open(first, self._starts[-1][1] + (first - self._base) / self._rate_hz)
        if gap_at is not None:
            before = min(max(gap_at - first, 0), len(frames))
            self._keep(first, frames[:before], arrived_s)
            self.break_off(gaps)
            frames, first, arrived_s = frames[before:], first + before, arrived_s + before / self._rate_hz
        self._keep(first, frames, arrived_s)

    def _keep(self, first: int, frames: npt.NDArray[np.int16], arrived_s: float) -> None:
        frames = frames[: self.wanted - self.count]
        if not len(frames):
            return
        if self._base is None:
            if not self._starts:
                self._origin_s = arrived_s
            earliest_s = self._end_s()
            self._open(first, max(arrived_s - self._origin_s, earliest_s))
        self._pieces.append(frames)
        self.count += len(frames)

    def _open(self, first: int, start_s: float) -> None:
        if self._starts and self._starts[-1][0] == self.count:
            self._starts.pop()
        self._starts.append((self.count, start_s))
        self._base = first

    def _end_s(self) -> float:
        if not self._starts:
            return 0.0
        index, start_s = self._starts[-1]
        return start_s + (self.count - index) / self._rate_hz

    def recording(self, full_scale_g: float, chip: str) -> LiveRecording:
        counts = np.concatenate(self._pieces) if self._pieces else np.zeros((0, self._axes), np.int16)
        times = np.zeros(len(counts))
        ends = [index for index, _ in self._starts[1:]] + [len(counts)]
        for (index, start_s), end in zip(self._starts, ends, strict=True):
            times[index:end] = start_s + np.arange(end - index) / self._rate_hz
        return LiveRecording(
            counts, times, self._rate_hz, full_scale_g, chip,
            tuple(index for index, _ in self._starts), self.dropped, self.overruns,
        )  # fmt: skip
