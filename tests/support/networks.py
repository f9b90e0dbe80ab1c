"""Builds int8 `.tflite` networks of any supported operator by hand, with a converter's ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tflite

from tests.support.tflite_builder import ACTIVATIONS, FLOAT32, INT8, INT16, INT32, TANH_ACTIVATION, ModelBuilder, OpSpec

Code, Kinds = tflite.BuiltinOperator, tflite.BuiltinOptions
SAME, VALID = 0, 1


@dataclass(frozen=True)
class Node:
    """A tensor of the model; `spread`: standard deviation of its values, real units."""

    tensor: int
    shape: tuple[int, ...]
    scale: float
    zero: int
    spread: float


def f32(x: float | np.float32) -> float:
    return float(np.float32(x))


@dataclass
class Network:
    """Adds one layer after the other; every method returns the node that it made."""

    seed: int = 0
    per_channel: bool = True
    m: ModelBuilder = field(default_factory=ModelBuilder)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def node(self, shape: tuple[int, ...], scale: float, zero: int, spread: float) -> Node:
        return Node(self.m.activation(shape, f32(scale), zero), shape, f32(scale), zero, spread)

    def source(self, *shape: int) -> Node:
        scale, zero = self.rng.uniform(0.01, 0.05), int(self.rng.integers(-128, 128))
        made = self.node((1, *shape), scale, zero, 74.0 * scale)
        self.m.inputs = [made.tensor]
        return made

    def finish(self, node: Node) -> bytes:
        self.m.outputs = [node.tensor]
        return self.m.build()

    def integers(self, *values: Any) -> int:
        array = np.array(values, "<i4")
        return self.m.tensor(array.shape, INT32, (), 0, self.m.buffer(array.tobytes()), "constant")

    def add_op(self, code: int, inputs: list[int], output: Node, options: Any = None) -> Node:
        self.m.ops.append(OpSpec(code, inputs, [output.tensor], options=options))
        return output

    def output(self, shape: tuple[int, ...], spread: float, activation: str) -> Node:
        scale = spread * self.rng.uniform(2.0, 3.0) / 128
        zero = int(self.rng.integers(-20, 20))
        if activation in ("RELU", "RELU6"):
            scale, zero = scale / 2, -128
        if activation == "RELU6":
            scale = min(scale, 6.0 / 200)
        if activation == "RELU_N1_TO_1":
            scale, zero = min(scale, 1.0 / 100), 0
        return self.node(shape, scale, zero, min(spread, 60 * scale))

    def parameters(
        self, x: Node, shape: tuple[int, ...], channels: int, fan_in: int, dimension: int, bias: bool
    ) -> tuple[int, int, float]:
        """(weights, bias or -1, spread of the outputs)"""
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        count = channels if self.per_channel else 1
        scales = tuple(f32(s) for s in self.rng.uniform(0.5, 2.0, count) / (74.0 * fan_in**0.5))
        weights = self.m.weights(values, scales)
        self.m.tensors[weights].dimension = dimension
        spread = 1.3 * x.spread
        if not bias:
            return weights, -1, spread
        units = np.array([np.float32(x.scale) * np.float32(s) for s in scales], np.float32)
        numbers = np.rint(self.rng.normal(0, 0.3 * spread, channels) / units).astype(np.int32)
        return weights, self.m.bias(numbers, tuple(float(u) for u in units)), spread

    def conv(
        self,
        x: Node,
        channels: int,
        size: tuple[int, int] = (3, 3),
        *,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: int = SAME,
        activation: str = "RELU",
        bias: bool = True,
        groups: int = 1,
    ) -> Node:
        _, h, w, c = x.shape
        weights, b, spread = self.parameters(
            x, (channels, *size, c // groups), channels, size[0] * size[1] * c // groups, 0, bias
        )
        shape = (1, *extents((h, w), size, stride, dilation, padding), channels)
        fields = {
            0: ("i8", padding),
            1: ("i32", stride[1]),
            2: ("i32", stride[0]),
            3: ("i8", ACTIVATIONS[activation]),
            4: ("i32", dilation[1]),
            5: ("i32", dilation[0]),
        }
        made = self.output(shape, spread, activation)
        return self.add_op(
            Code.CONV_2D, [x.tensor, weights, *([b] if b >= 0 else [])], made, (Kinds.Conv2DOptions, fields)
        )

    def depthwise(
        self,
        x: Node,
        size: tuple[int, int] = (3, 3),
        *,
        multiplier: int = 1,
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        padding: int = SAME,
        activation: str = "RELU",
        bias: bool = True,
    ) -> Node:
        _, h, w, c = x.shape
        channels = c * multiplier
        weights, b, spread = self.parameters(x, (1, *size, channels), channels, size[0] * size[1], 3, bias)
        shape = (1, *extents((h, w), size, stride, dilation, padding), channels)
        fields = {
            0: ("i8", padding),
            1: ("i32", stride[1]),
            2: ("i32", stride[0]),
            3: ("i32", multiplier),
            4: ("i8", ACTIVATIONS[activation]),
            5: ("i32", dilation[1]),
            6: ("i32", dilation[0]),
        }
        made = self.output(shape, spread, activation)
        options = (Kinds.DepthwiseConv2DOptions, fields)
        return self.add_op(Code.DEPTHWISE_CONV_2D, [x.tensor, weights, *([b] if b >= 0 else [])], made, options)

    def pool(
        self,
        x: Node,
        kind: str,
        size: tuple[int, int],
        *,
        stride: tuple[int, int] | None = None,
        padding: int = VALID,
        activation: str = "NONE",
    ) -> Node:
        _, h, w, c = x.shape
        stride = stride or size
        made = self.node((1, *extents((h, w), size, stride, (1, 1), padding), c), x.scale, x.zero, x.spread)
        fields = {
            0: ("i8", padding),
            1: ("i32", stride[1]),
            2: ("i32", stride[0]),
            3: ("i32", size[1]),
            4: ("i32", size[0]),
            5: ("i8", ACTIVATIONS[activation]),
        }
        code = Code.AVERAGE_POOL_2D if kind == "average" else Code.MAX_POOL_2D
        return self.add_op(code, [x.tensor], made, (Kinds.Pool2DOptions, fields))

    def mean(self, x: Node, *, axes: tuple[int, ...] = (), keep: bool = False, rescale: bool = True) -> Node:
        """Over `axes`; without them, over all positions."""
        scale = x.scale * (self.rng.uniform(0.3, 0.9) if rescale else 1.0)
        zero = int(self.rng.integers(-128, 0)) if rescale else x.zero
        axes = axes or tuple(range(1, len(x.shape) - 1))
        reduced = [a % len(x.shape) for a in axes]
        shape = tuple(1 if i in reduced else n for i, n in enumerate(x.shape) if keep or i not in reduced)
        made = self.node(shape, scale, zero, x.spread)
        options = (Kinds.ReducerOptions, {0: ("i8", int(keep))})
        return self.add_op(Code.MEAN, [x.tensor, self.integers(*axes)], made, options)

    def maximum(self, x: Node, *, keep: bool = False) -> Node:
        """Over all positions."""
        axes = range(1, len(x.shape) - 1)
        made = self.like(x, (1,) * len(axes) * keep + (1, x.shape[-1]))
        options = (Kinds.ReducerOptions, {0: ("i8", int(keep))})
        return self.add_op(Code.REDUCE_MAX, [x.tensor, self.integers(*axes)], made, options)

    def reshape(self, x: Node, *shape: int) -> Node:
        made = self.node((1, *shape), x.scale, x.zero, x.spread)
        return self.add_op(Code.RESHAPE, [x.tensor, self.integers(1, *shape)], made)

    def flatten(self, x: Node) -> Node:
        return self.reshape(x, int(np.prod(x.shape)))

    def dense(self, x: Node, out: int, *, activation: str = "NONE", bias: bool = True) -> Node:
        fan_in = x.shape[-1]
        weights, b, spread = self.parameters(x, (out, fan_in), out, fan_in, 0, bias)
        made = self.output((*x.shape[:-1], out), spread, activation)
        self.m.dense(x.tensor, weights, b, made.tensor, activation)
        return made

    def softmax(self, x: Node) -> Node:
        return self.add_op(Code.SOFTMAX, [x.tensor], self.node(x.shape, 1 / 256, -128, 0.1))

    def transpose_conv(
        self,
        x: Node,
        channels: int,
        size: tuple[int, int] = (3, 3),
        *,
        stride: tuple[int, int] = (2, 2),
        padding: int = SAME,
        bias: bool = True,
    ) -> Node:
        _, h, w, c = x.shape
        weights, b, spread = self.parameters(x, (channels, *size, c), channels, size[0] * size[1] * c, 0, bias)
        shape = (1, h * stride[0], w * stride[1], channels)
        if padding == VALID:
            shape = (1, (h - 1) * stride[0] + size[0], (w - 1) * stride[1] + size[1], channels)
        made = self.output(shape, spread / max(1, stride[0] * stride[1]) ** 0.5, "NONE")
        fields = {0: ("i8", padding), 1: ("i32", stride[1]), 2: ("i32", stride[0])}
        inputs = [self.integers(*shape), weights, x.tensor, *([b] if b >= 0 else [])]
        return self.add_op(Code.TRANSPOSE_CONV, inputs, made, (Kinds.TransposeConvOptions, fields))

    def lstm(
        self, x: Node, units: int, *, cell_power: int = -11, limit: float = 10.0, spread: float = 1.0, **options: Any
    ) -> Node:
        """As Keras' layer is converted: `cell_power` gives the cell state's scale; `spread`: of the gates. `options`:
        further fields of the operator, by number, and inputs that such a layer does not have."""
        steps, inputs = x.shape[-2:]
        scale, zero = f32(self.rng.uniform(0.5, 1.0) / 128), int(self.rng.integers(-20, 21))
        tensors = [x.tensor, *[-1] * 23]
        for first, width, driver in ((1, inputs, x.spread), (5, units, 0.4)):
            for i in range(first, first + 4):
                values = self.rng.integers(-127, 128, (units, width)).astype(np.int8)
                tensors[i] = self.m.weights(values, (f32(spread / (74.0 * width**0.5 * driver)),))
        for i in range(12, 16):
            unit = f32(float(np.float32(x.scale) * np.float32(self.m.tensors[tensors[i - 11]].scales[0])))
            numbers = np.rint(self.rng.normal(0, 0.3 * spread, units) / unit).astype(np.int32)
            tensors[i] = self.m.bias(numbers, (unit,))
        hidden = [(1, units), INT8, (scale,), zero]
        tensors[18] = self.m.tensor(*hidden, 0, "hidden state", variable=True)
        tensors[19] = self.m.tensor((1, units), INT16, (2.0**cell_power,), 0, 0, "cell state", variable=True)
        between = [self.m.tensor((0,), FLOAT32, (), 0, 0, "between") for _ in range(4)]
        fields = {0: ("i8", TANH_ACTIVATION), 1: ("f32", limit), **options.pop("fields", {})}
        for place, tensor in options.pop("inputs", {}).items():
            tensors[place] = tensor
        made = self.node((1, steps, units), scale, zero, 0.4)
        kind = (Kinds.UnidirectionalSequenceLSTMOptions, fields)
        self.add_op(Code.UNIDIRECTIONAL_SEQUENCE_LSTM, tensors, made, kind)
        self.m.ops[-1].intermediates = [*between, self.m.tensor((0,), *hidden[1:], 0, "opened")]
        return made

    def unary(self, x: Node, kind: str, *, alpha: float = 0.2) -> Node:
        scale, zero = x.scale * self.rng.uniform(0.6, 1.1), int(self.rng.integers(-60, 60))
        options = None
        if kind in ("RELU", "RELU6"):
            scale, zero = min(scale, 6.0 / 200 if kind == "RELU6" else 1.0), -128
        elif kind == "RELU_N1_TO_1":
            scale = 1.0 / 100
        elif kind == "LOGISTIC":
            scale, zero = 1 / 256, -128
        elif kind == "TANH":
            scale, zero = 1 / 128, 0
        elif kind == "LEAKY_RELU":
            options = (Kinds.LeakyReluOptions, {0: ("f32", alpha)})
        made = self.node(x.shape, scale, zero, min(x.spread, 60 * scale))
        return self.add_op(getattr(Code, kind), [x.tensor], made, options)

    def add(self, a: Node, b: Node, *, activation: str = "NONE") -> Node:
        return self.combine("ADD", a, b, activation=activation)

    def mul(self, a: Node, b: Node, *, activation: str = "NONE") -> Node:
        return self.combine("MUL", a, b, activation=activation)

    def combine(self, kind: str, a: Node, b: Node, *, activation: str = "NONE") -> Node:
        """ADD, SUB or MUL; extents of 1 are broadcast."""
        spread = a.spread * b.spread if kind == "MUL" else float(np.hypot(a.spread, b.spread))
        made = self.output(np.broadcast_shapes(a.shape, b.shape), spread, activation)
        options = (getattr(Kinds, f"{kind.capitalize()}Options"), {0: ("i8", ACTIVATIONS[activation])})
        return self.add_op(getattr(Code, kind), [a.tensor, b.tensor], made, options)

    def constant(self, x: Node, kind: str, values: Any) -> Node:
        """int8 `values` to combine with `x`: of its size for sums, about 1 for products."""
        array = np.asarray(values, np.int8)
        scale = f32(0.02 if kind == "MUL" else x.scale * 1.7)
        tensor = self.m.tensor(array.shape, INT8, (scale,), 3, self.m.buffer(array.tobytes()), "constant")
        spread = float(np.sqrt(np.mean((array.astype(float) - 3) ** 2))) * scale
        return Node(tensor, array.shape, scale, 3, max(spread, 0.1))

    def with_constant(self, x: Node, kind: str, values: Any, *, activation: str = "NONE", first: bool = False) -> Node:
        """`first`: the constant comes first."""
        constant = self.constant(x, kind, values)
        a, b = (constant, x) if first else (x, constant)
        return self.combine(kind, a, b, activation=activation)

    def like(self, x: Node, shape: tuple[int, ...]) -> Node:
        return self.node(shape, x.scale, x.zero, x.spread)

    def concatenation(self, parts: list[Node], axis: int) -> Node:
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        options = (Kinds.ConcatenationOptions, {0: ("i32", axis)})
        made = self.like(parts[0], tuple(shape))
        return self.add_op(Code.CONCATENATION, [p.tensor for p in parts], made, options)

    def pad(self, x: Node, *pads: tuple[int, int]) -> Node:
        """One pair per dimension, except for the batch."""
        shape = tuple(n + a + b for n, (a, b) in zip(x.shape, ((0, 0), *pads), strict=True))
        constant = np.array([(0, 0), *pads], "<i4")
        tensor = self.m.tensor(constant.shape, INT32, (), 0, self.m.buffer(constant.tobytes()), "paddings")
        return self.add_op(Code.PAD, [x.tensor, tensor], self.like(x, shape), (Kinds.PadOptions, {}))

    def reverse(self, x: Node, *axes: int) -> Node:
        made = self.like(x, x.shape)
        return self.add_op(Code.REVERSE_V2, [x.tensor, self.integers(*axes)], made, (Kinds.ReverseV2Options, {}))

    def tile(self, x: Node, *times: int) -> Node:
        made = self.like(x, tuple(n * k for n, k in zip(x.shape, times, strict=True)))
        return self.add_op(Code.TILE, [x.tensor, self.integers(*times)], made, (Kinds.TileOptions, {}))

    def resize(self, x: Node, height: int, width: int, *, align: bool = False, half: bool = False) -> Node:
        options = (Kinds.ResizeNearestNeighborOptions, {0: ("i8", int(align)), 1: ("i8", int(half))})
        made = self.like(x, (1, height, width, x.shape[3]))
        return self.add_op(Code.RESIZE_NEAREST_NEIGHBOR, [x.tensor, self.integers(height, width)], made, options)

    def slice(self, x: Node, begin: Any, end: Any, stride: Any) -> Node:
        shape = tuple(
            len(range(n)[slice(*bounds)])
            for n, bounds in zip(x.shape, zip(begin, end, stride, strict=True), strict=True)
        )
        inputs = [x.tensor, *(self.integers(*v) for v in (begin, end, stride))]
        return self.add_op(Code.STRIDED_SLICE, inputs, self.like(x, shape), (Kinds.StridedSliceOptions, {}))


@dataclass
class LargeBiases(Network):
    """Two channels of four have biases beyond 2^30 units of their accumulators, as a converter writes them for weights
    that are nearly zero. They end at both ends of the output's range, or if `within` near its middle."""

    within: bool = False

    def parameters(
        self, x: Node, shape: tuple[int, ...], channels: int, fan_in: int, dimension: int, bias: bool
    ) -> tuple[int, int, float]:
        weights, _, spread = super().parameters(x, shape, channels, fan_in, dimension, bias)
        scales, numbers = list(self.m.tensors[weights].scales), np.zeros(channels, np.int32)
        for channel in range(channels):
            if channel % 4 < 2:
                numbers[channel] = (1, -1)[channel % 4] * 1_500_000_000
                scales[channel] = f32((0.5 if self.within else 20) * spread / (1.5e9 * x.scale))
        self.m.tensors[weights].scales = tuple(scales)
        units = tuple(f32(np.float32(x.scale) * np.float32(s)) for s in scales)
        return weights, self.m.bias(numbers, units), spread


def extents(
    source: tuple[int, int], size: tuple[int, int], stride: Any, dilation: Any, padding: int
) -> tuple[int, int]:
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if padding == SAME:
        return -(-source[0] // stride[0]), -(-source[1] // stride[1])
    return (source[0] - reach[0]) // stride[0] + 1, (source[1] - reach[1]) // stride[1] + 1


__all__ = ["INT8", "SAME", "VALID", "Network", "Node", "extents"]
