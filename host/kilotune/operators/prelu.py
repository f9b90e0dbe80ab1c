"""PRELU: below zero, each value is multiplied by a number of its own.

It is made of ops that exist: the part above zero and the part below are tables, the second is multiplied, and they are
added. One of the two is always zero, so the sum is exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kilotune.image.layout import NO_TENSOR
from kilotune.operators.base import ImageOp, Lowering
from kilotune.operators.checks import check_int8, extents_of
from kilotune.operators.elementwise import LEFT_SHIFT, Elementwise, constant_of
from kilotune.operators.lookup import Lookup, Table, lookup
from kilotune.operators.views import finished, place, viewed
from kilotune.tflite import fixed_point
from kilotune.tflite.model import Tensor

UNCHANGED = ((1 << 30, 0), (1 << 30, 0), (1 << 30, 1 - LEFT_SHIFT + 1))  # of an ADD whose scales are the same


def lower(context: Lowering) -> ImageOp:
    source, slope, output = context.tensor(0), context.tensor(1), context.output_tensor()
    check_int8(context, source, slope)
    if not slope.constant:
        raise context.refuse("has slopes that are computed", "use constant slopes")
    centred = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    above = _scaled(np.maximum(centred, 0), float(source.scale) / float(output.scale)) + output.zero_point
    numbers = np.unique(slope.values().astype(np.int64)) - slope.zero_point
    factor = float(source.scale) * float(slope.scale) / float(output.scale)
    if numbers.size == 1:
        below = _scaled(np.minimum(centred, 0) * int(numbers[0]), factor)
        real = float(numbers[0]) * float(slope.scale)
        return _one_slope(
            context, source, output, centred, np.where(centred >= 0, above, below + output.zero_point), real
        )
    extents = extents_of(context, output)
    positive = _part(context, source, output.scale, output.zero_point, above, centred > 0)
    negative = _part(
        context, source, source.scale, source.zero_point, np.minimum(centred, 0) + source.zero_point, centred < 0
    )
    product = Elementwise(
        source=context.operator.index,
        name=context.output_name,
        input=negative,
        output=context.temporary(extents, output.scale, output.zero_point),
        operator="MUL",
        input2=NO_TENSOR,
        constant=constant_of(context, slope, output),
        zero_point=slope.zero_point,
        scalings=(fixed_point.quantise_multiplier(factor),),
        act_range=(-128, 127),
        scales=(float(source.scale), float(slope.scale)),
    )
    made = Elementwise(
        source=context.operator.index,
        name=output.short_name,
        input=positive,
        output=place(context, output, extents),
        operator="ADD",
        input2=context.emit(product),
        constant=np.zeros((0, 0, 0), np.int8),
        zero_point=0,
        scalings=UNCHANGED,
        act_range=(-128, 127),
        scales=(float(output.scale), float(output.scale)),
    )
    return finished(context, made, output)


def _one_slope(context: Lowering, source: Tensor, output: Tensor, centred: Table, table: Table, slope: float) -> Lookup:
    real = centred * float(source.scale)
    return lookup(
        context, source, output, table, np.where(real > 0, 1.0, slope), np.where(real > 0, real, slope * real)
    )


def _part(
    context: Lowering, source: Tensor, scale: np.float32, zero_point: int, table: Table, passes: npt.NDArray[np.bool_]
) -> int:
    """A table whose slopes are 1 where a value `passes` and is not clamped."""
    inside = passes & (table > -128) & (table < 127)
    part = Lookup(
        source=context.operator.index,
        name=context.output_name,
        input=viewed(context, context.activation(source.index), extents_of(context, source)),
        output=context.temporary(extents_of(context, source), scale, zero_point),
        operator="PRELU",
        table=np.clip(table, -128, 127).astype(np.int8),
        slopes=inside.astype(np.float64),
    )
    return context.emit(part)


def _scaled(values: Table, factor: float) -> Table:
    scaling = fixed_point.quantise_multiplier(factor)
    return np.array([fixed_point.requantise(int(v), *scaling) for v in values], np.int64)
