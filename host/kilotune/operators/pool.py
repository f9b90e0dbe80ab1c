"""AVERAGE_POOL_2D, MAX_POOL_2D, REDUCE_MAX and MEAN."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kilotune.operators import geometry
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
    activation_range,
    check_int8,
    check_same_quantisation,
    constant_integers,
    extents_of,
)
from kilotune.operators.geometry import Geometry
from kilotune.tflite import fixed_point
from kilotune.tflite.model import Tensor

AVERAGE_POOL_2D, MAX_POOL_2D, MEAN = 5, 6, 7
MAX_COUNT = 1 << 22  # values in one mean
MAX_TAPS = 65535


@dataclass(frozen=True, slots=True)
class Pool(ParameterFree):
    """`largest`: number of inputs in the window that the border cuts off least."""

    geometry: Geometry
    act_range: tuple[int, int]
    largest: int
    size: int  # elements of the output

    @property
    def clamps(self) -> bool:
        return self.act_range != (-128, 127)

    @property
    def gradient_gain(self) -> float:
        return 1.0 / self.largest if self.operator == "AVERAGE_POOL_2D" else 1.0

    def overwrites(self, activations: Sequence[Activation]) -> tuple[tuple[int, int], ...]:
        """Without padding, no window reaches back to outputs that were written before."""
        return ((self.input, 0),) if self.geometry.pad == (0, 0) else ()

    def reads_input_backward(self, plan: OpPlan) -> bool:
        return plan.to_input and self.operator != "AVERAGE_POOL_2D"

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        return pack_op(
            opcode=AVERAGE_POOL_2D if self.operator == "AVERAGE_POOL_2D" else MAX_POOL_2D,
            flags=flags_of(plan),
            input=self.input,
            output=self.output,
            act_range=self.act_range,
            plan=plan,
            training=write_training(sections, plan),
            words=self.geometry.words,
        )


@dataclass(frozen=True, slots=True)
class Mean(ParameterFree):
    """`scaling`: (multiplier, shift); `axes`: which of height (1), width (2) and channels (4) are reduced;
    `count`: values in one mean."""

    scaling: tuple[int, int]
    axes: int
    count: int

    @property
    def gradient_gain(self) -> float:
        return 1.0 if self.operator == "SUM" else 1.0 / self.count

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        return pack_op(
            opcode=MEAN,
            flags=flags_of(plan),
            input=self.input,
            output=self.output,
            plan=plan,
            training=write_training(sections, plan),
            words=(*self.scaling, self.axes),
        )


def lower_pool(context: Lowering) -> Pool:
    source, output = context.tensor(0), context.output_tensor()
    check_int8(context, source)
    check_same_quantisation(context, source)
    window = geometry.of_window(context, context.operator.options.window)
    if source.shape[3] != output.shape[3] or window.taps > MAX_TAPS:
        raise context.refuse(
            f"makes {list(output.shape)} of {list(source.shape)}", f"windows up to {MAX_TAPS} are supported"
        )
    largest = min(window.size[0], source.shape[1]) * min(window.size[1], source.shape[2])
    return Pool(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(source.index),
        output=context.activation(output.index),
        operator=context.operator.opcode,
        geometry=window,
        act_range=activation_range(context, output.scale, output.zero_point),
        largest=largest,
        size=output.elements,
    )


def lower_max(context: Lowering) -> Pool:
    """REDUCE_MAX over all positions: the window of a MAX_POOL_2D that is as large as the input."""
    source, output = context.tensor(0), context.output_tensor()
    check_int8(context, source)
    check_same_quantisation(context, source)
    height, width, channels = extents_of(context, source)
    numbers, _, kept = _reduction(context, source)
    fits = max(height, width) <= geometry.MAX_SIZE and height * width <= MAX_TAPS
    if kept != [1, 1, channels] or output.elements != channels or not fits:
        raise context.refuse(
            f"reduces axes {numbers} of {list(source.shape)} to {list(output.shape)}",
            f"the maximum over all positions, up to {MAX_TAPS}, is supported",
        )
    return Pool(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(source.index),
        output=context.activation(output.index),
        operator="REDUCE_MAX",
        geometry=Geometry((height, width), (1, 1), (1, 1), (0, 0)),
        act_range=(-128, 127),
        largest=height * width,
        size=output.elements,
    )


def lower_mean(context: Lowering) -> Mean:
    """MEAN over all positions (Keras' global average pool), or over some of height, width and channels; SUM."""
    source, output = context.tensor(0), context.output_tensor()
    check_int8(context, source)
    numbers, reduced, kept = _reduction(context, source)
    if not reduced or math.prod(kept) != output.elements or math.prod(extents_of(context, output)) != math.prod(kept):
        raise context.refuse(
            f"reduces axes {numbers} of {list(source.shape)} to {list(output.shape)}",
            "a mean over height, width, channels or several of them is supported, with a batch of 1",
        )
    count = source.elements // output.elements
    if count > MAX_COUNT:
        raise context.refuse(f"takes the mean of {count} values", f"up to {MAX_COUNT} are supported")
    return Mean(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(source.index),
        output=context.activation(output.index),
        operator=context.operator.opcode,
        scaling=_mean_scaling(source, output, 1 if context.operator.opcode == "SUM" else count),
        axes=sum(1 << axis for axis in reduced),
        count=count,
    )


def _reduction(context: Lowering, source: Tensor) -> tuple[list[int], set[int], list[int]]:
    """The axes as given, those of (height, width, channels) that they name, and the remaining ones."""
    rank = len(source.shape)
    numbers = constant_integers(context, 1, "axes").reshape(-1).tolist()
    # The batch, of 1, is ignored; the others are at the end of (height, width, channels).
    reduced = {int(n) % rank + 3 - rank for n in numbers if rank > 1 and -rank <= n < rank and n % rank != 0}
    return numbers, reduced, [1 if axis in reduced else n for axis, n in enumerate(extents_of(context, source))]


def _mean_scaling(source: Tensor, output: Tensor, count: int) -> tuple[int, int]:
    """(multiplier, shift) of TensorFlow Lite's QuantizedMeanOrSum, the count in the multiplier."""
    multiplier, shift = fixed_point.quantise_multiplier(float(source.scale) / float(output.scale))
    headroom = min(count.bit_length() - 1, 32, 31 + shift)
    return (multiplier << headroom) // count, shift - headroom
