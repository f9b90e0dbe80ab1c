"""Real numbers as the device represents them: a 16-bit mantissa and a power of two."""

from __future__ import annotations

import math
import struct

from kilotune.errors import KilotuneError

_REAL = struct.Struct("<Hh")


def to_real(value: float, name: str) -> tuple[int, int]:
    """A setting of the caller, 0 or above, as in `mantissa_exponent`; (0, 0) for 0.

    Raises KilotuneError `bad_argument`, which calls the setting `name`.
    """
    if not math.isfinite(value) or value < 0:
        raise KilotuneError("bad_argument", f"{name} is {value}", "give a finite number, 0 or above")
    return mantissa_exponent(value) if value else (0, 0)


def mantissa_exponent(value: float) -> tuple[int, int]:
    """`value` > 0 rounded to mantissa * 2^exponent with the mantissa in [2^15, 2^16)."""
    if not math.isfinite(value) or value <= 0:
        raise ValueError("a planned constant must be positive and finite")
    fraction, exponent = math.frexp(value)
    mantissa = round(fraction * 0x10000)
    return (0x8000, exponent - 15) if mantissa == 0x10000 else (mantissa, exponent - 16)


def pack_real(value: float) -> bytes:
    """A planned constant as it is stored in the image."""
    return _REAL.pack(*mantissa_exponent(value))


def pack_factor(value: float) -> bytes:
    """The same for a factor: a power of two gets no mantissa, so it costs the device no multiplication."""
    return _REAL.pack(0, math.frexp(value)[1] - 1) if is_power_of_two(value) else pack_real(value)


def is_power_of_two(value: float) -> bool:
    return math.frexp(value)[0] == 0.5
