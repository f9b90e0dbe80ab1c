"""Operators that the compiler makes of others: moves between shapes, functions of one value, PRELU, extremes, SUM."""

from __future__ import annotations

from typing import Any

import kilotune
import numpy as np
import pytest
import tflite
from kilotune import _native
from kilotune.compiler import graph
from kilotune.tflite import model as tflite_model
from kilotune.tflite.fixed_point import quantise_multiplier

from tests.support.gemmlowp import requantise
from tests.support.kernel_checks import check_gradients, differences, random_inputs
from tests.support.networks import Network, Node, f32
from tests.support.tflite_builder import FLOAT32, INT8, INT32, OpSpec

Code, Kinds = tflite.BuiltinOperator, tflite.BuiltinOptions


def exact(net: Network, x: Node) -> None:
    """In front of a dense layer: every tensor is the reference's, and gradients pass."""
    model = net.finish(net.dense(net.reshape(x, int(np.prod(x.shape))), 5))
    bad, compared = differences(model, random_inputs(model, 4))
    assert bad == 0
    assert compared > 0
    assert check_gradients(model, loss="regression", n=2) > 1


def started(seed: int = 1) -> tuple[Network, Node]:
    net = Network(seed=seed)
    return net, net.conv(net.source(6, 4, 3), 8, activation="NONE")  # (1, 6, 4, 8)


def moved(
    net: Network, code: int, inputs: list[int], x: Node, *shapes: tuple[int, ...], options: Any = None
) -> list[Node]:
    made = [net.like(x, shape) for shape in shapes]
    net.m.ops.append(OpSpec(code, inputs, [node.tensor for node in made], options=options))
    return made


def changed(x: Node, axis: int, extent: int) -> tuple[int, ...]:
    return tuple(extent if i == axis else n for i, n in enumerate(x.shape))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_split(axis: int) -> None:
    net, x = started()
    half = changed(x, axis, x.shape[axis] // 2)
    options = (Kinds.SplitOptions, {0: ("i32", 2)})
    first, second = moved(net, Code.SPLIT, [net.integers(axis), x.tensor], x, half, half, options=options)
    exact(net, net.add(second, first))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_split_into_given_sizes(axis: int) -> None:
    net, x = started()
    sizes = (1, x.shape[axis] - 2, 1)
    inputs = [x.tensor, net.integers(*sizes), net.integers(axis)]
    parts = moved(
        net,
        Code.SPLIT_V,
        inputs,
        x,
        *(changed(x, axis, n) for n in sizes),
        options=(Kinds.SplitVOptions, {0: ("i32", 3)}),
    )
    exact(net, net.concatenation([parts[2], parts[0]], axis))


@pytest.mark.parametrize(("begin", "size"), [((0, 1, 0, 2), (1, 3, 4, 5)), ((0, 2, 1, 0), (-1, -1, 2, -1))])
def test_slice(begin: tuple[int, ...], size: tuple[int, ...]) -> None:
    net, x = started()
    shape = tuple(n - b if k == -1 else k for n, b, k in zip(x.shape, begin, size, strict=True))
    inputs = [x.tensor, net.integers(*begin), net.integers(*size)]
    exact(net, moved(net, Code.SLICE, inputs, x, shape, options=(Kinds.SliceOptions, {}))[0])


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_unpack_and_pack(axis: int) -> None:
    net, x = started()
    rest = tuple(n for i, n in enumerate(x.shape) if i != axis)
    count = x.shape[axis]
    options = (Kinds.UnpackOptions, {0: ("i32", count), 1: ("i32", axis)})
    parts = moved(net, Code.UNPACK, [x.tensor], x, *[rest] * count, options=options)
    packed = (Kinds.PackOptions, {0: ("i32", 3), 1: ("i32", 2)})
    chosen = [parts[i].tensor for i in (1, 0, count - 1)]
    exact(net, moved(net, Code.PACK, chosen, x, (*rest[:2], 3, rest[2]), options=packed)[0])


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 3, 1, 2), (0, 3, 2, 1), (0, 1, 3, 2)])
def test_transpose(order: tuple[int, ...]) -> None:
    net, x = started()
    shape = tuple(x.shape[i] for i in order)
    made = moved(net, Code.TRANSPOSE, [x.tensor, net.integers(*order)], x, shape, options=(Kinds.TransposeOptions, {}))
    exact(net, net.conv(made[0], 3, (2, 2)))


def test_gather_along_one_axis() -> None:
    net, x = started()
    inputs = [x.tensor, net.integers(5, 0, 0, 3)]
    exact(net, moved(net, Code.GATHER, inputs, x, (1, 6, 4, 4), options=(Kinds.GatherOptions, {0: ("i32", 3)}))[0])


