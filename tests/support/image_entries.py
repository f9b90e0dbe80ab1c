"""The entries of an image, and of an adapter's blob, read by the specification and not through the compiler."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.support.arrays import Floats, Ints


@dataclass(frozen=True)
class TensorEntry:
    data: int
    shape: tuple[int, int, int]
    zero_point: int
    mantissa_bits: int
    scale: float
    gradient: int
    mask: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class OpEntry:
    opcode: int
    flags: int
    input: int
    input2: int
    output: int
    act_min: int
    act_max: int
    weights: int
    bias: int
    multipliers: int
    shifts: int
    bias_param: int
    weight_param: int
    training: int
    words: tuple[int, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(height, width) of a window's kernel, stride, dilation and padding."""
        return [(w & 0xFFFF, w >> 16) for w in self.words[:4]]


@dataclass
class ImageEntries:
    """One image and, optionally, an adapter's blob; without it, the base model."""

    content: bytes
    blob: bytes | None = None
    tensors: list[TensorEntry] = field(default_factory=list)
    ops: list[OpEntry] = field(default_factory=list)
    # Largest slope of the function that makes a tensor, where that is a table: tests say it.
    slope_units: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        c = self.content
        counts = struct.unpack_from("<4H10I", c, 80)
        tensor_count, op_count, self.input, self.output, tensors, ops, self.training = counts[:7]
        for i in range(tensor_count):
            data, h, w, ch, zero, bits, scale, gradient, mask, _, _ = struct.unpack_from(
                "<IHHHbBfIIII", c, tensors + 32 * i
            )
            self.tensors.append(TensorEntry(data, (h, w, ch), zero, bits, scale, gradient, mask))
        for i in range(op_count):
            v = struct.unpack_from("<BBHHHbbH7I6I", c, ops + 64 * i)
            fields = [*v[:7], *v[8:15], tuple(v[15:])]  # without reserved bytes
            self.ops.append(OpEntry(*fields))

    def array(self, at: int, dtype: str, count: int, *, adapter: bool = False) -> Ints:
        source = self.blob if adapter else self.content
        assert source is not None
        return np.frombuffer(source, dtype, count, at).astype(np.int64)

    def effective(self, op: OpEntry) -> tuple[Ints, Ints]:
        """Weights (out, in) and plain bias (out,), zero point not folded in."""
        out, fan_in = self.tensors[op.output].elements, self.tensors[op.input].elements
        weights = self.array(op.weights, "i1", out * fan_in).reshape(out, fan_in)
        bias = self.array(op.bias, "<i4", out)
        if not op.flags & 2:
            bias = bias + self.tensors[op.input].zero_point * weights.sum(1)
        elif self.blob is not None:
            trained = self.array(op.weight_param, "<i2", out * fan_in, adapter=True)
            weights = (trained >> 8).reshape(out, fan_in)
        if op.flags & 1 and self.blob is not None:
            fraction = self.content[op.training + 12]
            delta = self.array(op.bias_param, "<i4", out, adapter=True)
            bias = bias + ((delta + (1 << (fraction - 1))) >> fraction)
        return weights, bias

    def window_size(self, op: OpEntry) -> tuple[int, int]:
        """The window of an adapted layer: the whole input if the entry has none."""
        if op.words[0] == 0:
            height, width, _ = self.tensors[op.input].shape
            return height, width
        return op.pairs[0]

    def adapted_weights(self, op: OpEntry) -> Ints:
        """(out, taps, in channels): what an adapted layer computes with."""
        out, channels = self.tensors[op.output].shape[2], self.tensors[op.input].shape[2]
        taps = math.prod(self.window_size(op))
        fan_in = taps * channels
        weights = self.array(op.weights, "i1", out * fan_in).reshape(out, fan_in).copy()
        assert self.blob is not None
        rank, _, table = struct.unpack_from("<HHI", self.content, op.words[4])
        if rank:
            a, b = self.factors(op)
            low = np.where(weights == -128, -128, -127)
            weights = np.clip(weights + ((b @ a + (1 << 19)) >> 20), low, 127)
        else:
            slots = self.array(table, "<u2", out)
            rows = np.flatnonzero(slots != 0xFFFF)
            trained = self.array(op.weight_param, "<i2", rows.size * fan_in, adapter=True)
            weights[rows] = (trained >> 8).reshape(-1, fan_in)
        return weights.reshape(out, taps, channels)

    def factors(self, op: OpEntry) -> tuple[Ints, Ints]:
        """A (rank, fan in) and B (out, rank) of an adapted layer."""
        out = self.tensors[op.output].shape[2]
        (rank,) = struct.unpack_from("<H", self.content, op.words[4])
        fan_in = math.prod(self.window_size(op)) * self.tensors[op.input].shape[2]
        a = self.array(op.weight_param, "<i2", rank * fan_in, adapter=True)
        b = self.array(op.weight_param + 2 * rank * fan_in, "<i2", rank * out, adapter=True)
        return a.reshape(rank, fan_in), b.reshape(out, rank)

    def weight_scales(self, op: OpEntry) -> Floats:
        """(out,), from multipliers only: s_w = multiplier * s_out / s_in."""
        out = self.tensors[op.output].shape[2]
        count = out if op.flags & 4 else 1
        multipliers = self.array(op.multipliers, "<i4", count) / 2.0**31
        shifts = self.array(op.shifts, "i1", count)
        ratio = self.tensors[op.output].scale / self.tensors[op.input].scale
        return np.broadcast_to(multipliers * 2.0**shifts * ratio, (out,))

    def loss_section(self) -> tuple[int, int, int, int, int, int, float]:
        """(loss, first op, last op, tensor, A, B, C)"""
        loss, _, first, last, tensor, a, b, _, unit = struct.unpack_from("<BBHHHiiIf", self.content, self.training)
        return loss, first, last, tensor, a, b, unit

    def real(self, tensor: int, values: Ints) -> Floats:
        t = self.tensors[tensor]
        return np.asarray((values - t.zero_point) * float(np.float32(t.scale)), np.float64)

    def passes(self, op: OpEntry, values: list[Ints]) -> npt.NDArray[np.bool_]:
        y = values[op.output]
        return (y > op.act_min) & (y < op.act_max) if op.flags & 8 else np.ones(y.size, np.bool_)
