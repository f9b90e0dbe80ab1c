"""Operators that only move values: CONCATENATION, PAD, RESIZE_NEAREST_NEIGHBOR, STRIDED_SLICE, TILE,
REVERSE_V2, RESHAPE."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilotune.image.real16 import pack_factor
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
from kilotune.operators.checks import (
    check_int8,
    check_same_quantisation,
    constant_integers,
    constant_pairs,
    extents_of,
)
from kilotune.tflite.model import Operator, TfliteModel

CONCATENATION, GATHER, RESHAPE = 11, 12, 13
FILL = 0xFFFF
Extents = tuple[int, int, int]  # height, width, channels
MAX_INDEX = 65535


@dataclass(frozen=True, slots=True)
class Move(ParameterFree):
    """Base of these operators: no arithmetic, no range to clamp to."""

    @property
    def clamps(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Concatenation(Move):
    """`axis`: 0 height, 1 width, 2 channels."""

    inputs_: tuple[int, ...]
    axis: int

    @property
    def reads(self) -> tuple[int, ...]:
        return self.inputs_

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        entries = b""
        for k, tensor in enumerate(self.inputs_):
            sends = bool(plan.sends) and plan.sends[k]
            adds = bool(plan.adds) and plan.adds[k]
            scale = pack_factor(plan.factors[k]) if plan.factors else bytes(4)
            entries += struct.pack("<HH4s", tensor, sends | 2 * adds, scale)
        return pack_op(
            opcode=CONCATENATION,
            flags=0,
            input=self.input,
            output=self.output,
            offsets=(sections.add(entries), 0, 0, 0),
            plan=plan,
            training=write_training(sections, plan),
            words=(len(self.inputs_), self.axis),
        )


@dataclass(frozen=True, slots=True)
class Gather(Move):
    """Output (row, column, channel) is the input at the place in `maps`, or `fill` if one of them is FILL."""

    maps: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    fill: int

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        rows, columns, channels = (sections.add(np.array(m, "<u2").tobytes()) for m in self.maps)
        return pack_op(
            opcode=GATHER,
            flags=flags_of(plan),
            input=self.input,
            output=self.output,
            offsets=(rows, columns, channels, 0),
            plan=plan,
            training=write_training(sections, plan),
            words=(self.fill & 0xFF,),
        )


@dataclass(frozen=True, slots=True)
class Reshape(Move):
    """A copy, needed if two operators read the same values in different shapes."""

    def overwrites(self, activations: Sequence[Activation]) -> tuple[tuple[int, int], ...]:
        return ((self.input, 0),)

    def can_share(self, activations: Sequence[Activation]) -> bool:
        x, y = activations[self.input], activations[self.output]
        return x.channels == y.channels

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        return pack_op(
            opcode=RESHAPE,
            flags=flags_of(plan),
            input=self.input,
            output=self.output,
            plan=plan,
            training=write_training(sections, plan),
        )


def lower_concatenation(context: Lowering) -> Concatenation:
    tensors = [context.tensor(i) for i in range(len(context.operator.inputs))]
    output = context.output_tensor()
    check_int8(context, *tensors)
    check_same_quantisation(context, *tensors)
    rank, axis = len(output.shape), context.operator.options.axis
    whole, parts = extents_of(context, output), [extents_of(context, t) for t in tensors]
    axis = (axis + rank if axis < 0 else axis) + 3 - rank
    good = 0 <= axis <= 2 and not (rank > 1 and axis + rank - 3 == 0)
    good = good and sum(p[axis] for p in parts) == whole[axis]
    good = good and all(p[i] == whole[i] for p in parts for i in range(3) if i != axis)
    if not good or context.operator.options.activation != "NONE":
        raise context.refuse(
            f"joins {[list(t.shape) for t in tensors]} along dimension {context.operator.options.axis} into "
            f"{list(output.shape)}",
            "join along height, width or channels, with a batch of 1 and without an activation",
        )
    inputs = tuple(context.activation(t.index) for t in tensors)
    return Concatenation(
        source=context.operator.index,
        name=output.short_name,
        input=inputs[0],
        output=context.activation(output.index),
        operator="CONCATENATION",
        inputs_=inputs,
        axis=axis,
    )


def _gather(context: Lowering, maps: list[list[int]], fill: int = 0, *, whole: Extents | None = None) -> Gather:
    """`whole`: the output's extents, if they differ from its shape."""
    source, output = context.tensor(0), context.output_tensor()
    whole = whole or extents_of(context, output)
    if tuple(len(m) for m in maps) != whole:
        raise context.refuse(
            f"makes {list(output.shape)} of {list(source.shape)}",
            "keep the order of dimensions: only leading ones of size 1 may be dropped",
        )
    rows, columns, channels = (tuple(m) for m in maps)
    return Gather(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(source.index),
        output=context.activation(output.index),
        operator=context.operator.opcode,
        maps=(rows, columns, channels),
        fill=fill,
    )


