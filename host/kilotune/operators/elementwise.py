"""ADD, SUB and MUL of two activations, or of one and a constant; extents of 1 are broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kilotune.image.layout import NO_TENSOR
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
from kilotune.operators.checks import activation_range, check_int8, extents_of
from kilotune.operators.lookup import Lookup
from kilotune.operators.views import viewed
from kilotune.tflite import fixed_point
from kilotune.tflite.model import Tensor

ADD, MUL = 9, 10
LEFT_SHIFT = 20
SUBTRACTS = 1 << 24  # flag in the word with the shifts


@dataclass(frozen=True, slots=True)
class Elementwise(ParameterFree):
    """`input2` is NO_TENSOR if there is a `constant`, (height, width, channels) int8 with `zero_point`.
    `scalings`: (multiplier, shift) of the inputs and the sum, or of the product."""

    input2: int
    constant: npt.NDArray[np.int8]
    zero_point: int
    scalings: tuple[tuple[int, int], ...]
    act_range: tuple[int, int]
    scales: tuple[float, float]  # of the inputs

    @property
    def reads(self) -> tuple[int, ...]:
        return (self.input,) if self.constant.size else (self.input, self.input2)

    def overwrites(self, activations: Sequence[Activation]) -> tuple[tuple[int, int], ...]:
        size = activations[self.output].elements
        return tuple((a, 0) for a in self.reads if activations[a].elements == size)

    @property
    def gradient_gains(self) -> tuple[float, ...]:
        gains = (self.scales[1], self.scales[0]) if self.operator == "MUL" else (1.0, 1.0)
        return gains[: len(self.reads)]

    def reads_input_backward(self, plan: OpPlan) -> bool:
        return plan.to_input and self.operator == "MUL" and not self.constant.size

    def can_share(self, activations: Sequence[Activation]) -> bool:
        x, y = activations[self.input], activations[self.output]
        return (x.height, x.width, x.channels) == (y.height, y.width, y.channels)

    def backward_scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        return 8 * activations[self.output].channels if plan.to_input else 0

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        multipliers = [m for m, _ in self.scalings] + [0] * (3 - len(self.scalings))
        shifts = sum((s & 0xFF) << (8 * i) for i, (_, s) in enumerate(self.scalings))
        extents, weights = (0, 0), 0
        if self.constant.size:
            height, width, channels = self.constant.shape
            extents = height | width << 16, channels | (self.zero_point & 0xFF) << 16
            weights = sections.add(self.constant.tobytes())
        return pack_op(
            opcode=MUL if self.operator == "MUL" else ADD,
            flags=flags_of(plan),
            input=self.input,
            input2=self.input2,
            output=self.output,
            act_range=self.act_range,
            offsets=(weights, 0, 0, 0),
            plan=plan,
            training=write_training(sections, plan),
            words=(*multipliers, shifts | SUBTRACTS * (self.operator == "SUB"), *extents),
        )


def lower(context: Lowering) -> ImageOp:
    """Reads one ADD, SUB or MUL."""
    first, second, output = context.tensor(0), context.tensor(1), context.output_tensor()
    check_int8(context, first, second)
    if first.constant or second.constant:
        made = _with_number(context, first, second, output)
        if made is not None:
            return made
    if first.constant and context.operator.opcode != "SUB":
        first, second = second, first
    if first.constant:
        raise context.refuse(
            "subtracts from a constant of several values, or has two constants",
            "subtract the constant instead, and change signs in the layer after it",
        )
    if not second.constant and first.shape == second.shape == output.shape:
        return _alike(context, first, second, output)
    constant = constant_of(context, second, output) if second.constant else np.zeros((0, 0, 0), np.int8)
    extents = constant.shape if second.constant else extents_of(context, second)
    _check_broadcast(context, extents_of(context, first), extents, extents_of(context, output))
    inputs = context.activation(first.index), NO_TENSOR if second.constant else context.activation(second.index)
    return _made(context, first, second, output, inputs, constant)


def _alike(context: Lowering, first: Tensor, second: Tensor, output: Tensor) -> Elementwise:
    """Of two tensors of one shape, whatever it is: all three are seen in the output's."""
    extents = context.activations[context.activation(output.index)].extents
    inputs = tuple(viewed(context, context.activation(t.index), extents) for t in (first, second))
    return _made(context, first, second, output, (inputs[0], inputs[1]), np.zeros((0, 0, 0), np.int8))


