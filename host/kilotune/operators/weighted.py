"""Layers with weights and biases: what dense layers and convolutions share in planning, training and their entry."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.image.layout import Adaptation
from kilotune.image.real16 import pack_real
from kilotune.operators import adapted
from kilotune.operators.base import (
    Activation,
    ImageOp,
    Lowering,
    OpPlan,
    SectionWriter,
    flags_of,
    pack_op,
    write_training,
)
from kilotune.operators.checks import activation_range
from kilotune.tflite import fixed_point
from kilotune.tflite.model import Tensor

# The device's bounds (SPEC 1.3): of an accumulator, of a product of two int8, of products per output.
MAX_ACCUMULATOR = 3 << 29
PRODUCT_BITS = 14
MAX_FAN_IN = 65535
ROOM_FOR_TRAINING = 1 << 22  # of a bias: leaves 8 fraction bits
MAX_FRACTION_BITS = 24
MIN_FRACTION_BITS = 2
DELTA_BITS = 30  # |delta| < 2^30 on the device
# Several times the full output range, so that a bias can move the output from one end to the other and still has
# room to compensate for changed weights in earlier layers.
DELTA_RANGES = 4.0
# A channel with weights near zero would need a range that leaves no fraction bits for the others. Below this number of
# fraction bits, it may saturate instead.
WORST_FRACTION_BITS = 8


@dataclass(frozen=True, slots=True)
class Weighted(ImageOp):
    """Weights (out, products of one output) int8; bias (out,) int32, zeros if the model has none."""

    operator: str  # name as in the `.tflite` schema
    weights: npt.NDArray[np.int8]
    bias: npt.NDArray[np.int32]
    weight_scales: npt.NDArray[np.float32]  # (1,) or (out,)
    multipliers: tuple[tuple[int, int], ...]  # (multiplier, shift), as many as weight scales
    act_range: tuple[int, int]
    input_scale: np.float32
    input_zero_point: int
    output_scale: np.float32
    weight_tensor: int  # tensors of the .tflite
    bias_tensor: int  # -1: the model has none

    @property
    def kind(self) -> str:
        return self.operator

    @property
    @abstractmethod
    def opcode(self) -> int:
        """Opcode of its entry, unless its weights are partly trained."""

    @property
    @abstractmethod
    def window(self) -> tuple[int, int, int, int]:
        """Words of its entry if its weights are partly trained; zeros: each output reads the whole input."""

    @property
    def folds_zero_point(self) -> bool:
        """Whether the input's zero point is part of a frozen layer's bias."""
        return True

    @property
    def has_backward(self) -> bool:
        return True

    @property
    def outputs(self) -> int:
        return int(self.weights.shape[0])

    @property
    def inputs(self) -> int:
        return int(self.weights.shape[1])

    @property
    def parameters(self) -> tuple[int, int]:
        return self.weight_tensor, self.bias_tensor

    @property
    def gradient_gain(self) -> float:
        return float(self.weight_scales.max())

    def largest_weights(self, plan: OpPlan) -> npt.NDArray[np.int64]:
        """(out, in): the largest magnitude that each weight has or may reach."""
        magnitudes = np.abs(self.weights.astype(np.int64))
        # Trained weights may become anything up to 127; a base weight of -128 starts beyond it.
        magnitudes[adapted.trained_rows(plan, self.outputs)] = max(127, int(magnitudes.max()))
        return magnitudes

    def fraction_bits(self) -> int:
        unit = float(self.input_scale) * self.weight_scales.astype(np.float64)
        ranges = np.broadcast_to(255.0 * float(self.output_scale) / unit, (self.outputs,))
        need = DELTA_RANGES * (ranges + np.abs(self.bias.astype(np.float64)))
        bits = DELTA_BITS - np.ceil(np.log2(need))
        usable = bits[bits >= WORST_FRACTION_BITS]
        chosen = int(usable.min()) if usable.size else int(bits.max())
        # What training adds, 2^(30 - F), must stay below what the accumulator has left.
        least = DELTA_BITS + 1 - (self.room(trained=self.weights_have_room) - 1).bit_length()
        return min(MAX_FRACTION_BITS, max(MIN_FRACTION_BITS, least, chosen))

    def room(self, *, trained: bool) -> int:
        """What all products and the largest bias leave of an accumulator; `trained`: of trained weights."""
        products = self.inputs * (2 if trained or not self.folds_zero_point else 1)
        return MAX_ACCUMULATOR - (products << PRODUCT_BITS) - int(self.largest_biases().max())

    @property
    def weights_have_room(self) -> bool:
        """Whether trained weights, whose inputs are not folded, keep the accumulator in its bounds."""
        return self.inputs <= MAX_FAN_IN // 2 and self.room(trained=True) >= ROOM_FOR_TRAINING

    def folded_bias(self) -> npt.NDArray[np.int64]:
        """(out,): of frozen weights, whose bias contains the input's zero point."""
        folded: npt.NDArray[np.int64] = self.input_zero_point * self.weights.astype(np.int64).sum(1)
        return self.bias.astype(np.int64) - folded

    def largest_biases(self) -> npt.NDArray[np.int64]:
        """(out,): magnitudes, with the zero point folded in or not."""
        largest: npt.NDArray[np.int64] = np.maximum(np.abs(self.bias.astype(np.int64)), np.abs(self.folded_bias()))
        return largest

    def require_room(self, context: Lowering) -> None:
        """Refuses biases that leave an accumulator too little for its products."""
        missing = ROOM_FOR_TRAINING - self.room(trained=False)
        if missing > 0:
            largest = self.largest_biases()
            worst, most = int(largest.argmax()), int(largest.max())
            over = int((largest > most - missing).sum())
            raise context.refuse(
                f"has {over} of {self.outputs} biases too large for an accumulator: channel {worst} has {most:,}, "
                f"and {self.inputs:,} products leave {most - missing:,}",
                "the weights of such a channel are nearly zero: remove the channel or train with weight decay; or "
                "quantise again with `kilotune quantize`, which limits biases",
            )

    def weight_bytes(self) -> bytes:
        return self.weights.tobytes()

    def words(self, plan: OpPlan) -> tuple[int, ...]:
        return ()

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        bias = self.bias.astype(np.int64)
        if self.folds_zero_point:
            frozen = ~adapted.trained_rows(plan, self.outputs)
            bias = np.where(frozen, self.folded_bias(), bias)
        offsets = (
            sections.add(self.weight_bytes()),
            sections.add(bias.astype("<i4").tobytes()),
            sections.add(np.array([m for m, _ in self.multipliers], "<i4").tobytes()),
            sections.add(np.array([s for _, s in self.multipliers], np.int8).tobytes()),
        )
        training = self._write_training(sections, plan) if plan.gradient_unit else 0
        words = self.words(plan)
        if plan.adapted:
            words = (*self.window, self._write_adaptation(sections, plan), plan.scratch)
        return pack_op(
            opcode=adapted.OPCODE if plan.adapted else self.opcode,
            flags=flags_of(plan, per_channel=len(self.multipliers) > 1),
            input=self.input,
            output=self.output,
            act_range=self.act_range,
            offsets=offsets,
            plan=plan,
            training=training,
            words=words,
        )

    def _write_training(self, sections: SectionWriter, plan: OpPlan) -> int:
        """Its training entry (SPEC 1.4)."""
        fraction = plan.fraction_bits
        units = float(self.input_scale) * self.weight_scales.astype(np.float64)
        kb = b"".join(pack_real(plan.gradient_unit * 2.0**fraction / unit) for unit in units)
        ratio = float(self.input_scale) ** 2 * 2.0 ** (8 - fraction)
        if plan.rank:
            ratio = self._column_ratio(fraction)
        rescale = 0
        if len(self.weight_scales) > 1 and (plan.to_input or plan.rank):
            scales = self.weight_scales.astype(np.float64)
            rescale = sections.add(np.rint(32768.0 * scales / scales.max()).astype("<u2").tobytes())
        return write_training(sections, plan, kb=kb, ratio=ratio, rescale=rescale)

    # --- partly trained weights (SPEC 1.3, 1.4) ------------------------------------------------------

    @property
    def _factor_unit(self) -> float:
        return adapted.FACTOR_UNIT / math.sqrt(self.inputs)

    def _column_ratio(self, fraction_bits: int) -> float:
        """Step of B relative to that of the bias; B is in real units, A in `_factor_unit`."""
        return float(self.input_scale) ** 2 * self._factor_unit**2 * 2.0 ** (adapted.FACTOR_BITS - fraction_bits)

    def _factor_step(self, plan: OpPlan) -> float:
        """Step of A for a gradient of 1."""
        scale = float(self.input_scale) * float(self.weight_scales.max())
        return plan.gradient_unit * scale * 2.0**-adapted.FACTOR_BITS / self._factor_unit**2

    def _write_adaptation(self, sections: SectionWriter, plan: OpPlan) -> int:
        """Writes how the weights are adapted; returns the section's offset."""
        if plan.rank:
            step = pack_real(self._factor_step(plan) if plan.gradient_unit else 1.0)
            return sections.add(Adaptation(plan.rank, 0, sections.add(plan.start), step).pack())
        slots = np.full(self.outputs, adapted.NO_SLOT, "<u2")
        slots[list(plan.channels)] = np.arange(len(plan.channels))
        return sections.add(Adaptation(0, len(plan.channels), sections.add(slots.tobytes()), bytes(4)).pack())

    def adapted_backward_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        """Arena bytes: what is passed on to the input, then values per position for the trained weights."""
        x, y = activations[self.input], activations[self.output]
        weights = (6 if plan.rank else 2) * (y.positions + y.positions % 2)
        if not plan.to_input:
            return weights
        by_position = any(self.window)
        rows = self.outputs * self.inputs if plan.rank and by_position else x.channels
        return max(weights, 4 * x.channels + rows)


