"""The float64 reverse pass through operators with positions, in plain loops over the taps of a window."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from tests.support.arrays import Floats
from tests.support.image_entries import ImageEntries, OpEntry

NO_TENSOR = 0xFFFF


def passed_on(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> dict[int, Floats]:
    """Gradient (elements,) at each input of `op`, from that at its output; the masks are already applied."""
    shape = r.tensors[op.output].shape
    parts = _RULES[op.opcode](r, op, values, g.reshape(shape))
    result: dict[int, Floats] = {}
    for tensor, part in parts:
        result[tensor] = result.get(tensor, 0.0) + part.reshape(-1)
    return result


Parts = list[tuple[int, Floats]]


def _windows(r: ImageEntries, op: OpEntry) -> Any:
    """(tap, (slices of the output), (matching slices of the input)), one tap after the other."""
    (kh, kw), stride, dilation, pad = op.pairs
    x, y = r.tensors[op.input].shape, r.tensors[op.output].shape
    for ky in range(kh):
        for kx in range(kw):
            rows: list[list[tuple[int, int]]] = [[], []]
            for axis, k in ((0, ky), (1, kx)):
                for o in range(y[axis]):
                    i = o * stride[axis] - pad[axis] + k * dilation[axis]
                    if 0 <= i < x[axis]:
                        rows[axis].append((o, i))
            if rows[0] and rows[1]:
                out = np.ix_([o for o, _ in rows[0]], [o for o, _ in rows[1]])
                source = np.ix_([i for _, i in rows[0]], [i for _, i in rows[1]])
                yield ky * kw + kx, out, source


def _meetings(r: ImageEntries, op: OpEntry) -> Any:
    """`_windows` of an adapted layer."""
    if op.words[0] != 0:
        yield from _windows(r, op)
        return
    height, width = r.window_size(op)
    for tap in range(height * width):
        yield tap, np.ix_([0], [0]), np.ix_([tap // width], [tap % width])


def _adapted(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    real = r.adapted_weights(op) * r.weight_scales(op)[:, None, None]
    dx = np.zeros(r.tensors[op.input].shape)
    for tap, out, source in _meetings(r, op):
        dx[source] += g[out] @ real[:, tap]
    return [(op.input, dx)]


def weight_gradient(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Floats:
    """(out, taps * in channels) of an adapted layer, as if all of its weights were trained."""
    y = g.reshape(r.tensors[op.output].shape)
    x = r.real(op.input, np.asarray(values[op.input])).reshape(r.tensors[op.input].shape)
    height, width = r.window_size(op)
    dw = np.zeros((y.shape[2], height * width, x.shape[2]))
    for tap, out, source in _meetings(r, op):
        dw[:, tap] = np.einsum("hwo,hwi->oi", y[out], x[source])
    return dw.reshape(y.shape[2], -1)


def _conv(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    (kh, kw), *_ = op.pairs
    ci, co = r.tensors[op.input].shape[2], g.shape[2]
    weights = r.array(op.weights, "i1", co * kh * kw * ci).reshape(co, kh * kw, ci)
    real = weights * r.weight_scales(op)[:, None, None]
    dx = np.zeros(r.tensors[op.input].shape)
    for tap, out, source in _windows(r, op):
        dx[source] += g[out] @ real[:, tap]
    return [(op.input, dx)]


def _depthwise(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    (kh, kw), *_ = op.pairs
    co, multiplier = g.shape[2], op.words[4] & 0x7FFFFFFF  # above it: SPEC 1.3
    real = r.array(op.weights, "i1", co * kh * kw).reshape(kh * kw, co) * r.weight_scales(op)
    dx = np.zeros(r.tensors[op.input].shape)
    for tap, out, source in _windows(r, op):
        part = g[out] * real[tap]
        dx[source] += part.reshape(*part.shape[:2], -1, multiplier).sum(3)
    return [(op.input, dx)]


def _average(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    count = np.zeros(g.shape)
    for _, out, _ in _windows(r, op):
        count[out] += 1
    dx = np.zeros(r.tensors[op.input].shape)
    for _, out, source in _windows(r, op):
        dx[source] += g[out] / count[out]
    return [(op.input, dx)]


def _max(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    """Passes the gradient to the first of the largest inputs."""
    shape = r.tensors[op.input].shape
    x = np.asarray(values[op.input]).reshape(shape)
    best = np.full(g.shape, -1000)
    for _, out, source in _windows(r, op):
        best[out] = np.maximum(best[out], x[source])
    dx, left = np.zeros(shape), np.ones(g.shape, bool)
    for _, out, source in _windows(r, op):
        hit = (x[source] == best[out]) & left[out]
        left[out] &= ~hit
        dx[source] += np.where(hit, g[out], 0.0)
    return [(op.input, dx)]


def _mean(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    """What the forward pass multiplies sums by: one over their count, or for SUM 1."""
    x, y = r.tensors[op.input], r.tensors[op.output]
    kept = [1 if op.words[2] >> axis & 1 else n for axis, n in enumerate(x.shape)]
    factor = op.words[0] * 2.0 ** (int(np.int32(np.uint32(op.words[1]))) - 31) * y.scale / x.scale
    return [(op.input, np.broadcast_to(g.reshape(kept) * factor, x.shape))]


def _lookup(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    """Slopes are the image's, in 2^-14 of the largest: C_in = C_out * largest * factor."""
    slopes = r.array(op.bias, "<i2", 256) / 16384.0
    x = np.asarray(values[op.input]).reshape(g.shape)
    return [(op.input, g * slopes[x + 128] * r.slope_units[op.output])]


