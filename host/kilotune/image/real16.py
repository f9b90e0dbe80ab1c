"""Real numbers as the device takes them: 16 bits of mantissa and a power of two."""

from __future__ import annotations

import math

from kilotune.errors import KilotuneError


def to_real(value: float, name: str) -> tuple[int, int]:
    """(mantissa, exponent) with `value` = mantissa * 2^exponent, rounded to 16 bits; mantissa 0 for 0."""
    if not math.isfinite(value) or value < 0:
        raise KilotuneError("usage", f"{name} is {value}", "give a number from 0 on")
    if value == 0:
        return 0, 0
    fraction, exponent = math.frexp(value)
    mantissa = round(fraction * 0x10000)
    return (0x8000, exponent - 15) if mantissa == 0x10000 else (mantissa, exponent - 16)