def _made(
    context: Lowering,
    first: Tensor,
    second: Tensor,
    output: Tensor,
    inputs: tuple[int, int],
    constant: npt.NDArray[np.int8],
) -> Elementwise:
    return Elementwise(
        source=context.operator.index,
        name=output.short_name,
        input=inputs[0],
        output=context.activation(output.index),
        operator=context.operator.opcode,
        input2=inputs[1],
        constant=constant,
        zero_point=second.zero_point,
        scalings=_scalings(context, first, second, output),
        act_range=activation_range(context, output.scale, output.zero_point),
        scales=(float(first.scale), float(second.scale)),
    )


def constant_of(context: Lowering, tensor: Tensor, output: Tensor) -> npt.NDArray[np.int8]:
    """As (height, width, channels); shapes are aligned at their ends."""
    shape = (1,) * (len(output.shape) - len(tensor.shape)) + tensor.shape
    if len(shape) > 4 or len(shape) != len(output.shape) or (len(shape) > 1 and shape[0] != 1):
        raise context.refuse(
            f"has a constant of shape {list(tensor.shape)} for an output of {list(output.shape)}",
            "(1, height, width, channels), or fewer dimensions of it, are supported",
        )
    rest = shape[1:] if len(shape) > 1 else shape
    return tensor.values().astype(np.int8).reshape((1,) * (3 - len(rest)) + rest)


def _check_broadcast(
    context: Lowering, first: Sequence[int], second: Sequence[int], whole: tuple[int, int, int]
) -> None:
    pairs = list(zip(first, second, whole, strict=True))
    if any(a not in (1, y) or b not in (1, y) or y != max(a, b) for a, b, y in pairs):
        raise context.refuse(
            f"combines {list(first)} and {list(second)} into {list(whole)} (height, width, channels)",
            "extents must be the same, or 1 in one of the two",
        )


def _with_number(context: Lowering, first: Tensor, second: Tensor, output: Tensor) -> Lookup | None:
    """If all values of a constant are equal: a table of one-value functions, computed as the operator would."""
    source, constant = (second, first) if first.constant else (first, second)
    numbers = np.unique(constant.values().astype(np.int64))
    if source.constant or numbers.size != 1 or extents_of(context, source) != extents_of(context, output):
        return None
    centred = np.arange(-128, 128, dtype=np.int64) - source.zero_point
    number = int(numbers[0]) - constant.zero_point
    scalings = _scalings(context, first, second, output)
    if context.operator.opcode == "MUL":
        slope = number * float(constant.scale)
        results = [fixed_point.requantise(int(v) * number, *scalings[0]) for v in centred]
    else:
        signs = np.array((1, -1 if context.operator.opcode == "SUB" else 1))
        place = 1 if source is second else 0
        slope = float(signs[place])
        other = int(signs[1 - place]) * fixed_point.requantise(number << LEFT_SHIFT, *scalings[1 - place])
        scaled = [fixed_point.requantise(int(v) << LEFT_SHIFT, *scalings[place]) for v in centred]
        results = [fixed_point.requantise(int(signs[place]) * v + other, *scalings[2]) for v in scaled]
    low, high = activation_range(context, output.scale, output.zero_point)
    target = context.activation(output.index)
    exact = np.array(results, np.int64) + output.zero_point
    return Lookup(
        source=context.operator.index,
        name=output.short_name,
        input=viewed(context, context.activation(source.index), context.activations[target].extents),
        output=target,
        operator=context.operator.opcode,
        table=np.clip(exact, low, high).astype(np.int8),
        slopes=np.where((exact <= low) | (exact >= high), 0.0, slope),
    )


def _scalings(context: Lowering, first: Tensor, second: Tensor, output: Tensor) -> tuple[tuple[int, int], ...]:
    if context.operator.opcode == "MUL":
        # In float32, like TensorFlow Lite; TensorFlow Lite Micro uses double.
        product = np.float32(np.float32(first.scale) * np.float32(second.scale))
        return (fixed_point.quantise_multiplier(float(np.float32(product / np.float32(output.scale)))),)
    twice = 2.0 * float(max(first.scale, second.scale))
    factors = (
        float(first.scale) / twice,
        float(second.scale) / twice,
        twice / ((1 << LEFT_SHIFT) * float(output.scale)),
    )
    return tuple(fixed_point.quantise_multiplier(f) for f in factors)
