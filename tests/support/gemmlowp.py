"""gemmlowp's fixed-point arithmetic, as TensorFlow Lite Micro has it, in int64."""

from __future__ import annotations

import numpy as np

from tests.support.arrays import Ints


def doubling_high_multiply(a: Ints, b: Ints) -> Ints:
    """gemmlowp's SaturatingRoundingDoublingHighMul; C division truncates."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    result = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.where((a == b) & (a == -(1 << 31)), (1 << 31) - 1, result)


def divide_by_power_of_two(x: Ints, n: Ints | np.int64) -> Ints:
    mask = (np.int64(1) << n) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> n) + ((x & mask) > threshold)


def saturate(x: Ints) -> Ints:
    return np.clip(x, -(1 << 31), (1 << 31) - 1)


def requantise(x: Ints, multiplier: Ints, shift: Ints) -> Ints:
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    return divide_by_power_of_two(doubling_high_multiply(saturate(x << left), multiplier), right)


def softmax_row(x: Ints, multiplier: np.int64, shift: np.int64, diff_min: np.int64) -> Ints:
    """SOFTMAX of TensorFlow Lite Micro in gemmlowp's fixed point, one row."""
    diff = x - x.max()
    scaled = doubling_high_multiply(saturate(diff << shift), np.broadcast_to(multiplier, diff.shape))
    exps = _exp_on_negative_values(scaled)
    used = diff >= diff_min
    total = int(divide_by_power_of_two(exps[used], np.int64(12)).sum())
    headroom = 32 - total.bit_length()
    shifted = ((total << headroom) & 0xFFFFFFFF) - (1 << 31)
    scale = _reciprocal_of_one_plus(shifted)
    unsaturated = divide_by_power_of_two(
        doubling_high_multiply(np.full_like(exps, scale), exps), np.int64(12 - headroom + 31 - 8)
    )
    return np.where(used, np.clip(unsaturated - 128, -128, 127), -128)


def _exp_on_negative_values(a: Ints) -> Ints:
    """Q5.26 to Q0.31."""
    quarter = 1 << 24
    modulo = (a & (quarter - 1)) - quarter
    x = modulo * (1 << 5) + (1 << 28)
    x2 = doubling_high_multiply(x, x)
    x3, x4 = doubling_high_multiply(x2, x), doubling_high_multiply(x2, x2)
    third = np.full_like(x, 715827883)
    inner = divide_by_power_of_two(x4, np.int64(2)) + x3
    rest = divide_by_power_of_two(doubling_high_multiply(inner, third) + x2, np.int64(1))
    constant = np.full_like(x, 1895147668)
    result = saturate(constant + doubling_high_multiply(constant, x + rest))
    remainder = modulo - a
    factors = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
    for k, factor in enumerate(factors):
        hit = (remainder & (1 << (24 + k))) != 0
        result = np.where(hit, doubling_high_multiply(result, np.full_like(result, factor)), result)
    return np.where(a == 0, (1 << 31) - 1, result)


def _reciprocal_of_one_plus(a: int) -> int:
    """1 / (1 + a), a in Q0.31."""

    def multiply(p: int, q: int) -> int:
        return int(doubling_high_multiply(np.array([p], np.int64), np.array([q], np.int64))[0])

    half = (a + (1 << 31)) >> 1
    x = 1515870810 + multiply(half, -1010580540)
    for _ in range(3):
        error = (1 << 29) - multiply(half, x)
        x += int(saturate(np.array([multiply(x, error) << 2]))[0])
    return int(saturate(np.array([x << 1]))[0])
