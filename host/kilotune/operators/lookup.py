"""Functions of one value as a table of 256: activations, ABS, EXP, LOG, SQRT, RSQRT, and QUANTIZE from int8 to int8.

The tables are those of TensorFlow Lite's reference kernels. For LOGISTIC and TANH that is a float32 function
rounded to the output's scale; TensorFlow Lite Micro computes them in fixed point, which can differ by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.operators import functions
from kilotune.operators.base import (
    Activation,
    Lowering,
    OpPlan,
    ParameterFree,
    SectionWriter,
    flags_of,
    pack_op,
    write_training,
)
from kilotune.operators.checks import check_int8
from kilotune.operators.views import viewed
from kilotune.tflite import fixed_point
from kilotune.tflite.model import Tensor

OPCODE = 8
SLOPE_BITS = 14

Table = npt.NDArray[np.int64]
Slopes = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Lookup(ParameterFree):
    """`table` (256,) for inputs -128 to 127; `slopes` (256,) in real units, 0 where the output is clamped."""

    table: npt.NDArray[np.int8]
    slopes: Slopes

    @property
    def clamps(self) -> bool:
        return False  # the slopes say it

    @property
    def gradient_gain(self) -> float:
        return float(np.abs(self.slopes).max()) or 1.0

    def reads_input_backward(self, plan: OpPlan) -> bool:
        return plan.to_input

    def overwrites(self, activations: Sequence[Activation]) -> tuple[tuple[int, int], ...]:
        return ((self.input, 0),)

    def can_share(self, activations: Sequence[Activation]) -> bool:
        return True

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        slopes = np.rint(self.slopes / self.gradient_gain * (1 << SLOPE_BITS)).astype("<i2")
        return pack_op(
            opcode=OPCODE,
            flags=flags_of(plan),
            input=self.input,
            output=self.output,
            offsets=(
                sections.add(self.table.tobytes()),
                sections.add(slopes.tobytes()) if plan.to_input else 0,
                0,
                0,
            ),
            plan=plan,
            training=write_training(sections, plan),
        )


def lower(context: Lowering) -> Lookup:
    """Reads one operator that maps each value separately."""
    source, output = context.tensor(0), context.output_tensor()
    check_int8(context, source)
    if source.elements != output.elements:
        raise context.refuse(f"makes {list(output.shape)} of {list(source.shape)}", "the shape must not change")
    kind, alpha = context.operator.opcode, context.operator.options.alpha
    if kind == "GELU" and context.operator.options.approximate:
        kind = "GELU BY TANH"
    if kind == "LEAKY_RELU" and not 0 <= alpha <= 1e3:
        raise context.refuse(f"has a slope of {alpha:g}", "slopes from 0 to 1000 are supported")
    x = (np.arange(-128, 128) - source.zero_point) * float(source.scale)
    with np.errstate(all="ignore"):
        return _made(context, kind, alpha, x)


def _made(context: Lowering, kind: str, alpha: float, x: Slopes) -> Lookup:
    source, output = context.tensor(0), context.output_tensor()
    table = _table(kind, alpha, source, output)
    if kind in _FUNCTIONS:
        exact, slopes = _FUNCTIONS[kind](x, alpha), _slope(kind, alpha, x)
    else:
        exact, slopes = functions.SMOOTH[kind](x), functions.slopes(functions.SMOOTH[kind], x)
    return lookup(context, source, output, table, slopes, exact)


def lower_function(context: Lowering) -> Lookup:
    """Operators in float32 between int8 tensors, as one table: dequantised, computed, quantised."""
    source, output = context.tensor(0), context.output_tensor()
    function = context.operator.options.function
    if function is None or source.elements != output.elements:
        raise context.refuse("changes the number of values in float32", "keep the layer in int8")
    x = (np.arange(-128, 128) - source.zero_point) * float(source.scale)
    with np.errstate(all="ignore"):
        y = function(x.astype(np.float32)).astype(np.float32) / np.float32(output.scale)
        table = functions.whole(y.astype(np.float64)) + output.zero_point
        return lookup(context, source, output, table, functions.slopes(function, x), function(x))


def lookup(
    context: Lowering, source: Tensor, output: Tensor, table: Table, slopes: Slopes, exact: npt.NDArray[Any]
) -> Lookup:
    """An op with these tables; no gradient passes where the `exact` value is beyond the output's range."""
    target = context.activation(output.index)
    places = exact / float(output.scale) + output.zero_point
    inside = (places >= -128.5) & (places <= 127.5)  # false for what is no number
    return Lookup(
        source=context.operator.index,
        name=output.short_name,
        input=viewed(context, context.activation(source.index), context.activations[target].extents),
        output=target,
        operator=context.operator.opcode,
        table=np.clip(table, -128, 127).astype(np.int8),
        slopes=np.where(inside, slopes, 0.0),
    )


