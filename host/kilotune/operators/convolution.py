"""CONV_2D and DEPTHWISE_CONV_2D: dense layers at every position, with a window into the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kilotune.operators import adapted, geometry
from kilotune.operators.base import Activation, ImageOp, Lowering, OpPlan
from kilotune.operators.dense import FullyConnected, check_dense, dense_fields
from kilotune.operators.dense import lower as lower_vector
from kilotune.operators.geometry import Geometry
from kilotune.operators.weighted import MAX_FAN_IN, Weighted, check_types, layer_fields, widest_mantissa
from kilotune.tflite.model import Tensor

CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV = 3, 4, 14
TAP_COLUMNS = 4  # of a row that the device reads at once
IN_TRIPLES = 1 << 31  # flag in the word with the multiplier of a depthwise layer
TRIPLES_WIDTH = 2048
_EACH_POSITION = Geometry((1, 1), (1, 1), (1, 1), (0, 0))


@dataclass(frozen=True, slots=True)
class PositionLayer(Weighted):
    """A layer with `positions` outputs per channel, each of which reads a window of the input."""

    geometry: Geometry
    positions: int

    @property
    def window(self) -> tuple[int, int, int, int]:
        return self.geometry.words

    @property
    def macs(self) -> int:
        return int(self.weights.size) * self.positions

    def mantissa_bits(self, plan: OpPlan) -> int:
        """2^bits times the largest norm of an input channel's weights stays below 2^31."""
        magnitudes = self.largest_weights(plan).reshape(self.outputs, self.geometry.taps, -1)
        return widest_mantissa(int(magnitudes.sum((0, 1)).max()), plan)

    def can_share(self, activations: Sequence[Activation]) -> bool:
        x, y = activations[self.input], activations[self.output]
        return self.geometry.can_share(x, y)

    def backward_scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        if plan.adapted:
            return self.adapted_backward_bytes(activations, plan)
        if not plan.to_input:
            return 0
        x, y = activations[self.input], activations[self.output]
        return self.geometry.backward_scratch_bytes(x, y, in_place=plan.in_place)


