"""Operators that move values between tensors of any shape: split, slice, stack, unstack, gather.

What such an operator does is a table: for each value of the output, which value of the input it is. The device's GATHER
takes one table for each of height, width and channels, so the input and the output are looked at in shapes in which
that suffices. Where a tensor has another shape in the image, a RESHAPE, which copies in place, leads to the one needed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from kilotune.operators.arrange import FILL, Concatenation, Gather, Reshape, sliced
from kilotune.operators.base import MAX_EXTENT, Activation, Extents, ImageOp, Lowering
from kilotune.operators.checks import check_int8, check_same_quantisation, constant_integers, constant_pairs
from kilotune.tflite.model import Tensor

MAX_VALUES = 1 << 20  # of a tensor that is moved: a table of their numbers takes eight times as many bytes
DAMAGED = "the file is damaged: convert it again"
Table = npt.NDArray[np.int64]  # of the input's values by number, -1 for the fill value
Maps = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def viewed(context: Lowering, activation: int, extents: Extents) -> int:
    """The activation's values in another shape, by a copy if it has not got it."""
    x = context.activations[activation]
    if x.extents == extents:
        return activation
    made = context.temporary(extents, x.scale, x.zero_point)
    return context.emit(_reshape(context, activation, made))


def place(context: Lowering, output: Tensor, extents: Extents) -> int:
    """The activation to write `output` to in this shape; `finished` brings it into the tensor's own."""
    wanted = context.activation(output.index)
    x = context.activations[wanted]
    return wanted if x.extents == extents else context.temporary(extents, x.scale, x.zero_point)


def finished(context: Lowering, op: ImageOp, output: Tensor) -> ImageOp:
    """The last op: the one that writes `output`, or after it a copy in the tensor's own shape."""
    wanted = context.activation(output.index)
    return op if op.output == wanted else _reshape(context, context.emit(op), wanted)


def _reshape(context: Lowering, source: int, target: int) -> Reshape:
    name = context.activations[target].name
    return Reshape(
        source=context.operator.index, name=name, input=source, output=target, operator=context.operator.opcode
    )


def move(context: Lowering, source: Tensor, output: Tensor, table: Table, fill: int = 0) -> ImageOp:
    """The op that writes `output`, of the values of `source` that `table` (the output's shape) names."""
    if table.size != output.elements or output.elements == 0:
        raise context.refuse(f"makes {list(output.shape)} of {list(source.shape)}", DAMAGED)
    x = context.activation(source.index)
    y = context.activation(output.index)
    found = _factored(context.activations[x], context.activations[y], source.shape, output.shape, table)
    if found is None:
        raise context.refuse(
            f"makes {list(output.shape)} of {list(source.shape)} in an order that is not one along height, width and "
            "channels",
            "move values along one dimension at a time",
        )
    inner, outer, maps = found
    x = viewed(context, x, inner)
    made = Gather(
        source=context.operator.index,
        name=output.short_name,
        input=x,
        output=place(context, output, outer),
        operator=context.operator.opcode,
        maps=maps,
        fill=fill,
    )
    return finished(context, made, output)


def _factored(
    x: Activation, y: Activation, inner: Sequence[int], outer: Sequence[int], table: Table
) -> tuple[Extents, Extents, Maps] | None:
    """Shapes of input and output in which the table is one per axis, and those; without copies if possible."""
    sources = [x.extents, *(e for e in foldings(inner) if e != x.extents)]
    targets = [y.extents, *(e for e in foldings(outer) if e != y.extents)]
    pairs = itertools.product(sources, targets)
    for source, target in sorted(pairs, key=lambda pair: (pair[0] != x.extents) + (pair[1] != y.extents)):
        if max(*source, *target) > MAX_EXTENT:
            continue
        maps = _maps(table.reshape(target), source)
        if maps is not None:
            return source, target, maps
    return None


def foldings(shape: Sequence[int]) -> Iterator[Extents]:
    """All ways to see a shape as three neighbouring groups of its dimensions."""
    for i, j in itertools.combinations_with_replacement(range(len(shape) + 1), 2):
        yield math.prod(shape[:i]), math.prod(shape[i:j]), math.prod(shape[j:])