def widest_mantissa(norm: int, plan: OpPlan) -> int:
    """Mantissa bits of an output gradient whose sums over weights with this norm stay below 2^31."""
    if not plan.to_input:
        return 15
    return min(15, max((bits for bits in range(16) if norm < (1 << 31) >> bits), default=0))


def check_types(context: Lowering, source: Tensor, weight: Tensor, output: Tensor) -> None:
    for tensor, role in ((source, "input"), (weight, "weights"), (output, "output")):
        if tensor.dtype != "int8":
            raise context.refuse(
                f"has {role} of type {tensor.dtype}",
                "convert the model with full int8 quantisation (`kilotune quantize`)",
            )
    if not weight.constant:
        raise context.refuse("takes its weights from another operator", "only constant weights are supported")
    if np.any(weight.zero_points != 0):
        raise context.refuse("has weights with a zero point", "weights must be quantised symmetrically")


def layer_fields(
    context: Lowering,
    weight: Tensor,
    values: npt.NDArray[np.int8],
    dimension: int,
    *,
    source: Tensor | None = None,
    bias_place: int = 2,
) -> dict[str, Any]:
    """Fields of Weighted; `values` (out, products of one output)."""
    source, output = source or context.tensor(0), context.output_tensor()
    out, fan_in = values.shape
    if fan_in > MAX_FAN_IN:
        raise context.refuse(f"has {fan_in} inputs", f"up to {MAX_FAN_IN} are supported")
    if weight.scales.size not in (1, out) or (weight.scales.size > 1 and weight.dimension != dimension):
        raise context.refuse(
            f"has {weight.scales.size} weight scales along dimension {weight.dimension}",
            "one scale, or one for each output channel, is supported",
        )
    bias, bias_tensor = bias_of(context, out, bias_place)
    scales = weight.scales.copy()
    factors = [float(source.scale) * float(s) / float(output.scale) for s in scales]
    return {
        "source": context.operator.index,
        "operator": context.operator.opcode,
        "name": output.short_name,
        "input": context.activation(source.index),
        "output": context.activation(output.index),
        "weights": values,
        "bias": bias,
        "weight_scales": scales,
        "multipliers": tuple(fixed_point.quantise_multiplier(f) for f in factors),
        "act_range": activation_range(context, output.scale, output.zero_point),
        "input_scale": source.scale,
        "input_zero_point": source.zero_point,
        "output_scale": output.scale,
        "weight_tensor": weight.index,
        "bias_tensor": bias_tensor,
    }


def bias_of(context: Lowering, out: int, place: int = 2) -> tuple[npt.NDArray[np.int32], int]:
    """(values, tensor) of the bias, which is the operator's input `place`."""
    index = context.operator.input(place)
    if index < 0:
        return np.zeros(out, np.int32), -1
    tensor = context.model.tensors[index]
    if tensor.dtype != "int32" or not tensor.constant or tensor.elements != out:
        raise context.refuse(
            f"has a bias of type {tensor.dtype} and shape {list(tensor.shape)}",
            f"a constant int32 bias of {out} values is supported",
        )
    return tensor.values().reshape(out).astype(np.int32), index
