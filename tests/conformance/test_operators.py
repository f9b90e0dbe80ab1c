"""Every operator of the kernel against TensorFlow Lite's reference kernels, its gradient against float64."""

from __future__ import annotations

from typing import Any

import kilotune
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.compiler import graph
from kilotune.errors import KilotuneError
from kilotune.operators import lookup
from kilotune.tflite import model as tflite_model

from tests.support.kernel_checks import check_gradients, differences, random_inputs
from tests.support.networks import SAME, VALID, LargeBiases, Network


def check_forward(model: bytes, n: int = 3, seed: int = 0) -> None:
    bad, compared = differences(model, random_inputs(model, n, seed))
    assert bad == 0
    assert compared > 0


@st.composite
def windows(draw: Any, dilated: bool = True) -> dict[str, Any]:
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    options: dict[str, Any] = {
        "size": size,
        "padding": draw(st.sampled_from((SAME, VALID))),
        "activation": draw(st.sampled_from(("NONE", "RELU", "RELU6", "RELU_N1_TO_1"))),
    }
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    if dilated and stride == (1, 1):
        options["dilation"] = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    options["stride"] = stride
    return options


SHAPES = st.tuples(st.integers(7, 12), st.integers(7, 11), st.integers(1, 9))


def tail(net: Network, x: Any) -> bytes:
    return net.finish(net.dense(net.flatten(x), 5))


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, window=windows(), channels=st.integers(1, 11), per_channel=st.booleans())
def test_convolution(shape: Any, window: Any, channels: int, per_channel: bool) -> None:
    """Always with a bias: tflite-runtime refuses int8 convolutions without one."""
    net = Network(seed=sum(shape), per_channel=per_channel)
    x = net.conv(net.source(*shape), 4, (1, 1), activation="NONE")
    model = tail(net, net.conv(x, channels, **window))
    check_forward(model)
    check_gradients(model, n=2)


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, window=windows(), multiplier=st.integers(1, 3), flags=st.tuples(*[st.booleans()] * 2))
def test_depthwise_convolution(shape: Any, window: Any, multiplier: int, flags: tuple[bool, bool]) -> None:
    net = Network(seed=sum(shape), per_channel=flags[0])
    x = net.conv(net.source(*shape), shape[2] + 2, (1, 1), activation="NONE")
    model = tail(net, net.depthwise(x, multiplier=multiplier, bias=flags[1], **window))
    check_forward(model)
    check_gradients(model, n=2)


@settings(max_examples=15, deadline=None)
@given(shape=SHAPES, window=windows(dilated=False), kind=st.sampled_from(("average", "max")))
def test_pooling(shape: Any, window: Any, kind: str) -> None:
    net = Network(seed=sum(shape))
    if window["activation"] == "RELU_N1_TO_1":
        window["activation"] = "NONE"
    x = net.conv(net.source(*shape), 5, (1, 1), activation="NONE")
    model = tail(net, net.pool(x, kind, **window))
    check_forward(model)
    check_gradients(model, n=2)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("shape", [(7, 5, 9), (1, 13, 4), (16, 16, 3), (3, 3, 8)])
def test_mean(shape: Any, keep: bool, rescale: bool) -> None:
    for seed in range(8):
        net = Network(seed=seed)
        x = net.mean(net.conv(net.source(*shape), 6, activation="NONE"), keep=keep, rescale=rescale)
        model = net.finish(net.dense(net.flatten(x) if keep else x, 4))
        check_forward(model, 5)
    assert check_gradients(model) > 0


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (-1,), (1, 3), (2, 3), (1, 2, 3)])
def test_mean_over_some_axes(axes: Any, keep: bool) -> None:
    for shape in ((7, 5, 3), (1, 6, 4), (4, 1, 1)):
        net = Network(seed=sum(shape) + sum(axes))
        x = net.mean(net.conv(net.source(*shape), 5, activation="NONE"), axes=axes, keep=keep)
        model = tail(net, x)
        check_forward(model, 5)
        assert check_gradients(model, n=3) > 0


@pytest.mark.parametrize("keep", [False, True])
def test_maximum_over_all_positions(keep: bool) -> None:
    for shape in ((7, 5, 9), (1, 13, 4)):
        net = Network(seed=sum(shape))
        x = net.maximum(net.conv(net.source(*shape), 5, activation="NONE"), keep=keep)
        model = tail(net, x)
        check_forward(model)
        assert check_gradients(model, n=3) > 0
    net = Network(seed=2)
    x = net.reshape(net.conv(net.source(3, 3, 7), 5), 9, 5)
    check_forward(tail(net, net.maximum(x)))