@pytest.mark.parametrize("mode", [0, 1])
def test_mirrored_padding(mode: int) -> None:
    net, x = started()
    pads = np.array([(0, 0), (2, 1), (1, 2), (0, 0)], "<i4")
    tensor = net.m.tensor(pads.shape, INT32, (), 0, net.m.buffer(pads.tobytes()), "paddings")
    options = (Kinds.MirrorPadOptions, {0: ("i8", mode)})
    exact(net, moved(net, Code.MIRROR_PAD, [x.tensor, tensor], x, (1, 9, 7, 8), options=options)[0])


@pytest.mark.parametrize("code", [Code.DEPTH_TO_SPACE, Code.SPACE_TO_DEPTH])
def test_depth_and_space(code: int) -> None:
    net, x = started()
    kind = Kinds.DepthToSpaceOptions if code == Code.DEPTH_TO_SPACE else Kinds.SpaceToDepthOptions
    shape = (1, 12, 8, 2) if code == Code.DEPTH_TO_SPACE else (1, 3, 2, 32)
    exact(net, moved(net, code, [x.tensor], x, shape, options=(kind, {0: ("i32", 2)}))[0])


@pytest.mark.parametrize("kind", ["ABS", "EXP", "GELU"])
def test_functions_of_one_value(kind: str) -> None:
    net, x = started(seed=3)
    exact(net, net.unary(x, kind))


def test_reciprocal_root_of_what_is_positive() -> None:
    for seed in range(4):
        net, x = started(seed)
        positive = net.unary(x, "RELU")
        scale = f32(1 / (80 * (3 * positive.scale) ** 0.5))
        made = net.add_op(Code.RSQRT, [positive.tensor], net.node(x.shape, scale, -100 + seed, 20 * scale))
        exact(net, made)


@pytest.mark.parametrize("kind", ["NEG", "SQUARE", "SIN", "SQRT"])
def test_functions_in_float_between_int8_tensors(kind: str) -> None:
    """What the converter writes for functions without int8 kernels."""
    net, x = started(seed=4)
    x = net.unary(x, "RELU") if kind == "SQRT" else x
    inner, made = (net.m.activation(x.shape, 1.0, 0, FLOAT32) for _ in range(2))
    output = net.node(x.shape, x.scale, -20, x.spread)
    net.m.ops += [
        OpSpec(Code.DEQUANTIZE, [x.tensor], [inner]),
        OpSpec(getattr(Code, kind), [inner], [made]),
        OpSpec(Code.QUANTIZE, [made], [output.tensor]),
    ]
    exact(net, output)


def test_open_float_functions_are_refused_with_what_they_are() -> None:
    net, x = started()
    inner, made = net.m.activation(x.shape, 1.0, 0, FLOAT32), net.m.activation((1, 6, 4, 1), 1.0, 0, FLOAT32)
    output = net.node((1, 6, 4, 1), x.scale, 0, x.spread)
    net.m.ops += [
        OpSpec(Code.DEQUANTIZE, [x.tensor], [inner]),
        OpSpec(Code.L2_NORMALIZATION, [inner], [made]),
        OpSpec(Code.QUANTIZE, [made], [output.tensor]),
    ]
    with pytest.raises(Exception, match="L2_NORMALIZATION"):
        graph.build(tflite_model.read(net.finish(net.dense(net.flatten(output), 2))))


@pytest.mark.parametrize("shape", [(8,), (1, 1, 8), (6, 4, 8), (1, 1, 1)])
def test_prelu(shape: tuple[int, ...]) -> None:
    for seed in range(3):
        net, x = started(seed)
        slopes = net.rng.integers(-100, 127, shape).astype(np.int8)
        tensor = net.m.tensor(shape, INT8, (0.004,), 5, net.m.buffer(slopes.tobytes()), "slopes")
        output = net.node(x.shape, x.scale * net.rng.uniform(0.4, 1.1), int(net.rng.integers(-100, 20)), x.spread)
        exact(net, net.add_op(Code.PRELU, [x.tensor, tensor], output))


@pytest.mark.parametrize("kind", ["MAXIMUM", "MINIMUM"])
def test_extremes(kind: str) -> None:
    net, x = started()
    y = net.like(x, x.shape)
    pads = net.pad(net.slice(x, (0, 1, 0, 0), (1, 6, 4, 8), (1, 1, 1, 1)), (1, 0), (0, 0), (0, 0))
    made = net.add_op(getattr(Code, kind), [x.tensor, pads.tensor], y, (Kinds.MaximumMinimumOptions, {}))
    exact(net, made)
    net, x = started(seed=2)
    number = net.m.tensor((1,), INT8, (x.scale,), x.zero, net.m.buffer(bytes([7])), "number")
    exact(net, net.add_op(getattr(Code, kind), [x.tensor, number], net.like(x, x.shape)))


