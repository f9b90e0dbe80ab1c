"""FULLY_CONNECTED on one row, and convolutions that are equivalent to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kilotune.image.layout import DENSE
from kilotune.operators.base import Activation, Lowering, OpPlan
from kilotune.operators.weighted import Weighted, check_types, layer_fields, widest_mantissa
from kilotune.tflite import fixed_point

OPCODE = DENSE


@dataclass(frozen=True, slots=True)
class FullyConnected(Weighted):
    """Every output reads all of the input."""

    @property
    def opcode(self) -> int:
        return OPCODE

    @property
    def window(self) -> tuple[int, int, int, int]:
        return 0, 0, 0, 0

    @property
    def trains_weights(self) -> bool:
        return self.weights_have_room

    @property
    def adapts_weights(self) -> bool:
        return self.weights_have_room

    @property
    def pointwise(self) -> bool:
        return True

    @property
    def macs(self) -> int:
        return int(self.weights.size)

    def mantissa_bits(self, plan: OpPlan) -> int:
        """2^bits times the largest column norm of the effective weights stays below 2^31."""
        return widest_mantissa(int(self.largest_weights(plan).sum(0).max()), plan)

    def keeps_gradient(self, plan: OpPlan) -> bool:
        # Scaled by channel for the input; then, unscaled, for the update of the weights.
        return plan.train_weights and not plan.adapted and plan.to_input and len(self.weight_scales) > 1

    def backward_scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        # The values of a single position are stored where its mantissas go.
        source = activations[self.input]
        if plan.adapted:
            return self.adapted_backward_bytes(activations, plan)
        return 4 * source.channels if plan.to_input and (source.positions > 1 or plan.sums) else 0


def lower(context: Lowering) -> FullyConnected:
    """Reads one FULLY_CONNECTED operator of batch 1."""
    check_dense(context)
    source, weight, output = context.tensor(0), context.tensor(1), context.output_tensor()
    out, fan_in = weight.shape
    if out == 0 or fan_in == 0 or source.elements != fan_in or output.elements != out:
        raise context.refuse(
            f"maps {list(source.shape)} to {list(output.shape)} with weights {list(weight.shape)}",
            "the device takes one sample at a time: convert the model with batch size 1",
        )
    return FullyConnected(**dense_fields(context))


def check_dense(context: Lowering) -> None:
    """Checks types and format of a FULLY_CONNECTED's weights."""
    weight = context.tensor(1)
    check_types(context, context.tensor(0), weight, context.output_tensor())
    if context.operator.options.weights_format != 0 or len(weight.shape) != 2:
        raise context.refuse("has shuffled weights", "convert the model without optimisation for a specific processor")


def dense_fields(context: Lowering) -> dict[str, Any]:
    """Fields of a FULLY_CONNECTED, with multipliers rounded as TensorFlow Lite rounds them in its preparation."""
    source, weight, output = context.tensor(0), context.tensor(1), context.output_tensor()
    fields = layer_fields(context, weight, weight.values().astype(np.int8), 0)
    fields["multipliers"] = tuple(fixed_point.dense_multipliers(source.scale, weight.scales, output.scale))
    return fields