def lower_pad(context: Lowering) -> Gather:
    """PAD with the zero point, PADV2 with a constant."""
    source, output = context.tensor(0), context.output_tensor()
    check_int8(context, source)
    check_same_quantisation(context, source)
    pads = constant_pairs(context, 1, "paddings")
    rank = len(source.shape)
    bad = len(pads) != rank or any(not 0 <= n <= MAX_INDEX for pair in pads for n in pair)
    if bad or (rank > 1 and pads[0] != (0, 0)):
        raise context.refuse(f"has paddings {pads}", "pad along height, width or channels only, not along the batch")
    fill = output.zero_point
    if context.operator.opcode == "PADV2":
        value = context.tensor(2)
        if not value.constant or value.dtype != "int8" or value.elements != 1:
            raise context.refuse("has a padding value that is computed", "use a constant value")
        fill = int(value.values().reshape(-1)[0])
    extents = extents_of(context, source)
    around = [(0, 0)] * (3 - (rank - 1)) + pads[1:]
    maps = [
        [FILL] * before + list(range(n)) + [FILL] * after
        for n, (before, after) in zip(extents, around[-3:], strict=True)
    ]
    return _gather(context, maps, fill)


def lower_resize(context: Lowering) -> Gather:
    source, output = context.tensor(0), context.output_tensor()
    check_int8(context, source)
    check_same_quantisation(context, source)
    extents, whole = extents_of(context, source), extents_of(context, output)
    options = context.operator.options
    maps = [
        _nearest(n, out, options.align_corners, options.half_pixel_centers)
        for n, out in zip(extents[:2], whole[:2], strict=True)
    ]
    return _gather(context, [*maps, list(range(extents[2]))])


def _nearest(n: int, out: int, align_corners: bool, half_pixel_centers: bool) -> list[int]:
    """TensorFlow Lite's GetNearestNeighbor, in float32."""
    aligned = align_corners and out > 1
    scale = np.float32(n - 1) / np.float32(out - 1) if aligned else np.float32(n) / np.float32(out)
    offset = np.float32(0.5 if half_pixel_centers else 0.0)
    at = ((np.arange(out, dtype=np.float32) + offset) * scale).astype(np.float32)
    chosen = np.floor(at.astype(np.float64) + 0.5) if align_corners else np.floor(at)
    return [int(i) for i in np.clip(chosen, 0, n - 1)]


