"""TensorFlow Lite's multiplier arithmetic, against values worked out by hand and by exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kilotune.errors import KilotuneError
from kilotune.image.real16 import mantissa_exponent
from kilotune.tflite import fixed_point

from tests.support.gemmlowp import requantise


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (1 << 30, 1)),
        (0.5, (1 << 30, 0)),
        (0.75, (3 << 29, 0)),
        (2.0**-40, (0, 0)),
        (1 - 2.0**-40, (1 << 30, 1)),
    ],
)
def test_known_multipliers(real: float, expected: tuple[int, int]) -> None:
    assert fixed_point.quantise_multiplier(real) == expected


@given(st.floats(2.0**-30, 2.0**29))
def test_a_multiplier_is_the_nearest(real: float) -> None:
    multiplier, shift = fixed_point.quantise_multiplier(real)
    assert 1 << 30 <= multiplier < 1 << 31
    error = abs(Fraction(multiplier, 1 << 31) * Fraction(2) ** shift - Fraction(real))
    assert error <= Fraction(2) ** (shift - 32)


def test_too_large_a_multiplier_is_refused() -> None:
    with pytest.raises(KilotuneError):
        fixed_point.quantise_multiplier(2.0**31)


def test_one_weight_scale_is_multiplied_in_float32_several_in_double() -> None:
    rng = np.random.default_rng(0)
    different = 0
    for _ in range(200):
        a, b, c = (np.float32(v) for v in rng.uniform(0.001, 0.1, 3))
        single = fixed_point.dense_multipliers(a, np.array([b]), c)
        double = fixed_point.dense_multipliers(a, np.array([b, b]), c)
        assert single == [fixed_point.quantise_multiplier(float(np.float32(a * b)) / float(c))]
        assert double == [fixed_point.quantise_multiplier(float(a) * float(b) / float(c))] * 2
        different += single != double[:1]
    assert different > 100


def test_requantisation_rounds_ties_away_from_zero() -> None:
    x, half = np.array([-32, 32], np.int64), np.array([1 << 30, 1 << 30], np.int64)
    assert requantise(x, half, np.array([-5, -5], np.int64)).tolist() == [-1, 1]


@pytest.mark.parametrize(
    ("activation", "scale", "zero", "expected"),
    [
        ("NONE", 0.1, 3, (-128, 127)),
        ("RELU", 0.1, 3, (3, 127)),
        ("RELU", 0.1, -128, (-128, 127)),
        ("RELU6", 0.1, -28, (-28, 32)),
        ("RELU6", 0.01, -128, (-128, 127)),
        ("RELU_N1_TO_1", 0.1, 5, (-5, 15)),
    ],
)
def test_activation_ranges(activation: str, scale: float, zero: int, expected: tuple[int, int]) -> None:
    assert fixed_point.activation_range(activation, np.float32(scale), zero) == expected


@given(st.floats(1e-30, 1e30))
def test_planned_constants_keep_sixteen_bits(value: float) -> None:
    mantissa, exponent = mantissa_exponent(value)
    assert 1 << 15 <= mantissa < 1 << 16
    assert abs(mantissa * 2.0**exponent / value - 1) <= 2.0**-16