def _add(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    return _two(r, op, g, -g if op.words[3] >> 24 else g)


def _mul(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    a = r.real(op.input, np.asarray(values[op.input])).reshape(r.tensors[op.input].shape)
    if op.input2 != NO_TENSOR:
        b = r.real(op.input2, np.asarray(values[op.input2])).reshape(r.tensors[op.input2].shape)
        return _two(r, op, g * b, g * a)
    shape = op.words[4] & 0xFFFF, op.words[4] >> 16, op.words[5] & 0xFFFF
    zero = np.uint8(op.words[5] >> 16).astype(np.int8)
    constant = r.array(op.weights, "i1", int(np.prod(shape))).reshape(shape) - int(zero)
    # The constant's scale is what is left of the product's.
    ratio = op.words[0] / 2.0**31 * 2.0 ** int(np.uint8(op.words[3] & 0xFF).astype(np.int8))
    return _two(r, op, g * constant * ratio * r.tensors[op.output].scale / r.tensors[op.input].scale, g)


def _two(r: ImageEntries, op: OpEntry, first: Floats, second: Floats) -> Parts:
    parts = [(op.input, first)] + ([(op.input2, second)] if op.input2 != NO_TENSOR else [])
    return [(tensor, _reduced(r, tensor, g)) for tensor, g in parts]


def _reduced(r: ImageEntries, tensor: int, g: Floats) -> Floats:
    """Summed over the extents of which `tensor` has one for all."""
    shape = r.tensors[tensor].shape
    axes = tuple(i for i in range(3) if shape[i] == 1)
    return np.asarray(g.sum(axes, keepdims=True))


def _concatenation(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    count, axis = op.words[:2]
    tensors = [struct.unpack_from("<H", r.content, op.weights + 8 * i)[0] for i in range(count)]
    ends = np.cumsum([r.tensors[t].shape[axis] for t in tensors])
    return list(zip(tensors, np.split(g, ends[:-1], axis), strict=True))


def _gather(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    maps = [r.array(at, "<u2", n) for at, n in zip((op.weights, op.bias, op.multipliers), g.shape, strict=True)]
    dx = np.zeros(r.tensors[op.input].shape)
    keep = [np.flatnonzero(m != 0xFFFF) for m in maps]
    np.add.at(dx, np.ix_(*(m[k] for m, k in zip(maps, keep, strict=True))), g[np.ix_(*keep)])
    return [(op.input, dx)]


def _transpose_conv(r: ImageEntries, op: OpEntry, values: list[Any], g: Floats) -> Parts:
    (kh, kw), stride, _, pad = op.pairs
    height, width, ci = r.tensors[op.input].shape
    co = g.shape[2]
    weights = r.array(op.weights, "i1", co * kh * kw * ci).reshape(co, kh, kw, ci)
    real = weights * r.weight_scales(op)[:, None, None, None]
    dx = np.zeros((height, width, ci))
    for iy, ix, ky, kx in np.ndindex(height, width, kh, kw):
        oy, ox = iy * stride[0] - pad[0] + ky, ix * stride[1] - pad[1] + kx
        if 0 <= oy < g.shape[0] and 0 <= ox < g.shape[1]:
            dx[iy, ix] += g[oy, ox] @ real[:, ky, kx]
    return [(op.input, dx)]


_RULES = {
    3: _conv,
    4: _depthwise,
    5: _average,
    6: _max,
    7: _mean,
    8: _lookup,
    9: _add,
    10: _mul,
    11: _concatenation,
    12: _gather,
    13: lambda r, op, values, g: [(op.input, g)],
    14: _transpose_conv,
    15: _adapted,
}