def _table(kind: str, alpha: float, source: Tensor, output: Tensor) -> Table:
    centred = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    if kind in functions.FROM_FLOAT:
        return functions.table_of(functions.SMOOTH[kind], source, output)
    if kind in _FIXED:
        return _FIXED[kind](centred, source, output)
    if kind == "HARD_SWISH":
        return _hard_swish(centred, source.scale, output.scale) + output.zero_point
    ratio = float(np.float32(source.scale / output.scale))
    if kind == "QUANTIZE":
        return _scale(centred, float(source.scale) / float(output.scale)) + output.zero_point
    if kind == "LEAKY_RELU":
        low = float(np.float32(np.float32(source.scale * np.float32(alpha)) / output.scale))
        return np.where(centred >= 0, _scale(centred, ratio), _scale(centred, low)) + output.zero_point
    low_q, high_q = fixed_point.activation_range(kind, output.scale, output.zero_point)
    cut: Table = np.clip(_scale(centred, ratio) + output.zero_point, low_q, high_q)
    return cut


def _scale(values: Table, factor: float) -> Table:
    multiplier, shift = fixed_point.quantise_multiplier(factor)
    return np.array([fixed_point.requantise(int(v), multiplier, shift) for v in values], np.int64)


def _hard_swish(centred: Table, source_scale: np.float32, output_scale: np.float32) -> Table:
    """int16 fixed point of TensorFlow Lite's HardSwish."""
    hires = np.float32(1.0 / 128) * np.float32(source_scale)
    out_multiplier, out_shift = _short_multiplier(float(np.float32(hires / np.float32(output_scale))))
    relu_scale = np.float32(3.0) / np.float32(32768.0)
    relu_multiplier, relu_shift = _short_multiplier(float(np.float32(hires / relu_scale)))
    result = []
    for value in (int(v) * 128 for v in centred):
        preshift = _short_high_multiply(value, out_multiplier)
        reluish = value
        if relu_shift > 0:
            reluish = _short(reluish << (relu_shift - 1))
        reluish = _short_high_multiply(reluish, relu_multiplier)
        if relu_shift > 0:
            reluish = _short(reluish << 1)
        elif relu_shift < 0:
            reluish = fixed_point.divide_by_power_of_two(reluish, -relu_shift)
        reluish = (reluish + (1 << 15)) >> 1
        product = reluish * preshift
        truncated = _short(abs(product) // (1 << 15) * (1 if product >= 0 else -1))
        result.append(fixed_point.divide_by_power_of_two(truncated, max(-out_shift, 0)))
    return np.array(result, np.int64)


def _short_multiplier(factor: float) -> tuple[int, int]:
    multiplier, shift = fixed_point.quantise_multiplier(factor)
    return min(32767, (multiplier + (1 << 15)) >> 16), shift


def _short(v: int) -> int:
    return max(-32768, min(32767, v))


def _short_high_multiply(a: int, b: int) -> int:
    """round(a * b / 2^15), halves away from zero except the last: gemmlowp's int16 version."""
    product = a * b
    nudged = product + ((1 << 14) if product >= 0 else 1 - (1 << 14))
    return _short(abs(nudged) // (1 << 15) * (1 if nudged >= 0 else -1))


_FUNCTIONS: dict[str, Callable[[Slopes, float], npt.NDArray[Any]]] = {
    "RELU": lambda x, _: np.maximum(x, 0),
    "RELU6": lambda x, _: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x, _: np.clip(x, -1, 1),
    "LEAKY_RELU": lambda x, alpha: np.where(x >= 0, x, alpha * x),
    "HARD_SWISH": lambda x, _: x * np.clip(x + 3, 0, 6) / 6,
    "LOGISTIC": lambda x, _: 1 / (1 + np.exp(-np.clip(x, -50, 50))),
    "TANH": lambda x, _: np.tanh(x),
    "QUANTIZE": lambda x, _: x,
}
# Those that exist as int8 kernels, in fixed point.
_FIXED = {"ABS": functions.absolute, "RSQRT": functions.reciprocal_root, "SQRT": functions.root}
KINDS = (*_FUNCTIONS, *_FIXED, "ELU", "EXP", "GELU", "LOG")


def _slope(kind: str, alpha: float, x: Slopes) -> Slopes:
    """Derivative of the exact function."""
    if kind == "LOGISTIC":
        y: Slopes = 1 / (1 + np.exp(-np.clip(x, -50, 50)))
        return y * (1 - y)
    if kind == "TANH":
        tangent: Slopes = np.tanh(x)
        return 1 - tangent**2
    if kind == "HARD_SWISH":
        middle: Slopes = np.where(x >= 3, 1.0, (2 * x + 3) / 6)
        return np.where(x <= -3, 0.0, middle)
    if kind == "LEAKY_RELU":
        return np.where(x > 0, 1.0, alpha)
    low, high = {"RELU": (0.0, math.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0)}.get(
        kind, (-math.inf, math.inf)
    )
    return np.where((x > low) & (x < high), 1.0, 0.0)