def _maps(table: Table, source: Extents) -> Maps | None:
    """Rows, columns and channels of the input for those of the output; None if one depends on another."""
    given = table >= 0
    whole = np.where(given, table, 0)
    places = (whole // (source[1] * source[2]), whole // source[2] % source[1], whole % source[2])
    lines = []
    for axis, at in enumerate(places):
        others = tuple(a for a in range(3) if a != axis)
        line = np.where(given, at, -1).max(others)  # -1: nothing on this line is given
        lines.append(np.where(line < 0, FILL, line))
    rows, columns, channels = (line.reshape([-1 if a == i else 1 for a in range(3)]) for i, line in enumerate(lines))
    all_given = (rows != FILL) & (columns != FILL) & (channels != FILL)
    made = (rows * source[1] + columns) * source[2] + channels
    if not np.array_equal(all_given, given) or not np.array_equal(made[given], table[given]):
        return None
    first, second, third = (tuple(int(v) for v in line) for line in lines)
    return first, second, third


def numbered(context: Lowering, tensor: Tensor) -> Table:
    """The numbers of a tensor's values, in its shape."""
    _require_few(context, tensor.elements)
    return np.arange(tensor.elements, dtype=np.int64).reshape(tensor.shape)


def _require_few(context: Lowering, values: int) -> None:
    """Called before a table of so many values is made."""
    if values > MAX_VALUES:
        raise context.refuse(
            f"moves {values:,} values", f"up to {MAX_VALUES:,} are supported: make its tensors smaller"
        )


def _checked(context: Lowering, i: int = 0) -> Tensor:
    source = context.tensor(i)
    check_int8(context, source)
    check_same_quantisation(context, source)
    return source


def _several(context: Lowering, source: Tensor, tables: Sequence[Table]) -> ImageOp:
    """One op for each output; `tables` in their order."""
    outputs = [context.model.tensors[i] for i in context.operator.outputs]
    if not outputs or len(tables) != len(outputs):
        raise context.refuse(f"has {len(outputs)} outputs", DAMAGED)
    for output in outputs:
        if output.dtype != "int8" or output.scale != source.scale or output.zero_point != source.zero_point:
            raise context.refuse("changes the quantisation of its parts", "convert the model again")
    used = [k for k, o in enumerate(outputs) if any(context.model.users(o.index)) or o.index in context.model.outputs]
    for k in (used or [0])[:-1]:
        context.emit(move(context, source, outputs[k], tables[k]))
    last = (used or [0])[-1]
    return move(context, source, outputs[last], tables[last])


def lower_split(context: Lowering) -> ImageOp:
    """SPLIT: (axis, input) into equal parts."""
    source = context.tensor(1)
    axis = _given_axis(context, 0, source)
    count = len(context.operator.outputs)
    if count == 0 or source.shape[axis] % count:
        raise context.refuse(f"splits {list(source.shape)} in {count}", DAMAGED)
    return _several(context, source, np.split(numbered(context, source), count, axis))


def lower_split_v(context: Lowering) -> ImageOp:
    """SPLIT_V: (input, sizes, axis)."""
    source = context.tensor(0)
    sizes = constant_integers(context, 1, "sizes").reshape(-1).tolist()
    axis = _given_axis(context, 2, source)
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = source.shape[axis] - sum(n for n in sizes if n >= 0)
    if min(sizes, default=0) < 0 or sum(sizes) != source.shape[axis]:
        raise context.refuse(f"splits {list(source.shape)} in {sizes}", DAMAGED)
    return _several(context, source, np.split(numbered(context, source), np.cumsum(sizes)[:-1].tolist(), axis))


def lower_unpack(context: Lowering) -> ImageOp:
    source = context.tensor(0)
    axis = _axis(context, context.operator.options.axis, source)
    if source.shape[axis] != len(context.operator.outputs):
        raise context.refuse(f"takes {list(source.shape)} apart along dimension {axis}", DAMAGED)
    return _several(context, source, list(np.moveaxis(numbered(context, source), axis, 0)))


def lower_part(context: Lowering) -> ImageOp:
    """SLICE: (input, begin, size)."""
    source = _checked(context)
    begin, size = (constant_integers(context, i, "bounds").reshape(-1).tolist() for i in (1, 2))
    if not len(begin) == len(size) == len(source.shape):
        raise context.refuse(f"has bounds {begin} and {size}", DAMAGED)
    bounds = tuple(slice(b, None if n == -1 else b + n) for b, n in zip(begin, size, strict=True))
    return move(context, source, context.output_tensor(), numbered(context, source)[bounds])


def lower_slice(context: Lowering) -> ImageOp:
    """STRIDED_SLICE with constant bounds."""
    source = context.tensor(0)
    numbers = numbered(context, source)
    return move(context, source, context.output_tensor(), numbers[np.ix_(*sliced(context))])


def lower_take(context: Lowering) -> ImageOp:
    """GATHER with constant indices along one axis."""
    source = _checked(context)
    indices = constant_integers(context, 1, "indices")
    axis = _axis(context, context.operator.options.axis, source)
    if context.operator.options.batch:
        raise context.refuse("takes other values in each row", "use the same indices for all rows")
    if indices.size and not 0 <= indices.min() <= indices.max() < source.shape[axis]:
        raise context.refuse("takes values beyond its input", DAMAGED)
    output, taken = context.output_tensor(), indices.size * (source.elements // max(1, source.shape[axis]))
    if taken != output.elements:
        raise context.refuse(f"makes {list(output.shape)} of {list(source.shape)}", DAMAGED)
    _require_few(context, taken)
    return move(context, source, output, np.take(numbered(context, source), indices, axis))


def lower_transpose(context: Lowering) -> ImageOp:
    source = _checked(context)
    order = constant_integers(context, 1, "an order of dimensions").reshape(-1).tolist()
    if sorted(order) != list(range(len(source.shape))):
        raise context.refuse(f"has an order of {order}", DAMAGED)
    return move(context, source, context.output_tensor(), np.transpose(numbered(context, source), order))


def lower_mirror_pad(context: Lowering) -> ImageOp:
    source = _checked(context)
    pads = constant_pairs(context, 1, "paddings")
    reflects = context.operator.options.axis == 0
    room = [n - reflects for n in source.shape]
    if len(pads) != len(room) or any(not 0 <= p <= n for pair, n in zip(pads, room, strict=True) for p in pair):
        raise context.refuse(f"has paddings {pads}", "pad by less than the extent")
    _require_few(context, math.prod(n + a + b for n, (a, b) in zip(source.shape, pads, strict=True)))
    table = np.pad(numbered(context, source), pads, "reflect" if reflects else "symmetric")
    return move(context, source, context.output_tensor(), table)


def lower_broadcast(context: Lowering) -> ImageOp:
    """BROADCAST_TO a constant shape."""
    source, output = _checked(context), context.output_tensor()
    _require_few(context, output.elements)
    try:
        table = np.broadcast_to(numbered(context, source), output.shape)
    except ValueError as error:
        raise context.refuse(f"makes {list(output.shape)} of {list(source.shape)}", "convert it again") from error
    return move(context, source, output, table)


def lower_space(context: Lowering) -> ImageOp:
    """DEPTH_TO_SPACE and SPACE_TO_DEPTH."""
    source, output = _checked(context), context.output_tensor()
    small = source if context.operator.opcode == "DEPTH_TO_SPACE" else output
    block = context.operator.options.axis
    if len(small.shape) != 4 or block < 1 or small.shape[3] % (block * block):
        raise context.refuse(f"has blocks of {block} in {list(source.shape)}", DAMAGED)
    batch, height, width, channels = small.shape
    cells = numbered(context, small).reshape(batch, height, width, block, block, channels // block**2)
    inside = cells.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * block, width * block, -1)
    if context.operator.opcode == "SPACE_TO_DEPTH":
        inside = np.argsort(inside.reshape(-1), kind="stable").reshape(small.shape)
    return move(context, source, output, inside)


def lower_pack(context: Lowering) -> ImageOp:
    """PACK: joins along a new axis, seen as (before it, it, after it)."""
    tensors = [context.tensor(i) for i in range(len(context.operator.inputs))]
    output = context.output_tensor()
    check_int8(context, *tensors)
    check_same_quantisation(context, *tensors)
    rank, axis = len(output.shape), context.operator.options.axis
    axis += rank if axis < 0 else 0
    same = all(t.shape == tensors[0].shape for t in tensors)
    if not same or not 0 <= axis < rank or output.elements != sum(t.elements for t in tensors):
        raise context.refuse(f"stacks {[list(t.shape) for t in tensors]}", DAMAGED)
    before, after = math.prod(output.shape[:axis]), math.prod(output.shape[axis + 1 :])
    parts = tuple(viewed(context, context.activation(t.index), (before, 1, after)) for t in tensors)
    made = Concatenation(
        source=context.operator.index,
        name=output.short_name,
        input=parts[0],
        output=place(context, output, (before, len(parts), after)),
        operator="PACK",
        inputs_=parts,
        axis=1,
    )
    return finished(context, made, output)


def _given_axis(context: Lowering, i: int, source: Tensor) -> int:
    """The dimension that the operator's i-th input names."""
    axes = constant_integers(context, i, "an axis").reshape(-1).tolist()
    if len(axes) != 1:
        raise context.refuse(f"has {len(axes)} axes", DAMAGED)
    return _axis(context, axes[0], source)


def _axis(context: Lowering, axis: int, source: Tensor) -> int:
    rank = len(source.shape)
    if not -rank <= axis < rank:
        raise context.refuse(f"works along dimension {axis} of {list(source.shape)}", DAMAGED)
    return axis % rank
