"""What the sensor of a started device measures: `lis2dw12=recording.npz`, `virtual,adxl345=synthetic:healthy`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.terms import Chip, word_of

if TYPE_CHECKING:
    from kilotune.recordings import Recording

CHIPS = tuple(word_of(chip) for chip in Chip if chip is not Chip.none)
AXES = 3
_FLAGS = ("virtual", "spi")
_FULL_SCALE_G = 16.0  # of the raw file that the device reads, at 32768


@dataclass(frozen=True, slots=True)
class Feed:
    """`virtual`: the recording takes no more time than the native device computes, else its own."""

    chip: str
    source: str
    virtual: bool
    spi: bool = False  # the native device's; else I2C

    def arguments(self, folder: Path, rate_hz: float | None) -> list[str]:
        """Of the native program; the recording goes into a file in `folder`, at `rate_hz` where that is known."""
        import numpy as np

        from kilotune.device.samples import to_segments

        recording = self._read(rate_hz)
        axes = recording.axes
        (segment,) = to_segments(recording.samples, axes=axes, full_scale_g=_FULL_SCALE_G)
        frames = np.zeros((len(segment.counts), AXES), "<i2")
        frames[:, :axes] = segment.counts
        path = folder / "sensor.raw"
        path.write_bytes(frames.tobytes())
        return ["--sensor", f"{self.chip}={path}", *self._flags()]

    def _flags(self) -> list[str]:
        return ["--virtual-time"] * self.virtual + ["--sensor-spi"] * self.spi

    def resd(self, folder: Path, rate_hz: float | None) -> Path:
        """The recording as a file that Renode's sensors read."""
        from kilotune.targets.resd import encode_resd

        recording = self._read(rate_hz)
        path = folder / "sensor.resd"
        path.write_bytes(encode_resd(recording.samples, recording.rate_hz))
        return path

    def _read(self, rate_hz: float | None) -> Recording:
        from kilotune.recordings import read

        recording = read(self.source, model_rate_hz=rate_hz)
        if recording.unit != "g":
            raise KilotuneError(
                "bad_argument", f"{recording.name} has counts, a sensor measures g", "give a recording in g"
            )
        if recording.axes > AXES:
            raise KilotuneError(
                "wrong_axes",
                f"{recording.name} has {recording.axes} axes, a sensor measures {AXES}",
                "give a recording of the axes that it is to measure",
            )
        return recording


def parse_feed(text: str) -> Feed:
    """KilotuneError `bad_argument` where it means nothing."""
    flags, rest = set(), text
    while (word := rest.partition(","))[0] in _FLAGS and word[1]:
        flags.add(word[0])
        rest = word[2]
    chip, sign, source = rest.partition("=")
    if not sign or not source or chip not in CHIPS:
        raise KilotuneError(
            "bad_argument",
            f"'{text}' names no sensor",
            f"write [virtual,][spi,]CHIP=RECORDING, as lis2dw12=healthy.npz; chips are {', '.join(CHIPS)}",
        )
    return Feed(chip, source, virtual="virtual" in flags, spi="spi" in flags)