def test_mean_of_a_sequence_and_of_a_row() -> None:
    for axes in ((1,), (2,), (1, 2)):
        net = Network(seed=sum(axes))
        x = net.reshape(net.conv(net.source(3, 3, 7), 5), 9, 5)
        model = tail(net, net.mean(x, axes=axes))
        check_forward(model, 5)
        assert check_gradients(model, n=3) > 0
    net = Network(seed=1)
    model = net.finish(net.mean(net.dense(net.source(7), 5), axes=(1,), keep=True))
    check_forward(model, 5)
    assert check_gradients(model, loss="regression") > 0


def test_dense_layer_at_each_position() -> None:
    for per_channel in (False, True):
        net = Network(seed=3, per_channel=per_channel)
        x = net.dense(net.source(12, 7), 9, activation="RELU")
        model = tail(net, net.dense(x, 5))
        check_forward(model)
        assert check_gradients(model) > 0


@pytest.mark.parametrize("within", [False, True])
def test_biases_near_the_end_of_the_accumulator(within: bool) -> None:
    for seed in range(4):
        net = LargeBiases(seed=seed, within=within)
        x = net.depthwise(net.conv(net.source(7, 5, 3), 9), stride=(1, 2))
        model = net.finish(net.dense(net.flatten(net.conv(x, 6, (1, 1))), 8))
        check_forward(model)
        if not within:  # where training cannot move the outputs, deltas reach their end
            assert check_gradients(model, method="bias+head", n=2) > 0


def ds_cnn(seed: int = 0) -> bytes:
    net = Network(seed=seed)
    x = net.conv(net.source(12, 8, 1), 8, (5, 3), stride=(2, 2))
    for _ in range(2):
        x = net.conv(net.depthwise(x), 8, (1, 1))
    x = net.pool(x, "average", (x.shape[1], x.shape[2]))
    return net.finish(net.softmax(net.dense(net.flatten(x), 4)))


@pytest.mark.parametrize("method", ["bias", "head", "bias+head"])
def test_a_depthwise_separable_network(method: Any) -> None:
    model = ds_cnn()
    check_forward(model, 10)
    assert check_gradients(model, method=method, n=10) > 0


UNARY = ("RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "LOGISTIC", "TANH", "HARD_SWISH", "QUANTIZE")


@pytest.mark.parametrize("kind", UNARY)
def test_functions_of_one_value(kind: str) -> None:
    for seed in range(6):
        net = Network(seed=seed)
        x = net.source(16, 16, 1)
        everything = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 16, 16, 1)
        bad, compared = differences(net.finish(net.unary(x, kind)), everything)
        assert (bad, compared) == (0, 512)
        net = Network(seed=seed)
        x = net.unary(net.conv(net.source(6, 5, 3), 4, activation="NONE"), kind)
        model = tail(net, net.conv(x, 3))
        check_forward(model)
        assert check_gradients(model, n=2) > 0


@pytest.mark.parametrize("kind", UNARY[:-1])
def test_slopes_are_those_of_the_function(kind: str) -> None:
    """Against the difference quotient of the device's own table, which is rounded to one step."""
    net = Network(seed=5)
    model = net.finish(net.unary(net.source(4, 4, 1), kind))
    op = graph.build(tflite_model.read(model)).ops[0]
    assert isinstance(op, lookup.Lookup)
    source, output = (tflite_model.read(model).tensors[i] for i in (0, 1))
    span = 24
    rise = (op.table[span:].astype(int) - op.table[:-span]) * float(output.scale) / float(source.scale) / span
    inside = (op.table[span:] < 127) & (op.table[:-span] > -128)
    mean = np.convolve(op.slopes, np.ones(span) / span, "valid")[:-1]
    error = np.abs(mean - rise)[inside]
    assert error.max(initial=0) < 0.05 + 2 * float(output.scale) / float(source.scale) / span


@pytest.mark.parametrize("activation", ["NONE", "RELU", "RELU6"])
@pytest.mark.parametrize("kind", ["add", "mul"])
def test_two_tensors(kind: str, activation: str) -> None:
    for seed in range(4):
        net = Network(seed=seed)
        x = net.conv(net.source(6, 5, 3), 4)
        a, b = net.conv(x, 7, activation="NONE"), net.conv(x, 7, (1, 1), activation="NONE")
        model = tail(net, getattr(net, kind)(a, b, activation=activation))
        check_forward(model)
        assert check_gradients(model, n=3) > 0


def test_residual_connections_sum_gradients() -> None:
    for seed in range(4):
        net = Network(seed=seed)
        x = net.conv(net.source(8, 8, 3), 6)
        for _ in range(2):
            inner = net.conv(net.conv(x, 6), 6, activation="NONE")
            x = net.add(inner, x, activation="RELU")
        x = net.add(x, x)
        model = tail(net, x)
        check_forward(model)
        assert check_gradients(model, n=3) > 0


