"""Layers whose weights are partly trained: some channels, or a low-rank update of all of them (SPEC 1.3, 1.4)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kilotune.image.layout import ADAPTED
from kilotune.operators.base import OpPlan

OPCODE = ADAPTED
MAX_RANK = 8
NO_SLOT = 0xFFFF
FACTOR_BITS = 20  # weight + round(B A / 2^20)
FACTOR_START = 32  # times an int8: the start value of A
FACTOR_UNIT = 2.0**-11  # of A, over the square root of the inputs, so that rows of A start with a norm near 1
BLOCK = 4  # rows of weights that are computed at a time if there are several positions


def start_factors(rank: int, fan_in: int, seed: int) -> bytes:
    """Start values of A (rank, fan_in), in units of 32: uniformly random, the same on every computer."""
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
    """Number of int16 values in the adapter."""
    if plan.rank:
        return plan.rank * (fan_in + outputs)
    return (len(plan.channels) or outputs) * fan_in
