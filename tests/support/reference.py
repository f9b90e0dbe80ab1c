"""A slow second implementation of the image format in numpy: forward in int64, gradients in float64.

It reads the bytes of an image by the specification, not through the compiler, so that an error of the
compiler shows. The gradient is the reverse pass over the device's own int8 activations and masks,
straight-through at rounding, nothing through clamped outputs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tests.support import reverse
from tests.support.arrays import Floats, Ints
from tests.support.gemmlowp import requantise, saturate, softmax_row
from tests.support.image_entries import ImageEntries, OpEntry


@dataclass
class Reference(ImageEntries):
    """What an image computes, and what it trains."""

    def forward(self, x: npt.NDArray[np.int8]) -> list[Ints]:
        """Every tensor's values (elements,) for one sample."""
        values: list[Ints] = [np.zeros(0, np.int64)] * len(self.tensors)
        values[self.input] = x.reshape(-1).astype(np.int64)
        for op in self.ops:
            source = values[op.input]
            values[op.output] = self._dense(op, source) if op.opcode == 1 else self._softmax(op, source)
        return values

    def _dense(self, op: OpEntry, x: Ints) -> Ints:
        weights, bias = self.effective(op)
        count = weights.shape[0] if op.flags & 4 else 1
        acc = weights @ (x - self.tensors[op.input].zero_point) + bias
        assert np.abs(acc).max(initial=0) < 1 << 31
        multiplier, shift = self.array(op.multipliers, "<i4", count), self.array(op.shifts, "i1", count)
        scaled = requantise(acc, multiplier, shift)
        return np.clip(saturate(scaled + self.tensors[op.output].zero_point), op.act_min, op.act_max)

    def _softmax(self, op: OpEntry, x: Ints) -> Ints:
        multiplier, shift = np.int64(op.words[0]), np.int64(op.words[1])
        diff_min = np.int64(np.int32(np.uint32(op.words[2])))
        channels = self.tensors[op.input].shape[2]
        return np.concatenate([softmax_row(row, multiplier, shift, diff_min) for row in x.reshape(-1, channels)])

    # --- training ------------------------------------------------------------------------------

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
                bias, weight = self._changes(op, lost, exponent, values[op.input])
                errors[i] = (np.abs(bias), np.abs(weight))
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

    def _changes(self, op: OpEntry, mantissa: Ints | Floats, exponent: int, x: Ints) -> tuple[Floats, Floats]:
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