@pytest.mark.parametrize("kind", ["add", "mul"])
def test_one_position_counts_for_all(kind: str) -> None:
    """Squeeze and excite."""
    for seed in range(4):
        net = Network(seed=seed)
        x = net.conv(net.source(9, 7, 3), 5)
        gate = net.unary(net.conv(net.mean(x, keep=True), 5, (1, 1), activation="NONE"), "LOGISTIC")
        model = tail(net, getattr(net, kind)(x, gate))
        check_forward(model)
        assert check_gradients(model, n=3) > 0


@pytest.mark.parametrize("activation", ["NONE", "RELU6"])
@pytest.mark.parametrize("value", [-100, 3, 90])
@pytest.mark.parametrize("kind", ["ADD", "SUB", "MUL"])
def test_a_constant_number(kind: str, value: int, activation: str) -> None:
    """Also one that comes first, and the one whose real value is 0."""
    net = Network(seed=value + 200)
    x = net.conv(net.source(6, 5, 3), 4)
    model = tail(net, net.with_constant(x, kind, [value], activation=activation, first=value > 0))
    check_forward(model)
    check_gradients(model, n=2)


KINDS = ("ADD", "SUB", "MUL")


@pytest.mark.parametrize("activation", ["NONE", "RELU"])
@pytest.mark.parametrize("shape", [(5,), (1, 1, 1, 5), (6, 7, 5), (1, 6, 7, 5), (6, 1, 1), (7, 1), (1, 7, 5)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_of_several_values(kind: str, shape: Any, activation: str) -> None:
    """One per channel, one per value, one per row."""
    net = Network(seed=len(shape) + shape[0])
    x = net.conv(net.source(6, 7, 3), 5)
    values = net.rng.integers(-128, 128, shape)
    model = tail(net, net.with_constant(x, kind, values, activation=activation, first=kind != "SUB"))
    check_forward(model)
    assert check_gradients(model, n=2) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_larger_than_the_input(kind: str) -> None:
    net = Network(seed=1)
    x = net.mean(net.conv(net.source(6, 7, 3), 5), keep=True)
    model = tail(net, net.with_constant(x, kind, net.rng.integers(-128, 128, (1, 2, 3, 5))))
    check_forward(model)
    assert check_gradients(model, n=2) > 0
    net = Network(seed=2)
    x = net.dense(net.source(9), 5)
    model = net.finish(net.with_constant(net.with_constant(x, kind, net.rng.integers(-128, 128, 5)), kind, [7]))
    check_forward(model)
    assert check_gradients(model, n=2, loss="regression") > 0


PARTS = [((6, 7, 5), (1, 1, 5)), ((6, 7, 5), (6, 7, 1)), ((6, 7, 5), (6, 1, 1)), ((6, 1, 5), (1, 7, 5)),
         ((1, 1, 5), (6, 7, 1)), ((6, 7, 5), (1, 1, 1)), ((1, 7, 1), (6, 7, 5))]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), PARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_extents_of_one_count_for_all(kind: str, first: Any, second: Any) -> None:
    """Attention by channel, by position and by both; gradients of both inputs, also where they meet others."""
    net = Network(seed=sum(first) + sum(second))
    x = net.conv(net.source(6, 7, 3), 5)
    parts = []
    for shape in (first, second):
        axes = tuple(i + 1 for i in range(3) if shape[i] == 1)
        parts.append(net.mean(x, axes=axes, keep=True) if axes else net.conv(x, 5, (1, 1), activation="NONE"))
    model = tail(net, net.combine(kind, *parts))
    check_forward(model)
    assert check_gradients(model, n=3) > 0


def test_two_tensors_that_are_taken_from_each_other() -> None:
    for seed in range(4):
        net = Network(seed=seed)
        x = net.conv(net.source(6, 5, 3), 4)
        model = tail(net, net.combine("SUB", net.conv(x, 7), net.conv(x, 7, (1, 1)), activation="NONE"))
        check_forward(model)
        assert check_gradients(model, n=3) > 0


def test_combinations_that_no_layer_has_are_refused_by_name() -> None:
    def refused(kind: str, values: Any, first: bool, match: str) -> None:
        net = Network(seed=1)
        x = net.conv(net.source(6, 5, 3), 4)
        made = net.with_constant(x, kind, values, first=first)
        with pytest.raises(KilotuneError, match=match):
            kilotune.compile(net.finish(made), method="bias")

    refused("SUB", [1, 2, 3, 4], True, "subtracts from a constant of several values")
    refused("ADD", np.arange(8).reshape(2, 1, 1, 4), False, "shape")


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("groups", "size"), [(2, (3, 3)), (3, (1, 1)), (6, (2, 1))])
def test_grouped_convolution(groups: int, size: tuple[int, int], per_channel: bool) -> None:
    net = Network(seed=groups, per_channel=per_channel)
    x = net.conv(net.source(6, 5, 3), 6)
    model = tail(net, net.conv(x, 12, size, groups=groups))
    check_forward(model)
    assert check_gradients(model, n=2) > 0
    kilotune.compile(model, method="bias+head")


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_concatenation(axis: int) -> None:
    net = Network(seed=axis)
    x = net.conv(net.source(6, 5, 3), 4)
    parts = [net.pool(x, "average", (3, 3), stride=(1, 1), padding=SAME), x, net.pool(x, "max", (1, 1))]
    model = tail(net, net.conv(net.concatenation(parts, axis), 3))
    check_forward(model)
    assert check_gradients(model, n=3) > 0