@pytest.mark.parametrize("axes", [(1, 2), (3,), (1,)])
def test_sum(axes: tuple[int, ...]) -> None:
    """By TensorFlow Lite Micro's formula: tflite-runtime 2.14 adds int8 in int8, which overflows."""
    net = Network(seed=len(axes))
    x = net.source(6, 4, 3)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    y = net.node(shape, 2.3 * x.scale, -7, x.spread)
    net.add_op(Code.SUM, [x.tensor, net.integers(*axes)], y, (Kinds.ReducerOptions, {0: ("i8", 1)}))
    model = net.finish(y)
    inputs = random_inputs(model, 20)
    sums = (inputs.reshape(20, 6, 4, 3).astype(np.int64) - x.zero).sum(axes)
    multiplier, shift = (np.array([v], np.int64) for v in quantise_multiplier(x.scale / y.scale))
    wanted = np.clip(requantise(sums, multiplier, shift) - 7, -128, 127).reshape(20, -1)
    kernel = _native.Kernel(kilotune.compile(model, method="none").content)
    np.testing.assert_array_equal(kernel.infer(inputs.reshape(20, -1)), wanted)
    net, x = started()
    y = net.node(tuple(1 if i in axes else n for i, n in enumerate(x.shape)), 3 * x.scale, -7, x.spread)
    y = net.add_op(Code.SUM, [x.tensor, net.integers(*axes)], y, (Kinds.ReducerOptions, {0: ("i8", 1)}))
    assert check_gradients(net.finish(net.dense(net.flatten(y), 5)), loss="regression", n=2) > 1


def test_what_only_computes_shapes_is_folded_away() -> None:
    """What Keras writes for an open batch: the target shape of a RESHAPE is computed."""
    net, x = started()
    integers = [net.m.tensor(shape, INT32, (), 0, 0, "computed") for shape in ((4,), (), (2,))]
    first = [net.integers(0), net.integers(1), net.integers(1)]
    options = (Kinds.StridedSliceOptions, {4: ("i32", 1)})
    net.m.ops += [
        OpSpec(Code.SHAPE, [x.tensor], [integers[0]], options=(Kinds.ShapeOptions, {0: ("i8", 2)})),
        OpSpec(Code.STRIDED_SLICE, [integers[0], *first], [integers[1]], options=options),
    ]
    count = net.m.tensor((), INT32, (), 0, net.m.buffer(np.array(192, "<i4").tobytes()), "count")
    net.m.ops.append(
        OpSpec(Code.PACK, [integers[1], count], [integers[2]], options=(Kinds.PackOptions, {0: ("i32", 2)}))
    )
    flat = net.like(x, (1, 192))
    exact(net, net.add_op(Code.RESHAPE, [x.tensor, integers[2]], flat))


def test_the_number_of_the_largest_score_becomes_the_scores() -> None:
    net, x = started()
    scores = net.dense(net.flatten(x), 5)
    number = net.m.tensor((1,), 4, (), 0, 0, "number")
    net.m.ops.append(
        OpSpec(Code.ARG_MAX, [scores.tensor, net.integers(1)], [number], options=(Kinds.ArgMaxOptions, {0: ("i8", 4)}))
    )
    net.m.outputs = [number]
    built = graph.build(tflite_model.read(net.m.build()))
    assert built.activations[built.output].tflite_tensor == scores.tensor
    assert [op.kind for op in built.ops] == ["CONV_2D", "FULLY_CONNECTED"]


def two_inputs(*, apart: bool) -> tuple[bytes, list[Node]]:
    """A network of two inputs, or the same with both as halves of one."""
    net = Network(seed=5)
    whole = net.source(6, 4, 2)
    halves = [net.node((1, 3, 4, 2), whole.scale, whole.zero, whole.spread) for _ in range(2)]
    if apart:
        net.m.inputs = [half.tensor for half in halves]
    else:
        options = (Kinds.SplitOptions, {0: ("i32", 2)})
        net.m.ops.append(
            OpSpec(Code.SPLIT, [net.integers(1), whole.tensor], [h.tensor for h in halves], options=options)
        )
    x = net.conv(halves[0], 3, (1, 1), activation="NONE")
    y = net.conv(halves[1], 3, (1, 1), activation="NONE")
    return net.finish(net.dense(net.flatten(net.add(x, y)), 4)), halves


def test_two_inputs_are_one_of_the_image_one_after_the_other() -> None:
    apart, together = (two_inputs(apart=flag)[0] for flag in (True, False))
    rows = random_inputs(together, 6).reshape(6, -1)
    images = [kilotune.compile(model, method="bias", loss="regression") for model in (apart, together)]
    assert images[0].input_bytes == images[1].input_bytes == 48
    first, second = (_native.Kernel(image.content).infer(rows) for image in images)
    np.testing.assert_array_equal(first, second)
    bad, compared = differences(together, random_inputs(together, 4))
    assert (bad, compared > 0) == (0, True)
    assert check_gradients(together, loss="regression", n=2) > 1
