"""Functions of one value: exact in float for slopes and tables, or in the fixed point of TensorFlow Lite's kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.tflite import fixed_point
from kilotune.tflite.model import Tensor

Table = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]
HIGHEST = (1 << 31) - 1


def _erf(x: Floats) -> Floats:
    return np.array([math.erf(v) for v in x.astype(np.float64)], x.dtype)


def _gelu(x: Floats) -> Floats:
    made: Floats = x.dtype.type(0.5) * x * (1 + _erf(x * x.dtype.type(math.sqrt(0.5))))
    return made


def _gelu_by_tanh(x: Floats) -> Floats:
    half = x.dtype.type(0.5)
    inner = x.dtype.type(math.sqrt(2 / math.pi)) * (x + x.dtype.type(0.044715) * x * x * x)
    made: Floats = half * x * (1 + np.tanh(inner))
    return made


# By their names in the `.tflite`; as float32 they are what its kernels compute, value by value.
SMOOTH: dict[str, Callable[[Floats], Floats]] = {
    "ABS": np.abs,
    "COS": np.cos,
    "ELU": lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
    "EXP": np.exp,
    "GELU": _gelu,
    "GELU BY TANH": _gelu_by_tanh,
    "LOG": np.log,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "NEG": np.negative,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RSQRT": lambda x: 1 / np.sqrt(x),
    "SIN": np.sin,
    "SQRT": np.sqrt,
    "SQUARE": np.square,
    "TANH": np.tanh,
}
FROM_FLOAT = ("ELU", "EXP", "GELU", "GELU BY TANH", "LOG", "LOGISTIC", "TANH")  # int8 kernels with a table


def slopes(function: Callable[[Floats], Floats], x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The derivative, by central differences in float64; 0 where the function is not defined."""
    step = 1e-6 * np.maximum(np.abs(x), 1e-3)
    with np.errstate(all="ignore"):
        slope = (function(x + step) - function(x - step)) / (2 * step)
    return np.where(np.isfinite(slope), slope, 0.0)


def rounded(y: Floats, output: Tensor) -> Table:
    """float32 values in the output's scale, as TensorFlow Lite fills its tables; what is no number ends low."""
    scaled = y.astype(np.float32) * (np.float32(1) / np.float32(output.scale))
    return whole(scaled.astype(np.float64)) + output.zero_point


def whole(x: npt.NDArray[np.float64]) -> Table:
    """Rounded, halves away from zero."""
    finite: Table = np.clip(np.nan_to_num(np.floor(np.abs(x) + 0.5) * np.sign(x), nan=-1e6), -1e6, 1e6).astype(np.int64)
    return finite


def table_of(function: Callable[[Floats], Floats], source: Tensor, output: Tensor) -> Table:
    """For inputs -128 to 127, in float32."""
    centred = np.arange(-128, 128) - source.zero_point
    with np.errstate(all="ignore"):
        return rounded(function(np.float32(source.scale) * centred.astype(np.float32)), output)


def absolute(centred: Table, source: Tensor, output: Tensor) -> Table:
    """ABS in TensorFlow Lite's fixed point."""
    if source.scale == output.scale:
        return np.abs(centred) + output.zero_point
    scaling = fixed_point.quantise_multiplier(float(np.float32(source.scale / output.scale)))
    return np.array([fixed_point.requantise(abs(int(v)), *scaling) for v in centred]) + output.zero_point


def reciprocal_root(centred: Table, source: Tensor, output: Tensor) -> Table:
    """RSQRT in TensorFlow Lite's fixed point; negative inputs, which it refuses as they come, give what 0 gives."""
    real = 1.0 / float(np.float32(np.sqrt(np.float32(source.scale)) * np.float32(output.scale)))
    multiplier, shift = fixed_point.quantise_multiplier(real)
    made = []
    for value in (int(v) for v in centred):
        if value <= 0:
            made.append(127)
            continue
        root, root_shift = _inverse_root(value)
        data = fixed_point.requantise(1, root, root_shift + 20)
        made.append(fixed_point.requantise(data, multiplier, shift - 20) + output.zero_point)
    return np.array(made, np.int64)


def root(centred: Table, source: Tensor, output: Tensor) -> Table:
    """SQRT rounded down, as TensorFlow Lite has it; of negative inputs, which it refuses as they come, 0."""
    real = np.sqrt(np.float32(source.scale) * np.maximum(centred, 0).astype(np.float32))
    places: Table = np.floor(real / np.float32(output.scale)).astype(np.int64)
    return places + output.zero_point


def _inverse_root(value: int) -> tuple[int, int]:
    """(multiplier, left shift) of 1 / sqrt(value): five Newton steps of TensorFlow Lite in Q3.28."""
    if value <= 1:
        return HIGHEST, 0
    pairs = (32 - value.bit_length() - 1) // 2 - 1
    given = (value << 2 * pairs) >> 1
    half = (given + 1) >> 1
    x = 1 << 28
    for _ in range(5):
        cube = _raised(_product(_product(x, x), x), 6)
        x = _raised(_product((1 << 28) + (1 << 27), x) - _product(half, cube), 3)
    root, shift = _product(x, 1518500250), 11 - pairs
    return (root << -shift, 0) if shift < 0 else (root, -shift)


def _product(a: int, b: int) -> int:
    return (a * b + (1 << 30)) >> 31


def _raised(v: int, bits: int) -> int:
    return max(-HIGHEST - 1, min(HIGHEST, v << bits))
