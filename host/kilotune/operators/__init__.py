"""The operators that a model may consist of: one file per operator, one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from kilotune.operators import arrange, convolution, elementwise, lookup, lstm, pool, softmax
from kilotune.operators.base import ImageOp, Lowering
from kilotune.operators.weighted import Weighted
from kilotune.tflite.model import Operator, TfliteModel

LOWERINGS: Mapping[str, Callable[[Lowering], ImageOp]] = MappingProxyType(
    {
        "FULLY_CONNECTED": convolution.lower_dense,
        "CONV_2D": convolution.lower_convolution,
        "DEPTHWISE_CONV_2D": convolution.lower_depthwise,
        "AVERAGE_POOL_2D": pool.lower_pool,
        "MAX_POOL_2D": pool.lower_pool,
        "MEAN": pool.lower_mean,
        "REDUCE_MAX": pool.lower_max,
        "TRANSPOSE_CONV": convolution.lower_transpose,
        **dict.fromkeys(lookup.KINDS, lookup.lower),
        "ADD": elementwise.lower,
        "SUB": elementwise.lower,
        "MUL": elementwise.lower,
        "CONCATENATION": arrange.lower_concatenation,
        "PAD": arrange.lower_pad,
        "PADV2": arrange.lower_pad,
        "RESIZE_NEAREST_NEIGHBOR": arrange.lower_resize,
        "STRIDED_SLICE": arrange.lower_slice,
        "REVERSE_V2": arrange.lower_reverse,
        "TILE": arrange.lower_tile,
        "RESHAPE": arrange.lower_reshape,
        "SQUEEZE": arrange.lower_reshape,
        "EXPAND_DIMS": arrange.lower_reshape,
        "SOFTMAX": softmax.lower,
        "UNIDIRECTIONAL_SEQUENCE_LSTM": lstm.lower,
    }
)
# Operators that leave no trace in the image: another name for the same tensor, or the border to float.
RESHAPES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
TRANSPARENT = RESHAPES | {"QUANTIZE", "DEQUANTIZE"}


def lower(context: Lowering) -> ImageOp:
    """Lowers one operator, or raises an error that says which are supported."""
    lowering = LOWERINGS.get(context.operator.opcode)
    if lowering is None:
        known = ", ".join(sorted({*LOWERINGS, *TRANSPARENT}))
        raise context.refuse("is not supported", f"replace or remove the layer; supported are {known}")
    op = lowering(context)
    if isinstance(op, Weighted):
        op.require_room(context)
    return op


tiled_extents = arrange.tiled_extents


def has_rows(model: TfliteModel, operator: Operator) -> bool:
    """Whether a FULLY_CONNECTED is applied at each of several positions."""
    tensors = [operator.input(0), operator.input(1), *operator.outputs[:1]]
    if len(tensors) != 3 or min(tensors) < 0 or len(model.tensors[tensors[1]].shape) != 2:
        return False
    source, weight, output = (model.tensors[i] for i in tensors)
    return convolution.is_rows(source, weight, output)