@dataclass(frozen=True, slots=True)
class Conv2D(PositionLayer):
    """`weights` (out, height * width * in), zeros between `groups`; the weights of groups are not trained."""

    groups: int

    @property
    def opcode(self) -> int:
        return CONV_2D

    @property
    def adapts_weights(self) -> bool:
        return self.groups == 1 and self.weights_have_room

    @property
    def pointwise(self) -> bool:
        return self.geometry.taps == 1

    def overwrites(self, activations: Sequence[Activation]) -> tuple[tuple[int, int], ...]:
        """A position is read before its outputs are written, so the outputs up to it must not reach the inputs of the
        next position."""
        if not self.geometry.pointwise:
            return ()
        grows = activations[self.output].elements - activations[self.input].elements
        return ((self.input, max(0, grows)),)

    def scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        """One patch of the input, unless it is read in place; and the inputs of two positions as int16, or a block of
        rows of weights if they are partly trained."""
        if plan.adapted:
            return self.inputs * (adapted.BLOCK + (not self.geometry.pointwise))
        return 16 * -(-self.inputs // 4) + (0 if self.geometry.pointwise else self.inputs)

    def words(self, plan: OpPlan) -> tuple[int, ...]:
        return (*self.geometry.words, 0, plan.scratch)


@dataclass(frozen=True, slots=True)
class DepthwiseConv2D(PositionLayer):
    """`weights` (out, height * width); output channel o sees input channel o // multiplier."""

    multiplier: int

    @property
    def opcode(self) -> int:
        return DEPTHWISE_CONV_2D

    def mantissa_bits(self, plan: OpPlan) -> int:
        magnitudes = np.abs(self.weights.astype(np.int64)).sum(1)
        return widest_mantissa(int(magnitudes.reshape(-1, self.multiplier).sum(1).max()), plan)

    def overwrites(self, activations: Sequence[Activation]) -> tuple[tuple[int, int], ...]:
        """The rows that the next windows of a plane need are kept separately."""
        x, y, w = activations[self.input], activations[self.output], self.geometry
        same = (x.height, x.width, x.channels) == (y.height, y.width, y.channels)
        kept = w.stride == w.dilation == (1, 1) and all(p < n for p, n in zip(w.pad, w.size, strict=True))
        return ((self.input, 0),) if same and kept else ()

    def weight_bytes(self) -> bytes:
        return self.weights.T.tobytes()  # (height, width, out)

    def words(self, plan: OpPlan) -> tuple[int, ...]:
        return (*self.geometry.words, self.multiplier | IN_TRIPLES * plan.in_triples, plan.scratch)

    def fits_triples(self, activations: Sequence[Activation], plan: OpPlan) -> bool:
        g = self.geometry
        three = (g.size, g.stride, g.dilation) == ((3, 3), (1, 1), (1, 1))
        y = activations[self.output]
        return plan.to_input and three and self.multiplier == 1 and y.channels % 4 == 0 and y.width <= TRIPLES_WIDTH

    def backward_scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        """With triples: int32 values of one position, weights, and three rows of the output's gradient (SPEC 1.3)."""
        if not plan.in_triples:
            return PositionLayer.backward_scratch_bytes(self, activations, plan)
        y = activations[self.output]
        return y.channels * (4 + 18 + 6 * y.width)

    def scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        """Sums of one row of outputs, int32, and the input rows under a window, int16 and padded (SPEC 1.3)."""
        y, g = activations[self.output], self.geometry
        extents = (y.height, y.width)
        inner = 0 if y.height > y.width else 1
        reach = (extents[inner] - 1) * g.stride[inner] + (g.size[inner] - 1) * g.dilation[inner]
        pitch = -(-(reach + TAP_COLUMNS) // 2) * 2
        return 4 * extents[inner] + 2 * pitch * g.size[1 - inner]


@dataclass(frozen=True, slots=True)
class TransposeConv(PositionLayer):
    """`weights` (out, height * width * in); `geometry` goes from the output to the input."""

    @property
    def opcode(self) -> int:
        return TRANSPOSE_CONV

    @property
    def folds_zero_point(self) -> bool:
        return False

    def can_share(self, activations: Sequence[Activation]) -> bool:
        return False

    def words(self, plan: OpPlan) -> tuple[int, ...]:
        return self.geometry.words


def lower_convolution(context: Lowering) -> ImageOp:
    """Reads one CONV_2D operator of batch 1; with a single position it is a dense layer."""
    source, weight, output = context.tensor(0), context.tensor(1), context.output_tensor()
    check_types(context, source, weight, output)
    if len(weight.shape) != 4 or len(source.shape) != 4 or len(output.shape) != 4:
        raise context.refuse(f"has weights of shape {list(weight.shape)}", "four dimensions are supported")
    out, height, width, channels = weight.shape
    groups = source.shape[3] // channels if channels else 0
    if groups * channels != source.shape[3] or out != output.shape[3] or 0 in weight.shape or out % groups:
        raise context.refuse(
            f"has weights {list(weight.shape)} for an input {list(source.shape)}",
            "the file is damaged: convert the model again",
        )
    window = geometry.of_window(context, (height, width), context.operator.options.dilation)
    values = _as_one_group(weight.values().astype(np.int8), groups)
    if groups == 1 and window.pointwise and output.elements == out:
        return FullyConnected(**layer_fields(context, weight, values, 0))
    return Conv2D(
        **layer_fields(context, weight, values, 0),
        geometry=window,
        positions=output.elements // out,
        groups=groups,
    )


def _as_one_group(weights: npt.NDArray[np.int8], groups: int) -> npt.NDArray[np.int8]:
    """(out, products) from weights (out, height, width, in / groups): zeros outside of each group's own channels.

    The result is exact, and takes as much flash and time as a layer without groups.
    """
    out, height, width, channels = weights.shape
    whole = np.zeros((groups, out // groups, height, width, groups, channels), np.int8)
    for g, part in enumerate(weights.reshape(groups, out // groups, height, width, channels)):
        whole[g, :, :, :, g] = part
    return whole.reshape(out, -1)


def lower_depthwise(context: Lowering) -> ImageOp:
    """Reads one DEPTHWISE_CONV_2D operator of batch 1."""
    source, weight, output = context.tensor(0), context.tensor(1), context.output_tensor()
    check_types(context, source, weight, output)
    shape = weight.shape
    good = len(shape) == len(source.shape) == len(output.shape) == 4 and 0 not in shape and shape[0] == 1
    if not good or shape[3] % source.shape[3] or output.shape[3] != shape[3]:
        raise context.refuse(
            f"has weights {list(shape)} for an input {list(source.shape)}",
            "the file is damaged: convert the model again",
        )
    if shape[1] * shape[2] > MAX_FAN_IN // 2:
        raise context.refuse("has too large a window", f"up to {MAX_FAN_IN // 2} positions are supported")
    window = geometry.of_window(context, (shape[1], shape[2]), context.operator.options.dilation)
    values = np.ascontiguousarray(weight.values().astype(np.int8).reshape(-1, shape[3]).T)
    return DepthwiseConv2D(
        **layer_fields(context, weight, values, 3),
        geometry=window,
        positions=output.elements // shape[3],
        multiplier=shape[3] // source.shape[3],
    )


def lower_transpose(context: Lowering) -> TransposeConv:
    """Reads one TRANSPOSE_CONV. Its inputs are the output's shape, weights, input and bias."""
    weight, source, output = context.tensor(1), context.tensor(2), context.output_tensor()
    check_types(context, source, weight, output)
    shape = weight.shape
    if len(shape) != 4 or shape[3] != source.shape[-1] or shape[0] != output.shape[-1] or 0 in shape:
        raise context.refuse(f"has weights {list(shape)}", "the file is damaged: convert the model again")
    if shape[1] * shape[2] * shape[3] > MAX_FAN_IN // 2:
        raise context.refuse("has too large a window", f"up to {MAX_FAN_IN // 2} products are supported")
    window = geometry.of_window(context, (shape[1], shape[2]), source=output, output=source)
    values = weight.values().astype(np.int8).reshape(shape[0], -1)
    return TransposeConv(
        **layer_fields(context, weight, values, 0, source=source, bias_place=3),
        geometry=window,
        positions=source.elements // source.shape[3],
    )


def lower_dense(context: Lowering) -> ImageOp:
    """FULLY_CONNECTED; on an input of several dimensions it is a dense layer at each position."""
    source, weight, output = context.tensor(0), context.tensor(1), context.output_tensor()
    if len(weight.shape) != 2 or not is_rows(source, weight, output):
        return lower_vector(context)
    check_dense(context)
    positions = output.elements // weight.shape[0]
    return Conv2D(**dense_fields(context), geometry=_EACH_POSITION, positions=positions, groups=1)


def is_rows(source: Tensor, weight: Tensor, output: Tensor) -> bool:
    """Whether a FULLY_CONNECTED has several rows: positions of one sample, as a model's input is a single one."""
    out, fan_in = weight.shape
    return (
        source.elements > fan_in > 0
        and source.shape[-1:] == (fan_in,)
        and output.shape[-1:] == (out,)
        and output.shape[:-1] == source.shape[:-1]
    )
