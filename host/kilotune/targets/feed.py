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
_FULL_SCALE_G = 16.0  # at 32768, in the raw file that the device reads


@dataclass(frozen=True, slots=True)
class Feed:
    """A sensor and its recording. `virtual`: play it as fast as the native device computes, else in real time."""

    chip: str
    source: str
    virtual: bool
    spi: bool = False  # the native device's; else I2C

    def arguments(self, folder: Path, rate_hz: float | None) -> list[str]:
        """Arguments of the native program; the recording is put in a file in `folder`, at `rate_hz` if known."""
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
                "bad_argument", f"{recording.name} holds counts, but a sensor measures g", "give a recording in g"
            )
        if recording.axes > AXES:
            raise KilotuneError(
                "wrong_axes",
                f"{recording.name} has {recording.axes} axes, but a sensor measures {AXES}",
                f"give a recording with up to {AXES} axes",
            )
        if len(recording.starts) > 1:
            raise KilotuneError(
                "gap", f"{recording.name} has {len(recording.starts) - 1} gaps, a sensor measures without any",
                "cut a part without a gap out of it",
            )  # fmt: skip
        return recording


def parse_feed(text: str) -> Feed:
    """Reads [virtual,][spi,]CHIP=RECORDING; raises KilotuneError `bad_argument` for anything else."""
    flags, rest = set(), text
    while (word := rest.partition(","))[0] in _FLAGS and word[1]:
        flags.add(word[0])
        rest = word[2]
    chip, sign, source = rest.partition("=")
    if not sign or not source or chip not in CHIPS:
        raise KilotuneError(
            "bad_argument",
            f"'{text}' names no sensor",
            f"write [virtual,][spi,]CHIP=RECORDING, e.g. lis2dw12=healthy.npz; chips are {', '.join(CHIPS)}",
        )
    return Feed(chip, source, virtual="virtual" in flags, spi="spi" in flags)