@settings(max_examples=10, deadline=None)
@given(pads=st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 3))] * 3))
def test_pad(pads: Any) -> None:
    net = Network(seed=1)
    model = tail(net, net.conv(net.pad(net.conv(net.source(4, 5, 2), 3), *pads), 3, padding=VALID))
    check_forward(model)
    check_gradients(model, n=2)


@pytest.mark.parametrize(("align", "half"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(8, 10), (7, 3), (1, 1), (4, 5)])
def test_resize_nearest(size: tuple[int, int], align: bool, half: bool) -> None:
    net = Network(seed=1)
    model = tail(net, net.conv(net.resize(net.conv(net.source(4, 5, 2), 3), *size, align=align, half=half), 3))
    check_forward(model)
    check_gradients(model, n=2)


@pytest.mark.parametrize(
    "bounds", [((0, 1, 0, 0), (1, 6, 5, 3), (1, 1, 1, 1)), ((0, 0, 4, 1), (1, 6, 0, 3), (1, 2, -1, 1))]
)
def test_slice(bounds: Any) -> None:
    net = Network(seed=1)
    model = tail(net, net.conv(net.slice(net.conv(net.source(6, 5, 2), 3), *bounds), 3))
    check_forward(model)
    check_gradients(model, n=2)


@pytest.mark.parametrize("axes", [(1,), (2,), (-1,)])
def test_reverse(axes: Any) -> None:
    net = Network(seed=1)
    model = tail(net, net.conv(net.reverse(net.conv(net.source(6, 5, 2), 3), *axes), 3))
    check_forward(model)
    assert check_gradients(model, n=2) > 0


@pytest.mark.parametrize("times", [(1, 2, 1, 1), (1, 1, 3, 2), (1, 1, 1, 1)])
def test_tile(times: Any) -> None:
    net = Network(seed=1)
    model = tail(net, net.conv(net.tile(net.conv(net.source(4, 5, 2), 3), *times), 3))
    check_forward(model)
    assert check_gradients(model, n=2) > 0


def test_an_autoencoder_of_convolutions() -> None:
    """Its output has positions, and it grows by a TILE of five dimensions, as Keras' UpSampling2D does."""
    net = Network(seed=1)
    x = net.conv(net.conv(net.source(8, 6, 2), 5, stride=(2, 2)), 4)
    x = net.tile(net.reshape(x, 4, 1, 3, 4), 1, 1, 2, 1, 1)
    x = net.tile(net.reshape(x, 8, 3, 1, 4), 1, 1, 1, 2, 1)
    model = net.finish(net.conv(net.reshape(x, 8, 6, 4), 2, activation="NONE"))
    check_forward(model)
    assert check_gradients(model, n=3) > 0
    assert kilotune.compile(model).loss == "reconstruction"


@settings(max_examples=15, deadline=None)
@given(
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from((SAME, VALID)),
    flags=st.tuples(st.booleans(), st.booleans()),
)
def test_transposed_convolution(size: Any, stride: Any, padding: int, flags: tuple[bool, bool]) -> None:
    net = Network(seed=sum(size), per_channel=flags[0])
    x = net.conv(net.source(4, 5, 2), 3, activation="NONE")
    model = tail(net, net.transpose_conv(x, 4, size, stride=stride, padding=padding, bias=flags[1]))
    check_forward(model)
    check_gradients(model, n=2)


def test_one_dimensional_convolutions_and_reshapes_between_shapes() -> None:
    net = Network(seed=1)
    x = net.reshape(net.source(24, 3), 1, 24, 3)
    x = net.reshape(net.conv(x, 8, (1, 5), stride=(1, 2)), 12, 8)
    x = net.conv(net.reshape(x, 12, 1, 8), 6, (3, 1))
    x = net.conv(net.reshape(x, 3, 4, 6), 4, (2, 2))
    model = tail(net, x)
    check_forward(model)
    assert check_gradients(model, n=3) > 0
