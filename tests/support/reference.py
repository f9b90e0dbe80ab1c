"""A slow second implementation of the image format in numpy: forward in int64, gradients in float64.

It reads the bytes of an image by the specification, not through the compiler, so that an error of the
compiler shows. The gradient is the reverse pass over the device's own int8 activations and masks,
straight-through at rounding, nothing through clamped outputs.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tests.support import reverse

NONE = 0xFFFFFFFF
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def doubling_high_multiply(a: Ints, b: Ints) -> Ints:
    """gemmlowp's SaturatingRoundingDoublingHighMul; C division truncates."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    result = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.where((a == b) & (a == -(1 << 31)), (1 << 31) - 1, result)


def divide_by_power_of_two(x: Ints, n: Ints | np.int64) -> Ints:
    mask = (np.int64(1) << n) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> n) + ((x & mask) > threshold)


def saturate(x: Ints) -> Ints:
    return np.clip(x, -(1 << 31), (1 << 31) - 1)


def requantise(x: Ints, multiplier: Ints, shift: Ints) -> Ints:
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    return divide_by_power_of_two(doubling_high_multiply(saturate(x << left), multiplier), right)


@dataclass(frozen=True)
class TensorRecord:
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
class OpRecord:
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


@dataclass
class Reference:
    """One image and, optionally, an adapter's blob; without, the base model."""

    content: bytes
    blob: bytes | None = None
    tensors: list[TensorRecord] = field(default_factory=list)
    ops: list[OpRecord] = field(default_factory=list)
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
            self.tensors.append(TensorRecord(data, (h, w, ch), zero, bits, scale, gradient, mask))
        for i in range(op_count):
            v = struct.unpack_from("<BBHHHbbH7I6I", c, ops + 64 * i)
            fields = [*v[:7], *v[8:15], tuple(v[15:])]  # without reserved bytes
            self.ops.append(OpRecord(*fields))

    def array(self, at: int, dtype: str, count: int, *, adapter: bool = False) -> Ints:
        source = self.blob if adapter else self.content
        assert source is not None
        return np.frombuffer(source, dtype, count, at).astype(np.int64)

    def effective(self, op: OpRecord) -> tuple[Ints, Ints]:
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

    def adapted_weights(self, op: OpRecord) -> Ints:
        """(out, taps, in channels): what an adapted layer computes with."""
        out, channels = self.tensors[op.output].shape[2], self.tensors[op.input].shape[2]
        taps = math.prod(reverse.window_size(self, op))
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

    def factors(self, op: OpRecord) -> tuple[Ints, Ints]:
        """A (rank, fan in) and B (out, rank) of an adapted layer."""
        out = self.tensors[op.output].shape[2]
        (rank,) = struct.unpack_from("<H", self.content, op.words[4])
        fan_in = math.prod(reverse.window_size(self, op)) * self.tensors[op.input].shape[2]
        a = self.array(op.weight_param, "<i2", rank * fan_in, adapter=True)
        b = self.array(op.weight_param + 2 * rank * fan_in, "<i2", rank * out, adapter=True)
        return a.reshape(rank, fan_in), b.reshape(out, rank)

    def weight_scales(self, op: OpRecord) -> Floats:
        """(out,), from multipliers alone: s_w = multiplier * s_out / s_in."""
        out = self.tensors[op.output].shape[2]
        count = out if op.flags & 4 else 1
        multipliers = self.array(op.multipliers, "<i4", count) / 2.0**31
        shifts = self.array(op.shifts, "i1", count)
        ratio = self.tensors[op.output].scale / self.tensors[op.input].scale
        return np.broadcast_to(multipliers * 2.0**shifts * ratio, (out,))

    def forward(self, x: npt.NDArray[np.int8]) -> list[Ints]:
        """Every tensor's values (elements,) for one sample."""
        values: list[Ints] = [np.zeros(0, np.int64)] * len(self.tensors)
        values[self.input] = x.reshape(-1).astype(np.int64)
        for op in self.ops:
            source = values[op.input]
            values[op.output] = self._dense(op, source) if op.opcode == 1 else self._softmax(op, source)
        return values

    def _dense(self, op: OpRecord, x: Ints) -> Ints:
        weights, bias = self.effective(op)
        count = weights.shape[0] if op.flags & 4 else 1
        acc = weights @ (x - self.tensors[op.input].zero_point) + bias
        assert np.abs(acc).max(initial=0) < 1 << 31
        multiplier, shift = self.array(op.multipliers, "<i4", count), self.array(op.shifts, "i1", count)
        scaled = requantise(acc, multiplier, shift)
        return np.clip(saturate(scaled + self.tensors[op.output].zero_point), op.act_min, op.act_max)

    def _softmax(self, op: OpRecord, x: Ints) -> Ints:
        multiplier, shift = np.int64(op.words[0]), np.int64(op.words[1])
        diff_min = np.int64(np.int32(np.uint32(op.words[2])))
        channels = self.tensors[op.input].shape[2]
        return np.concatenate([_softmax_row(row, multiplier, shift, diff_min) for row in x.reshape(-1, channels)])

    # --- training ------------------------------------------------------------------------------

    def loss_section(self) -> tuple[int, int, int, int, int, int, float]:
        """(loss, first op, last op, tensor, A, B, C)"""
        loss, _, first, last, tensor, a, b, _, unit = struct.unpack_from("<BBHHHiiIf", self.content, self.training)
        return loss, first, last, tensor, a, b, unit

    def real(self, tensor: int, values: Ints) -> Floats:
        t = self.tensors[tensor]
        return (values - t.zero_point) * float(np.float32(t.scale))

    def loss(self, values: list[Ints], *, label: int = 0, target: Ints | None = None) -> tuple[float, Floats]:
        """Loss and its gradient (elements,) at the loss tensor, real units, mask not applied."""
        kind, _, _, tensor, _, _, _ = self.loss_section()
        y = self.real(tensor, values[tensor])
        if kind == 3:
            p = np.exp(y - y.max())
            p /= p.sum()
            onehot = np.zeros(y.size)
            onehot[label] = 1
            return float(-np.log(max(p[label], 1e-300))), p - onehot
        t = self.real(self.input, values[self.input]) if kind == 1 else self.real(tensor, np.asarray(target, np.int64))
        return float(np.mean((y - t) ** 2)), 2.0 / y.size * (y - t)

    def passes(self, op: OpRecord, values: list[Ints]) -> npt.NDArray[np.bool_]:
        y = values[op.output]
        return (y > op.act_min) & (y < op.act_max) if op.flags & 8 else np.ones(y.size, np.bool_)

    def gradients(
        self, values: list[Ints], *, label: int = 0, target: Ints | None = None
    ) -> dict[int, tuple[Floats, Floats]]:
        """Op -> (dL/db (out,), dL/dw (out, in)), real units, for every op of the backward pass."""
        _, first, last, tensor, _, _, _ = self.loss_section()
        _, g = self.loss(values, label=label, target=target)
        arrived = {tensor: g}
        result = {}
        for i in range(first, last - 1, -1):
            op = self.ops[i]
            if not op.training:
                continue
            g = np.where(self.passes(op, values), arrived[op.output], 0.0)
            if op.opcode == 15:
                result[i] = (g, reverse.weight_gradient(self, op, values, g))
                parts = reverse.passed_on(self, op, values, g)
            elif op.opcode == 1:
                result[i] = (g, np.outer(g, self.real(op.input, values[op.input])))
                weights, _ = self.effective(op)
                parts = {op.input: (weights * self.weight_scales(op)[:, None]).T @ g}
            else:
                result[i] = (g, np.zeros(0))
                parts = reverse.passed_on(self, op, values, g)
            for source, part in parts.items():
                arrived[source] = arrived.get(source, 0.0) + part
        return result

    def integer_changes(
        self,
        values: list[Ints],
        *,
        label: int = 0,
        target: Ints | None = None,
        errors: dict[int, tuple[Floats, Floats]] | None = None,
    ) -> dict[int, tuple[Floats, Floats]]:
        """The device's way: op -> change of (bias delta (out,), w16 (out, in)) at learning rate 1, unrounded.

        Mantissas, exponents and planned constants are the image's; asserts that no accumulator overflows.
        `errors` takes the most that rounding to mantissas can have moved each change: where products cancel in a
        sum, as for the one unit of a layer of one, that may be much of it.
        """
        kind, first, last, tensor, a, b, _ = self.loss_section()
        y = values[tensor]
        if kind == 3:
            table = self.array(struct.unpack_from("<I", self.content, self.training + 16)[0], "<u4", 256)
            e = table[y.max() - y]
            acc = (e * (1 << 24) + e.sum() // 2) // e.sum()
            acc[label] -= 1 << 24
        else:
            t = values[self.input] if kind == 1 else np.asarray(target, np.int64)
            zero = self.tensors[self.input if kind == 1 else tensor].zero_point
            acc = (y - self.tensors[tensor].zero_point) * a - (t - zero) * b
        exponent, result = 0, {}
        lost = np.zeros(acc.size)  # the most by which `acc` is off, in its unit
        for i in range(first, last - 1, -1):
            op = self.ops[i]
            out_tensor = self.tensors[op.output]
            acc = np.where(self.passes(op, values), acc, 0)
            unit = 2.0**exponent
            mantissa, exponent = _normalise(acc, exponent, out_tensor.mantissa_bits)
            result[i] = self._changes(op, mantissa, exponent, values[op.input])
            # Half a unit by rounding, a whole one where the largest is clamped.
            lost = np.where(self.passes(op, values), lost * unit / 2.0**exponent + 1.0, 0.0)
            if errors is not None:
                b, w = self._changes(op, lost, exponent, values[op.input])
                errors[i] = (np.abs(b), np.abs(w))
            if not op.flags & 16:
                break
            rescale = struct.unpack_from("<I", self.content, op.training + 8)[0]
            if rescale:
                r = self.array(rescale, "<u2", mantissa.size)
                mantissa = (mantissa * r + (1 << 14)) >> 15
                lost = lost * r / 32768 + 1.0
            weights, _ = self.effective(op)
            # The bound that the planner promises, for any mantissas of this width.
            bound = ((1 << out_tensor.mantissa_bits) * np.abs(weights).sum(0)).max()
            assert bound <= 1 << 31
            acc = weights.T @ mantissa
            lost = np.abs(weights).T @ lost
            exponent += struct.unpack_from("<h", self.content, op.training + 34)[0]
        return result

    def _changes(self, op: OpRecord, mantissa: Ints | Floats, exponent: int, x: Ints) -> tuple[Floats, Floats]:
        at = op.training
        kb_at, ratio_m, ratio_e = struct.unpack_from("<IHh", self.content, at)
        count = mantissa.size if op.flags & 4 else 1
        pairs = [struct.unpack_from("<Hh", self.content, kb_at + 4 * i) for i in range(count)]
        kb = np.broadcast_to(np.array([m * 2.0**e for m, e in pairs]), (mantissa.size,))
        g = mantissa * 2.0**exponent * kb
        centred = (x - self.tensors[op.input].zero_point).astype(np.float64)
        return -g, -np.outer(g * (ratio_m * 2.0**ratio_e), centred)


def _normalise(acc: Ints, exponent: int, bits: int) -> tuple[Ints, int]:
    assert np.abs(acc).max(initial=0) < 1 << 31
    magnitude = int(np.abs(acc).max(initial=0))
    if magnitude == 0:
        return np.zeros_like(acc), 0
    shift = magnitude.bit_length() - bits
    limit = (1 << bits) - 1
    shifted = (((acc >> (shift - 1)) + 1) >> 1) if shift > 0 else acc << -shift
    return np.clip(shifted, -limit, limit), exponent + shift


def _softmax_row(x: Ints, multiplier: np.int64, shift: np.int64, diff_min: np.int64) -> Ints:
    """SOFTMAX of TensorFlow Lite Micro in gemmlowp's fixed point, one row."""
    diff = x - x.max()
    scaled = doubling_high_multiply(saturate(diff << shift), np.broadcast_to(multiplier, diff.shape))
    exps = _exp_on_negative_values(scaled)
    used = diff >= diff_min
    total = int(divide_by_power_of_two(exps[used], np.int64(12)).sum())
    headroom = 32 - total.bit_length()
    shifted = ((total << headroom) & 0xFFFFFFFF) - (1 << 31)
    scale = _reciprocal_of_one_plus(shifted)
    unsaturated = divide_by_power_of_two(
        doubling_high_multiply(np.full_like(exps, scale), exps), np.int64(12 - headroom + 31 - 8)
    )
    return np.where(used, np.clip(unsaturated - 128, -128, 127), -128)


def _exp_on_negative_values(a: Ints) -> Ints:
    """Q5.26 to Q0.31."""
    quarter = 1 << 24
    modulo = (a & (quarter - 1)) - quarter
    x = modulo * (1 << 5) + (1 << 28)
    x2 = doubling_high_multiply(x, x)
    x3, x4 = doubling_high_multiply(x2, x), doubling_high_multiply(x2, x2)
    third = np.full_like(x, 715827883)
    inner = divide_by_power_of_two(x4, np.int64(2)) + x3
    rest = divide_by_power_of_two(doubling_high_multiply(inner, third) + x2, np.int64(1))
    constant = np.full_like(x, 1895147668)
    result = saturate(constant + doubling_high_multiply(constant, x + rest))
    remainder = modulo - a
    factors = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
    for k, factor in enumerate(factors):
        hit = (remainder & (1 << (24 + k))) != 0
        result = np.where(hit, doubling_high_multiply(result, np.full_like(result, factor)), result)
    return np.where(a == 0, (1 << 31) - 1, result)


def _reciprocal_of_one_plus(a: int) -> int:
    """1 / (1 + a), a in Q0.31."""

    def multiply(p: int, q: int) -> int:
        return int(doubling_high_multiply(np.array([p], np.int64), np.array([q], np.int64))[0])

    half = (a + (1 << 31)) >> 1
    x = 1515870810 + multiply(half, -1010580540)
    for _ in range(3):
        error = (1 << 29) - multiply(half, x)
        x += int(saturate(np.array([multiply(x, error) << 2]))[0])
    return int(saturate(np.array([x << 1]))[0])
