"""The operators that a model may consist of: one file per operator, one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from kilotune.operators import arrange, convolution, elementwise, extremes, lookup, lstm, pool, prelu, softmax, views
from kilotune.operators.base import ImageOp, Lowering
from kilotune.operators.remedies import remedy
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
        "SUM": pool.lower_mean,
        "MAXIMUM": extremes.lower,
        "MINIMUM": extremes.lower,
        "PRELU": prelu.lower,
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
        "STRIDED_SLICE": views.lower_slice,
        "SLICE": views.lower_part,
        "SPLIT": views.lower_split,
        "SPLIT_V": views.lower_split_v,
        "PACK": views.lower_pack,
        "UNPACK": views.lower_unpack,
        "GATHER": views.lower_take,
        "TRANSPOSE": views.lower_transpose,
        "MIRROR_PAD": views.lower_mirror_pad,
        "BROADCAST_TO": views.lower_broadcast,
        "DEPTH_TO_SPACE": views.lower_space,
        "SPACE_TO_DEPTH": views.lower_space,
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
# Operators that take their tensors in whatever shape these have in the image.
ANY_SHAPE = frozenset(
    {
        "SLICE",
        "SPLIT",
        "SPLIT_V",
        "PACK",
        "UNPACK",
        "GATHER",
        "TRANSPOSE",
        "MIRROR_PAD",
        "BROADCAST_TO",
        "DEPTH_TO_SPACE",
        "SPACE_TO_DEPTH",
    }
)


def lower(context: Lowering) -> list[ImageOp]:
    """The ops of one operator, or an error that says what to do instead."""
    opcode = context.operator.opcode
    lowering = lookup.lower_function if context.operator.options.function is not None else LOWERINGS.get(opcode)
    if lowering is None:
        raise context.refuse("is not supported", remedy(opcode))
    op = lowering(context)
    if isinstance(op, Weighted):
        op.require_room(context)
    return [*context.emitted, op]


tiled_extents = arrange.tiled_extents


def has_rows(model: TfliteModel, operator: Operator) -> bool:
    """Whether a FULLY_CONNECTED is applied at each of several positions."""
    tensors = [operator.input(0), operator.input(1), *operator.outputs[:1]]
    if len(tensors) != 3 or min(tensors) < 0 or len(model.tensors[tensors[1]].shape) != 2:
        return False
    source, weight, output = (model.tensors[i] for i in tensors)
    return convolution.is_rows(source, weight, output)
