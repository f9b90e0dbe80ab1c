"""A stretch of vibration samples with its rate and unit, and what may be done to it."""

from __future__ import annotations

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
# Largest numerator or denominator of a resampling ratio; the filter grows with it.
MAX_RATIO = 4096


@dataclass(frozen=True, slots=True)
class Recording:
    """`samples` is (n, axes): float32 in g, or int16 counts of the sensor; a gap-free run."""

    samples: Samples
    rate_hz: float
    name: str
    unit: str = "g"  # "g" or "counts"
    notes: tuple[str, ...] = ()  # what the reader assumed or had to do; for the user's eyes

    @property
    def seconds(self) -> float:
        return float(self.samples.shape[0]) / self.rate_hz

    @property
    def axes(self) -> int:
        return int(self.samples.shape[1])

    def cut(self, *, start_s: float = 0.0, seconds: float | None = None) -> Recording:
        """The part from `start_s` on, at most `seconds` long; an empty part is an error."""
        first = round(start_s * self.rate_hz)
        end = self.samples.shape[0] if seconds is None else first + round(seconds * self.rate_hz)
        part = self.samples[first:end]
        if start_s < 0 or part.shape[0] == 0:
            raise KilotuneError(
                "bad_argument",
                f"{self.name} is {self.seconds:.3f} s long: nothing is left from {start_s:g} s on",
                "choose a smaller --start, or a longer --seconds",
            )
        return replace(self, samples=part)

    def resampled(self, rate_hz: float, *, upsample: bool = False) -> Recording:
        """The recording at `rate_hz`, band-limited by a polyphase filter; itself where the rate is right.

        KilotuneError `wrong_rate` for a recording below `rate_hz`, unless `upsample` is asked for.
        """
        if abs(rate_hz - self.rate_hz) <= RATE_TOLERANCE * rate_hz:
            return self
        if rate_hz > self.rate_hz and not upsample:
            raise KilotuneError(
                "wrong_rate",
                f"{self.name} has {self.rate_hz:g} Hz, the model is made for {rate_hz:g} Hz",
                "give the true rate with --rate, use a model made for this rate, or raise it with --upsample "
                f"(nothing above {self.rate_hz / 2:g} Hz will be in it)",
            )
        import numpy as np
        from scipy.signal import resample_poly

        ratio = resampling_ratio(self.rate_hz, rate_hz, self.name)
        signal = self.samples.astype(np.float64)
        # Filtering from the mean up keeps the ends of a recording with an offset free of a step.
        mean = signal.mean(axis=0, keepdims=True)
        out = resample_poly(signal - mean, ratio.numerator, ratio.denominator, axis=0) + mean
        samples: Samples
        if self.unit == "counts":
            samples = np.clip(np.rint(out), -32768, 32767).astype(np.int16)
        else:
            samples = out.astype(np.float32)
        return replace(
            self,
            samples=samples,
            rate_hz=rate_hz,
            notes=(*self.notes, resampling_note(self.rate_hz, rate_hz)),
        )


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
    if wanted_hz > rate_hz:
        return (
            f"upsampled from {rate_hz:g} to {wanted_hz:g} Hz: it has nothing above {rate_hz / 2:g} Hz, "
            "so the model's upper bands see silence that the real sensor would not give; "
            "do not mix it with recordings made at the model's own rate"
        )
    return f"resampled from {rate_hz:g} to {wanted_hz:g} Hz, band-limited to {wanted_hz / 2:g} Hz"


def require_finite(values: npt.NDArray[Any], columns: tuple[str, ...], name: str, first_row: int = 1) -> None:
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
        f"{name}: {what} in row {row + first_row}, column {columns[column]} ({int(bad.sum())} bad values)",
        "cut the recording there with --start and --seconds, or repair it",
    )
