"""Vibration samples with their rate, unit and gaps, where each of these came from, and what may be done to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32] | npt.NDArray[np.int16]

# Two rates this close (relative) are one rate: clocks of recorders are no better than this.
RATE_TOLERANCE = 1e-4
# A clock this close to the model's rate is meant to be it, though it runs fast or slow: it is resampled.
CLOCK_TOLERANCE = 0.05
# Largest numerator or denominator of a resampling ratio; the filter grows with it.
MAX_RATIO = 4096


@dataclass(frozen=True, slots=True)
class Channel:
    """One axis as the file has it: `unit` is what its numbers were taken to be, before they became samples."""

    name: str
    unit: str
    unit_from: str  # "header", "--unit", "guess", ...


@dataclass(frozen=True, slots=True)
class Recording:
    """`samples` is (n, axes): float32 in g, or int16 counts of the sensor.

    A recording with gaps is several stretches, one behind the other in `samples`. Nothing that needs neighbouring
    samples, such as a window, may cross from one to the next: take them from `stretches`.
    """

    samples: Samples
    rate_hz: float
    name: str
    unit: str = "g"  # of `samples`: "g" or "counts"
    notes: tuple[str, ...] = ()  # what the reader assumed or had to do; for the user's eyes
    starts: tuple[int, ...] = (0,)  # index of the first sample of each stretch
    times_s: tuple[float, ...] = (0.0,)  # when each stretch began, since the first sample
    channels: tuple[Channel, ...] = ()  # one an axis; empty where nobody knows
    rate_from: str = ""  # "--rate", "column time_s", ...

    @property
    def seconds(self) -> float:
        """Of samples; gaps do not count."""
        return float(self.samples.shape[0]) / self.rate_hz

    @property
    def axes(self) -> int:
        return int(self.samples.shape[1])

    @property
    def stretches(self) -> tuple[Recording, ...]:
        """Each a recording without a gap, with its place in time."""
        if len(self.starts) == 1:
            return (self,)
        ends = (*self.starts[1:], self.samples.shape[0])
        return tuple(
            replace(self, samples=self.samples[a:b], starts=(0,), times_s=(t,))
            for a, b, t in zip(self.starts, ends, self.times_s, strict=True)
        )

    def windows(self, window: int, hop: int) -> int:
        """How many windows it has: none crosses a gap."""
        ends = (*self.starts[1:], self.samples.shape[0])
        return sum(max(0, (b - a - window) // hop + 1) for a, b in zip(self.starts, ends, strict=True))

    def part(self, first: int, end: int | None = None) -> Recording:
        """The samples from `first` to `end`, with the gaps that lie between; perhaps none."""
        end = self.samples.shape[0] if end is None else min(end, self.samples.shape[0])
        first = min(max(first, 0), end)
        kept = [(s, t) for s, t in zip(self.starts, self.times_s, strict=True) if first < s < end]
        before = [(s, t) for s, t in zip(self.starts, self.times_s, strict=True) if s <= first]
        at, time_s = before[-1] if before else (0, 0.0)
        origin_s = time_s + (first - at) / self.rate_hz
        return replace(
            self,
            samples=self.samples[first:end],
            starts=(0, *(s - first for s, _ in kept)),
            times_s=(0.0, *(t - origin_s for _, t in kept)),
        )

    def cut(self, *, start_s: float = 0.0, seconds: float | None = None) -> Recording:
        """The part from `start_s` on, at most `seconds` long, gaps not counted; an empty part is an error."""
        first = round(start_s * self.rate_hz)
        part = self.part(first, None if seconds is None else first + round(seconds * self.rate_hz))
        if start_s < 0 or part.samples.shape[0] == 0:
            raise KilotuneError(
                "bad_argument",
                f"{self.name} is {self.seconds:.3f} s long: nothing is left after {start_s:g} s",
                "choose a smaller --start, or a longer --seconds",
            )
        return part

    def resampled(self, rate_hz: float, *, upsample: bool = False) -> Recording:
        """The recording at `rate_hz`, band-limited by a polyphase filter; itself where the rate is right.

        KilotuneError `wrong_rate` for a recording below `rate_hz` by more than a clock may be off, unless
        `upsample` is asked for.
        """
        if abs(rate_hz - self.rate_hz) <= RATE_TOLERANCE * rate_hz:
            return self
        off_clock = abs(rate_hz - self.rate_hz) <= CLOCK_TOLERANCE * rate_hz
        if rate_hz > self.rate_hz and not upsample and not off_clock:
            raise KilotuneError(
                "wrong_rate",
                f"{self.name} has {self.rate_hz:g} Hz, the model is made for {rate_hz:g} Hz",
                "give the true rate with --rate, use a model made for this rate, or raise it with --upsample "
                f"(nothing above {self.rate_hz / 2:g} Hz will be in it)",
            )
        ratio = resampling_ratio(self.rate_hz, rate_hz, self.name)
        pieces = [_polyphase(s.samples, ratio, self.unit == "counts") for s in self.stretches]
        starts = [0]
        for piece in pieces[:-1]:
            starts.append(starts[-1] + len(piece))
        return replace(
            self,
            samples=_joined(pieces),
            rate_hz=rate_hz,
            starts=tuple(starts),
            notes=(*self.notes, resampling_note(self.rate_hz, rate_hz)),
        )


def _joined(pieces: list[Samples]) -> Samples:
    import numpy as np

    if len(pieces) == 1:
        return pieces[0]
    joined: Any = np.concatenate(pieces)
    return joined  # type: ignore[no-any-return]


def _polyphase(samples: Samples, ratio: Fraction, counts: bool) -> Samples:
    import numpy as np
    from scipy.signal import resample_poly

    signal = samples.astype(np.float64)
    # Filtering from the mean up keeps the ends of a recording with an offset free of a step.
    mean = signal.mean(axis=0, keepdims=True)
    out = resample_poly(signal - mean, ratio.numerator, ratio.denominator, axis=0) + mean
    if counts:
        return np.clip(np.rint(out), -32768, 32767).astype(np.int16)  # type: ignore[no-any-return]
    return out.astype(np.float32)  # type: ignore[no-any-return]


def resampling_ratio(rate_hz: float, wanted_hz: float, name: str) -> Fraction:
    """wanted/rate as a small fraction; rates that have none are refused rather than approximated."""
    if not (rate_hz > 0 and wanted_hz > 0):
        raise KilotuneError("wrong_rate", f"{name}: a rate of {rate_hz:g} Hz is impossible", "give it with --rate")
    ratio = Fraction(wanted_hz / rate_hz).limit_denominator(MAX_RATIO)
    exact = ratio.numerator > 0 and abs(float(ratio) * rate_hz - wanted_hz) <= RATE_TOLERANCE * wanted_hz
    if not exact or ratio.numerator > MAX_RATIO:
        raise KilotuneError(
            "wrong_rate",
            f"{name}: {rate_hz:g} Hz cannot be brought to {wanted_hz:g} Hz by a ratio of small whole numbers",
            "give the true rate with --rate, or use a model made for this rate",
        )
    return ratio


def resampling_note(rate_hz: float, wanted_hz: float) -> str:
    if abs(wanted_hz - rate_hz) <= CLOCK_TOLERANCE * wanted_hz:
        return f"resampled from {rate_hz:g} to {wanted_hz:g} Hz: the recorder's clock is not quite the model's rate"
    if wanted_hz > rate_hz:
        return (
            f"upsampled from {rate_hz:g} to {wanted_hz:g} Hz: it has nothing above {rate_hz / 2:g} Hz, "
            "so the model's upper bands see silence that the real sensor would not give; "
            "do not mix it with recordings made at the model's own rate"
        )
    return f"resampled from {rate_hz:g} to {wanted_hz:g} Hz, band-limited to {wanted_hz / 2:g} Hz"


def require_finite(values: npt.NDArray[Any], columns: Iterable[str], name: str, first_row: int = 1) -> None:
    """Refuses NaN and infinity, naming the first place; `first_row` is the number of the first row."""
    import numpy as np

    if np.issubdtype(values.dtype, np.integer):
        return
    bad = ~np.isfinite(values)
    if not bad.any():
        return
    row, column = (int(i) for i in np.argwhere(bad)[0])
    what = "NaN (not a number)" if np.isnan(values[row, column]) else "an infinite value"
    raise KilotuneError(
        "bad_samples",
        f"{name}: {what} in row {row + first_row}, column {tuple(columns)[column]} ({int(bad.sum())} bad values)",
        "cut the recording there with --start and --seconds, or repair it",
    )
