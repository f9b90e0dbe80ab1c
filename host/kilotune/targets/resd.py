"""Samples for the sensors of Renode: RESD files, and the text that its ADXL345 and LIS2DW12 read.

Source: Renode documentation, "Renode Sensor Data Format"; numbers are little-endian. A file is "RESD", the
version and three zeros, then blocks: type, sample type, channel, bytes after this header, and for a constant rate
start and period in nanoseconds, bytes of metadata, samples.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.errors import KilotuneError

MAGIC, VERSION = b"RESD", 1
CONSTANT_RATE = 2  # block type
ACCELERATION = 2  # sample type: x, y, z as i32 in micro-g
AXES = 3
_FILE = struct.Struct("<4sB3x")
_BLOCK = struct.Struct("<BHHQ")
_TIMING = struct.Struct("<QQQ")  # start, period, bytes of metadata
_NS = 1_000_000_000

Samples = npt.NDArray[Any]


def encode_resd(samples_g: Samples, rate_hz: float, *, start_s: float = 0.0, channel: int = 0) -> bytes:
    """One block of acceleration. `samples_g` (n, 1 to 3); missing axes stay 0."""
    if not 0 <= channel <= 0xFFFF:
        raise KilotuneError("bad_argument", f"channel {channel} is out of range", "0 to 65535 are possible")
    if not (rate_hz > 0 and 0 <= start_s < 1e9):
        raise KilotuneError("bad_argument", f"rate {rate_hz:g} Hz, start {start_s:g} s", "give positive numbers")
    micro_g = _three_axes(samples_g, 1e6, np.iinfo(np.int32).max).astype("<i4").tobytes()
    timing = _TIMING.pack(round(start_s * _NS), round(_NS / rate_hz), 0)
    block = _BLOCK.pack(CONSTANT_RATE, ACCELERATION, channel, len(timing) + len(micro_g))
    return _FILE.pack(MAGIC, VERSION) + block + timing + micro_g


def encode_adxl345(samples_g: Samples) -> str:
    """Lines of `x y z` for the ADXL345's FeedSample: whole numbers, 1024 per g (four times its finest digit)."""
    rows = _three_axes(samples_g, 1024, np.iinfo(np.int16).max).astype(int)
    return "".join(f"{x} {y} {z}\n" for x, y, z in rows)


def encode_g(samples_g: Samples) -> str:
    """Lines of `x y z` in g for FeedAccelerationSample of the LIS2DW12 and its relatives."""
    rows = _three_axes(samples_g, 1e6, np.iinfo(np.int32).max)
    return "".join(f"{x / 1e6:.6f} {y / 1e6:.6f} {z / 1e6:.6f}\n" for x, y, z in rows)


def _three_axes(samples_g: Samples, scale: float, limit: int) -> npt.NDArray[np.float64]:
    samples = np.asarray(samples_g, np.float64)
    if samples.ndim != 2 or not 1 <= samples.shape[1] <= AXES or len(samples) == 0:
        raise KilotuneError("wrong_axes", f"the samples have shape {samples.shape}", "give (n, axes) with 1 to 3 axes")
    scaled = np.zeros((len(samples), AXES))
    scaled[:, : samples.shape[1]] = np.rint(samples * scale)
    if not np.isfinite(scaled).all() or np.abs(scaled).max() > limit:
        raise KilotuneError(
            "bad_samples", "a sample is not a number, or too large for the format", "check that its unit is g (--unit)"
        )
    return scaled
