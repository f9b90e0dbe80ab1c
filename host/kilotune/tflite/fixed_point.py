"""TensorFlow Lite's quantised arithmetic as its kernels prepare it: multipliers, shifts, ranges."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kilotune.errors import KilotuneError

SOFTMAX_INTEGER_BITS = 5


def round_half_away(x: float) -> int:
    """C's round(): halves go away from zero."""
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def quantise_multiplier(real: float) -> tuple[int, int]:
    """`real` = multiplier / 2^31 * 2^shift; multiplier in [2^30, 2^31) or 0. TFLite's QuantizeMultiplier."""
    if real == 0.0:
        return 0, 0
    if not math.isfinite(real) or real < 0:
        raise _impossible(real)
    mantissa, shift = math.frexp(real)
    fixed = round_half_away(mantissa * (1 << 31))
    if fixed == 1 << 31:
        fixed //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        raise _impossible(real)
    return fixed, shift


def _impossible(factor: float) -> KilotuneError:
    return KilotuneError(
        "unsupported_model",
        f"the scales need a factor of {factor:.3g} between accumulator and output",
        "an output range is far too small: quantise the model again with representative data",
    )


def dense_multipliers(
    input_scale: np.float32, weight_scales: npt.NDArray[np.float32], output_scale: np.float32
) -> list[tuple[int, int]]:
    """One (multiplier, shift) per weight scale.

    One scale: the product is rounded to float32 before the division. Several: all in double.
    """
    out = float(output_scale)
    if weight_scales.size == 1:
        with np.errstate(over="ignore", under="ignore"):
            product = np.float32(input_scale) * np.float32(weight_scales[0])
        return [quantise_multiplier(float(product) / out)]
    return [quantise_multiplier(float(input_scale) * float(s) / out) for s in weight_scales]


def activation_range(activation: str, scale: np.float32, zero_point: int) -> tuple[int, int]:
    """(act_min, act_max) in int8. TFLite's CalculateActivationRangeQuantized."""

    def quantise(x: float) -> int:
        with np.errstate(over="ignore"):
            steps = float(np.float32(x) / np.float32(scale))
        return zero_point + round_half_away(max(-1e6, min(1e6, steps)))  # beyond any int8 anyway

    low, high = -128, 127
    if activation == "RELU":
        low = max(low, quantise(0.0))
    elif activation == "RELU6":
        low, high = max(low, quantise(0.0)), min(high, quantise(6.0))
    elif activation == "RELU_N1_TO_1":
        low, high = max(low, quantise(-1.0)), min(high, quantise(1.0))
    elif activation != "NONE":
        raise KilotuneError(
            "unsupported_model",
            f"the fused activation {activation} is not supported",
            "use NONE, RELU or RELU6",
        )
    return low, high


def softmax_scaling(beta: float, input_scale: np.float32) -> tuple[int, int, int]:
    """(multiplier, left shift, diff_min) of SOFTMAX: PreprocessSoftmaxScaling and CalculateInputRadius."""
    real = min(beta * float(input_scale) * (1 << (31 - SOFTMAX_INTEGER_BITS)), (1 << 31) - 1.0)
    if real <= 1.0:
        raise KilotuneError(
            "unsupported_model",
            f"the SOFTMAX input has a scale of {float(input_scale):.3g}, too small to distinguish values",
            "quantise the model again with representative data",
        )
    multiplier, shift = quantise_multiplier(real)
    radius = math.floor(((1 << SOFTMAX_INTEGER_BITS) - 1) * (1 << (31 - SOFTMAX_INTEGER_BITS)) / (1 << shift))
    return multiplier, shift, -radius


def requantise(x: int, multiplier: int, shift: int) -> int:
    """TensorFlow Lite's MultiplyByQuantizedMultiplier, rounding twice."""
    limit = (1 << 31) - 1
    x = max(-limit - 1, min(limit, x << max(shift, 0)))
    high = (x * multiplier + (1 << 30)) >> 31
    return divide_by_power_of_two(high, max(-shift, 0))


def divide_by_power_of_two(x: int, n: int) -> int:
    mask = (1 << n) - 1
    return (x >> n) + ((x & mask) > (mask >> 1) + (x < 0))
