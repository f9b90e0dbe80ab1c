"""Layers whose weights are trained in part: some channels, or a low-rank sum on all of them (SPEC 1.3, 1.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from kilotune.image.layout import Adaptation
from kilotune.image.real16 import pack_real
from kilotune.operators.base import Activation, OpPlan, SectionWriter

OPCODE = 15
MAX_FAN_IN = 32767  # keeps the accumulator of trained weights in int32 on the device
MAX_RANK = 8
NO_SLOT = 0xFFFF
FACTOR_BITS = 20  # weight + round(B A / 2^20)
FACTOR_START = 32  # times an int8: where A starts
FACTOR_UNIT = 2.0**-11  # of A, over the square root of the inputs: so rows of A start with a norm near 1
BLOCK = 4  # rows of weights that are made at a time where there are several positions


class AdaptedLayer(Protocol):
    """What a layer must tell to be trained in part."""

    @property
    def input(self) -> int: ...
    @property
    def output(self) -> int: ...
    @property
    def inputs(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def input_scale(self) -> np.float32: ...
    @property
    def weight_scales(self) -> npt.NDArray[np.float32]: ...


def start_factors(rank: int, fan_in: int, seed: int) -> bytes:
    """Where A (rank, fan_in) starts, in units of 32: uniform, the same on every computer."""
    rows = np.random.Generator(np.random.PCG64(seed)).integers(-127, 128, (rank, fan_in))
    content: bytes = rows.astype(np.int8).tobytes()
    return content


def effective(base: npt.NDArray[np.int8], a: npt.NDArray[np.int16], b: npt.NDArray[np.int16]) -> npt.NDArray[np.int8]:
    """The int8 weights (out, in) that the device computes with, from A (rank, in) and B (out, rank)."""
    total = b.astype(np.int64) @ a.astype(np.int64) + (1 << (FACTOR_BITS - 1))
    low = np.where(base == -128, -128, -127)
    return np.clip(base.astype(np.int64) + (total >> FACTOR_BITS), low, 127).astype(np.int8)


def trained_rows(plan: OpPlan, outputs: int) -> npt.NDArray[np.bool_]:
    """(out,): the channels whose weights change."""
    rows = np.zeros(outputs, np.bool_)
    if plan.train_weights:
        rows[list(plan.channels) if plan.channels else slice(None)] = True
    return rows


def parameter_count(plan: OpPlan, outputs: int, fan_in: int) -> int:
    """int16 values in the adapter."""
    if plan.rank:
        return plan.rank * (fan_in + outputs)
    return (len(plan.channels) or outputs) * fan_in


def write_adaptation(op: AdaptedLayer, sections: SectionWriter, plan: OpPlan) -> int:
    """Writes what says how the op is adapted (SPEC 1.4); returns its place."""
    if plan.rank:
        step = pack_real(_factor_step(op, plan) if plan.gradient_unit else 1.0)
        return sections.add(Adaptation(plan.rank, 0, sections.add(plan.start), step).pack())
    slots = np.full(op.outputs, NO_SLOT, "<u2")
    slots[list(plan.channels)] = np.arange(len(plan.channels))
    return sections.add(Adaptation(0, len(plan.channels), sections.add(slots.tobytes()), bytes(4)).pack())


def _unit(op: AdaptedLayer) -> float:
    return FACTOR_UNIT / math.sqrt(op.inputs)


def column_ratio(op: AdaptedLayer, fraction_bits: int) -> float:
    """Step of B over that of the bias: B is in real units where A is in `_unit`."""
    return float(op.input_scale) ** 2 * _unit(op) ** 2 * 2.0 ** (FACTOR_BITS - fraction_bits)


def _factor_step(op: AdaptedLayer, plan: OpPlan) -> float:
    """Step of A for a gradient of 1."""
    scale = float(op.input_scale) * float(op.weight_scales.max())
    return plan.gradient_unit * scale * 2.0**-FACTOR_BITS / _unit(op) ** 2


def scratch_bytes(op: AdaptedLayer, *, pointwise: bool) -> int:
    """Forward: a block of rows, and one patch of the input where it is not read in place."""
    return op.inputs * (BLOCK + (not pointwise))


def backward_scratch_bytes(op: AdaptedLayer, activations: Sequence[Activation], plan: OpPlan, *, vector: bool) -> int:
    """What goes on to the input, then numbers a position for the trained weights."""
    x, y = activations[op.input], activations[op.output]
    weights = (6 if plan.rank else 2) * (y.positions + y.positions % 2)
    if not plan.to_input:
        return weights
    rows = op.outputs * op.inputs if plan.rank and not vector else x.channels
    return max(weights, 4 * x.channels + rows)
