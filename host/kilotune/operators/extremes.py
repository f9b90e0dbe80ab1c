"""MAXIMUM and MINIMUM of two tensors: the larger of both is the largest of a window over the two, one after the other.

The smaller of two is the larger of both turned around, -1 - q, which maps int8 onto itself. With one number for all
values it is a table.
"""

from __future__ import annotations

import numpy as np

from kilotune.operators.arrange import Concatenation
from kilotune.operators.base import ImageOp, Lowering
from kilotune.operators.checks import check_int8, check_same_quantisation
from kilotune.operators.geometry import Geometry
from kilotune.operators.lookup import Lookup, lookup
from kilotune.operators.pool import Pool
from kilotune.operators.views import finished, place, viewed
from kilotune.tflite.model import Tensor

TURNED = (-1 - np.arange(-128, 128)).astype(np.int8)


def lower(context: Lowering) -> ImageOp:
    first, second, output = context.tensor(0), context.tensor(1), context.output_tensor()
    check_int8(context, first, second)
    check_same_quantisation(context, first, second)
    if first.constant or second.constant:
        return _with_number(context, *((second, first) if first.constant else (first, second)))
    if not first.elements == second.elements == output.elements:
        raise context.refuse(f"compares {list(first.shape)} and {list(second.shape)}", "use tensors of the same shape")
    size = output.elements
    parts = [viewed(context, context.activation(t.index), (1, 1, size)) for t in (first, second)]
    turns = context.operator.opcode == "MINIMUM"
    if turns:
        parts = [context.emit(_turn(context, part, _new(context, output, (1, 1, size)))) for part in parts]
    both = Concatenation(
        source=context.operator.index,
        name=context.output_name,
        input=parts[0],
        output=_new(context, output, (2, 1, size)),
        operator=context.operator.opcode,
        inputs_=tuple(parts),
        axis=0,
    )
    flat = _new(context, output, (1, 1, size)) if turns else place(context, output, (1, 1, size))
    larger = Pool(
        source=context.operator.index,
        name=output.short_name,
        input=context.emit(both),
        output=flat,
        operator=context.operator.opcode,
        geometry=Geometry((2, 1), (1, 1), (1, 1), (0, 0)),
        act_range=(-128, 127),
        largest=2,
        size=size,
    )
    made: ImageOp = larger
    if turns:
        flat = place(context, output, (1, 1, size))
        made = _turn(context, context.emit(larger), flat)
    return finished(context, made, output)


def _new(context: Lowering, output: Tensor, extents: tuple[int, int, int]) -> int:
    return context.temporary(extents, output.scale, output.zero_point)


def _turn(context: Lowering, source: int, target: int) -> Lookup:
    return Lookup(
        source=context.operator.index,
        name=context.output_name,
        input=source,
        output=target,
        operator=context.operator.opcode,
        table=TURNED,
        slopes=np.full(256, -1.0),
    )


def _with_number(context: Lowering, source: Tensor, constant: Tensor) -> Lookup:
    numbers = np.unique(constant.values().astype(np.int64))
    output = context.output_tensor()
    if source.constant or numbers.size != 1 or source.elements != output.elements:
        raise context.refuse("compares with several numbers", "compare with one number, or with an activation")
    values, number = np.arange(-128, 128), int(numbers[0])
    larger = context.operator.opcode == "MAXIMUM"
    table = np.maximum(values, number) if larger else np.minimum(values, number)
    real = (table - output.zero_point) * float(output.scale)
    passes = values > number if larger else values < number
    return lookup(context, source, output, table, passes.astype(np.float64), real)