def sliced(context: Lowering) -> list[list[int]]:
    """The indices that a STRIDED_SLICE with constant bounds takes, for each dimension of its input."""
    source = context.tensor(0)
    check_int8(context, source)
    check_same_quantisation(context, source)
    begin, end, strides = (constant_integers(context, i, "bounds").reshape(-1).tolist() for i in (1, 2, 3))
    begin_mask, end_mask, ellipsis, new_axis, shrink = context.operator.options.masks
    if ellipsis or new_axis or not len(begin) == len(end) == len(strides) <= len(source.shape) or 0 in strides:
        raise context.refuse("slices with an ellipsis or a new axis", "write out all dimensions of the slice")
    indices = [list(range(n)) for n in source.shape]
    for axis, (first, last, stride) in enumerate(zip(begin, end, strides, strict=True)):
        numbers = indices[axis]
        if shrink >> axis & 1:
            indices[axis] = numbers[first : first + 1 or None]
            continue
        bounds = slice(None if begin_mask >> axis & 1 else first, None if end_mask >> axis & 1 else last, stride)
        indices[axis] = numbers[bounds]
    return indices


def lower_reverse(context: Lowering) -> Gather:
    """REVERSE_V2: a sequence in reverse order, for an LSTM that runs backwards."""
    source = context.tensor(0)
    check_int8(context, source)
    check_same_quantisation(context, source)
    rank = len(source.shape)
    axes = constant_integers(context, 1, "axes").reshape(-1).tolist()
    if any(not -rank <= axis < rank for axis in axes):
        raise context.refuse(f"reverses axes {axes} of {list(source.shape)}", "the file is damaged: convert it again")
    turned = {axis % rank + 3 - rank for axis in axes}
    extents = extents_of(context, source)
    return _gather(context, [list(range(n))[:: -1 if i in turned else 1] for i, n in enumerate(extents)])


def lower_tile(context: Lowering) -> Gather:
    """TILE: Keras' RepeatVector."""
    source = context.tensor(0)
    check_int8(context, source)
    check_same_quantisation(context, source)
    times = constant_integers(context, 1, "multiples").reshape(-1).tolist()
    if len(times) != len(source.shape) or min(times, default=1) < 1 or (len(times) > 1 and times[0] != 1):
        raise context.refuse(
            f"repeats {list(source.shape)} {times} times",
            "repeat along height, width or channels only, not along the batch",
        )
    tiled = tiled_extents(context.model, context.operator)
    extents, counts = extents_of(context, source) if tiled is None else tiled[0], [1] * 3 + times[1:]
    if tiled is not None:
        counts = [1, max(times), 1]
    elif len(times) == 1:
        counts = [1, 1, times[0]]
    if max(n * k for n, k in zip(extents, counts[-3:], strict=True)) > MAX_INDEX:
        raise context.refuse(
            f"repeats {list(source.shape)} {times} times", f"an extent of up to {MAX_INDEX} is supported"
        )
    maps = [list(range(n)) * k for n, k in zip(extents, counts[-3:], strict=True)]
    return _gather(context, maps, whole=None if tiled is None else tiled[1])


def tiled_extents(model: TfliteModel, operator: Operator) -> tuple[Extents, Extents] | None:
    """Extents of input and output of a TILE with more than four dimensions along one of them (Keras' UpSampling2D):
    the dimensions before it, itself, and those after it; None for others."""
    if operator.opcode != "TILE" or min(operator.input(0), operator.input(1), len(operator.outputs) - 1) < 0:
        return None
    source, multiples = model.tensors[operator.input(0)], model.tensors[operator.input(1)]
    if len(source.shape) <= 4 or not multiples.constant or multiples.elements != len(source.shape):
        return None
    times = multiples.values().reshape(-1).tolist()
    axes = [i for i, k in enumerate(times) if k != 1]
    if len(axes) != 1 or source.shape[0] != 1 or axes[0] == 0:
        return None
    axis = axes[0]
    before, n, behind = math.prod(source.shape[:axis]), source.shape[axis], math.prod(source.shape[axis + 1 :])
    return (before, n, behind), (before, n * times[axis], behind)


def lower_reshape(context: Lowering) -> Reshape:
    source, output = context.tensor(0), context.output_tensor()
    check_int8(context, source)
    return Reshape(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(source.index),
        output=context.activation(output.index),
        operator=context.operator.opcode,
    )
