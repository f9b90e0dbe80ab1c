"""Checks of an operator's tensors that several lowerings share."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kilotune.operators.base import MAX_EXTENT, Lowering
from kilotune.tflite import fixed_point
from kilotune.tflite.model import Tensor


def check_int8(context: Lowering, *tensors: Tensor) -> None:
    for tensor in (*tensors, context.output_tensor()):
        if tensor.dtype != "int8":
            raise context.refuse(
                f"has tensor '{tensor.short_name}' of type {tensor.dtype}",
                "convert the model with full int8 quantisation (`kilotune quantize`)",
            )


def check_same_quantisation(context: Lowering, *tensors: Tensor) -> None:
    output = context.output_tensor()
    for tensor in tensors:
        if tensor.scale != output.scale or tensor.zero_point != output.zero_point:
            raise context.refuse(
                f"changes the quantisation of '{tensor.short_name}'",
                "TensorFlow Lite requires the same scale and zero point: convert the model again",
            )


def extents_of(context: Lowering, tensor: Tensor) -> tuple[int, int, int]:
    """(height, width, channels) of a batch of 1."""
    rest = tensor.shape[1:] if len(tensor.shape) > 1 else tensor.shape
    if len(rest) > 3 or (len(tensor.shape) > 1 and tensor.shape[0] != 1):
        raise context.refuse(f"has a tensor of shape {list(tensor.shape)}", "(1, height, width, channels) is supported")
    if not all(1 <= n <= MAX_EXTENT for n in rest):
        raise context.refuse(
            f"has a tensor of shape {list(tensor.shape)}", f"each extent must be between 1 and {MAX_EXTENT}"
        )
    height, width, channels = (1,) * (3 - len(rest)) + rest
    return height, width, channels


def constant_integers(context: Lowering, i: int, what: str) -> npt.NDArray[np.int64]:
    """Values of the operator's i-th input, which must be an integer constant."""
    tensor = context.tensor(i)
    if not tensor.constant or tensor.dtype not in ("int32", "int64"):
        raise context.refuse(f"has {what} that are computed", f"use constant {what}")
    values: npt.NDArray[np.int64] = tensor.values().astype(np.int64)
    return values


def constant_pairs(context: Lowering, i: int, what: str) -> list[tuple[int, int]]:
    """The same, two for each dimension."""
    values = constant_integers(context, i, what).reshape(-1).tolist()
    if len(values) % 2:
        raise context.refuse(f"has {len(values)} {what}, not two for each dimension", "convert the model again")
    return list(zip(values[::2], values[1::2], strict=True))


def activation_range(context: Lowering, scale: np.float32, zero_point: int) -> tuple[int, int]:
    low, high = fixed_point.activation_range(context.operator.options.activation, scale, zero_point)
    if not -128 <= low < high <= 127 or math.isnan(float(scale)):
        raise context.refuse(
            "has an output quantisation that its activation cannot reach",
            "quantise the model again with representative data",
        )
    return low, high
