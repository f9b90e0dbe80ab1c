"""ADD and MUL of two activations, or of one and a constant number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kilotune import quantisation
from kilotune.operators.base import (
    Activation,
    ImageOp,
    Lowering,
    OpPlan,
    ParameterFree,
    SectionWriter,
    flags_of,
    pack_op,
    write_training,
)
from kilotune.operators.checks import check_int8, extents_of
from kilotune.operators.dense import activation_range
from kilotune.operators.lookup import Lookup, requantise
from kilotune.tflite_model import Tensor

ADD, MUL = 9, 10
LEFT_SHIFT = 20


@dataclass(frozen=True, slots=True)
class Elementwise(ParameterFree):
    """`scalings`: (multiplier, shift) of the inputs and the sum, or of the product."""

    input2: int
    scalings: tuple[tuple[int, int], ...]
    act_range: tuple[int, int]
    scales: tuple[float, float]  # of the inputs

    @property
    def reads(self) -> tuple[int, ...]:
        return self.input, self.input2

    def overwrites(self, activations: Sequence[Activation]) -> tuple[tuple[int, int], ...]:
        size = activations[self.output].elements
        return tuple((a, 0) for a in self.reads if activations[a].elements == size)

    @property
    def gradient_gains(self) -> tuple[float, ...]:
        return (1.0, 1.0) if self.operator == "ADD" else (self.scales[1], self.scales[0])

    def reads_input_backward(self, plan: OpPlan) -> bool:
        return plan.to_input and self.operator == "MUL"

    def can_share(self, activations: Sequence[Activation]) -> bool:
        return True

    def backward_scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        return 8 * activations[self.output].channels if plan.to_input else 0

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        multipliers = [m for m, _ in self.scalings] + [0] * (3 - len(self.scalings))
        shifts = sum((s & 0xFF) << (8 * i) for i, (_, s) in enumerate(self.scalings))
        return pack_op(
            opcode=ADD if self.operator == "ADD" else MUL,
            flags=flags_of(plan),
            input=self.input,
            input2=self.input2,
            output=self.output,
            act_range=self.act_range,
            plan=plan,
            training=write_training(sections, plan),
            words=(*multipliers, shifts),
        )


def lower(context: Lowering) -> ImageOp:
    """Reads one ADD or MUL; one of the inputs may have a single position, or be a constant number."""
    first, second, output = context.tensor(0), context.tensor(1), context.output_tensor()
    check_int8(context, first, second)
    if first.constant:
        first, second = second, first
    if second.constant:
        return _with_constant(context, first, second, output)
    whole = extents_of(context, output)
    if extents_of(context, first) != whole:
        first, second = second, first
    small = extents_of(context, second)
    if extents_of(context, first) != whole or small not in (whole, (1, 1, whole[2])):
        raise context.refuse(
            f"combines {list(first.shape)} and {list(second.shape)}",
            "two tensors of one shape, or one with a single position, are supported",
        )
    add = context.operator.opcode == "ADD"
    return Elementwise(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(first.index),
        output=context.activation(output.index),
        operator=context.operator.opcode,
        input2=context.activation(second.index),
        scalings=_add_scalings(first, second, output) if add else _mul_scalings(first, second, output),
        act_range=activation_range(context, output.scale, output.zero_point),
        scales=(float(first.scale), float(second.scale)),
    )


def _with_constant(context: Lowering, source: Tensor, constant: Tensor, output: Tensor) -> Lookup:
    """A function of one value: as a table, computed as the operator would."""
    numbers = np.unique(constant.values().astype(np.int64))
    if source.constant or numbers.size != 1 or extents_of(context, source) != extents_of(context, output):
        raise context.refuse(
            f"has a constant operand of {numbers.size} values",
            "one constant number is supported: scale or shift by channel in the layer before",
        )
    add = context.operator.opcode == "ADD"
    centred = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    number = int(numbers[0]) - constant.zero_point
    if add:
        scalings = _add_scalings(source, constant, output)
        other = requantise(number << LEFT_SHIFT, *scalings[1])
        values = [requantise(int(v) << LEFT_SHIFT, *scalings[0]) + other for v in centred]
        results = [requantise(v, *scalings[2]) for v in values]
    else:
        (scaling,) = _mul_scalings(source, constant, output)
        results = [requantise(int(v) * number, *scaling) for v in centred]
    low, high = activation_range(context, output.scale, output.zero_point)
    exact = np.array(results, np.int64) + output.zero_point
    slope = 1.0 if add else number * float(constant.scale)
    return Lookup(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(source.index),
        output=context.activation(output.index),
        operator=context.operator.opcode,
        table=np.clip(exact, low, high).astype(np.int8),
        slopes=np.where((exact <= low) | (exact >= high), 0.0, slope),
    )


def _add_scalings(first: Tensor, second: Tensor, output: Tensor) -> tuple[tuple[int, int], ...]:
    twice = 2.0 * float(max(first.scale, second.scale))
    factors = (
        float(first.scale) / twice,
        float(second.scale) / twice,
        twice / ((1 << LEFT_SHIFT) * float(output.scale)),
    )
    return tuple(quantisation.quantise_multiplier(f) for f in factors)


def _mul_scalings(first: Tensor, second: Tensor, output: Tensor) -> tuple[tuple[int, int], ...]:
    """In float32, as TensorFlow Lite does; TensorFlow Lite Micro has it in double."""
    product = np.float32(np.float32(first.scale) * np.float32(second.scale))
    return (quantisation.quantise_multiplier(float(np.float32(product / np.float32(output.scale)))),)
