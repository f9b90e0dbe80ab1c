"""Models that are damaged or far too large: refused with the layer, before memory or time is spent on them."""

from __future__ import annotations

import itertools
import time
from typing import Any

import kilotune
import numpy as np
import pytest
import tflite
from kilotune.compiler import graph
from kilotune.errors import KilotuneError
from kilotune.image.features import FeatureConfig
from kilotune.terms import Loss
from kilotune.tflite import model as tflite_model

from tests.support.networks import Network, Node
from tests.support.tflite_builder import FLOAT32, INT32, OpSpec

Code, Kinds = tflite.BuiltinOperator, tflite.BuiltinOptions


def started() -> tuple[Network, Node]:
    net = Network(seed=1)
    return net, net.conv(net.source(6, 4, 3), 8, activation="NONE")  # (1, 6, 4, 8)


def refused(net: Network, output: Node) -> str:
    with pytest.raises(KilotuneError) as caught:
        graph.build(tflite_model.read(net.finish(output)))
    assert caught.value.code == "unsupported_model"
    return caught.value.message


def test_inputs_of_different_scales_are_neither_reconstructed_nor_features() -> None:
    net = Network(seed=6)
    halves = [net.node((1, 1, 1, 4), scale, 0, 1.0) for scale in (0.02, 0.05)]
    net.m.inputs = [half.tensor for half in halves]
    x = net.add(*(net.conv(half, 3, (1, 1), activation="NONE") for half in halves))
    model = net.finish(net.dense(net.flatten(x), 8))
    graph_of = graph.build(tflite_model.read(model))
    assert graph_of.scales_differ
    with pytest.raises(KilotuneError, match="inputs of one scale"):
        kilotune.compile(model, method="bias", loss=Loss.reconstruction)
    features = FeatureConfig(rate_hz=1600.0, window=64, hop=64, fft_points=64, axes=1, bands=8, full_scale_g=16.0)
    with pytest.raises(KilotuneError, match="quantised by one scale"):
        kilotune.compile(model, method="bias", loss=Loss.classification, features=features)
    kilotune.compile(model, method="bias")  # not a reconstruction, though the output is as large as the inputs


def test_a_model_without_inputs_is_refused() -> None:
    net, x = started()
    net.m.inputs = []
    assert "0 inputs" in refused(net, x)


def test_two_tensors_that_are_too_large_as_one_line_are_refused() -> None:
    net = Network()
    x = net.source(300, 300, 1)
    options: Any = (Kinds.MaximumMinimumOptions, {})
    padded = net.pad(net.slice(x, (0, 1, 0, 0), (1, 300, 300, 1), (1, 1, 1, 1)), (1, 0), (0, 0), (0, 0))
    y = net.add_op(Code.MAXIMUM, [x.tensor, padded.tensor], net.like(x, x.shape), options)
    said = refused(net, y)
    assert "MAXIMUM" in said
    assert "1 x 1 x 90000 in between" in said


def test_a_stack_along_a_last_axis_that_is_too_large_is_refused() -> None:
    net = Network()
    x = net.source(300, 300)
    y = net.like(x, (1, 300, 300, 2))
    net.add_op(Code.PACK, [x.tensor, x.tensor], y, (Kinds.PackOptions, {0: ("i32", 2), 1: ("i32", 3)}))
    said = refused(net, y)
    assert "PACK" in said
    assert "90000 x 1 x 1 in between" in said


@pytest.mark.parametrize("code", [Code.MIRROR_PAD, Code.PAD])
def test_paddings_that_are_not_two_a_dimension_are_refused(code: int) -> None:
    net, x = started()
    y = net.add_op(code, [x.tensor, net.integers(0, 1, 2)], net.like(x, (1, 9, 7, 8)))
    assert "3 paddings, not two" in refused(net, y)


@pytest.mark.parametrize(("axis", "parts"), [((1,), 0), ((), 2)])
def test_a_split_without_outputs_or_an_axis_is_refused(axis: tuple[int, ...], parts: int) -> None:
    net, x = started()
    outputs = [net.like(x, (1, 3, 4, 8)).tensor for _ in range(parts)]
    net.m.ops.append(OpSpec(Code.SPLIT, [net.integers(*axis), x.tensor], outputs, options=(Kinds.SplitOptions, {})))
    assert "SPLIT" in refused(net, x)


def test_a_move_of_too_many_values_is_refused_before_it_is_made() -> None:
    net = Network()
    x = net.source(1, 60000, 1)
    shape = (1, 1000, 60000, 1)
    y = net.add_op(Code.BROADCAST_TO, [x.tensor, net.integers(*shape)], net.like(x, shape))
    assert "moves 60,000,000 values" in refused(net, y)


def test_a_constant_that_would_be_far_larger_than_its_tensor_is_not_made() -> None:
    net, x = started()
    for code, inputs in (
        (Code.FILL, [net.integers(1 << 30, 1 << 30), net.integers(7)]),
        (Code.RANGE, [_number(net, 0), _number(net, 1 << 30), _number(net, 1)]),
    ):
        net.m.ops.append(OpSpec(code, inputs, [net.m.tensor((2,), INT32, (), 0, 0, "computed")]))
    begin = time.monotonic()
    assert "FILL" in refused(net, net.add_op(Code.RESHAPE, [x.tensor], net.like(x, (1, 192))))
    assert time.monotonic() - begin < 5


def _number(net: Network, value: int) -> int:
    return net.m.tensor((), INT32, (), 0, net.m.buffer(np.array(value, "<i4").tobytes()), "number")


@pytest.mark.parametrize(("doublings", "fits"), [(3, True), (60, False)])
def test_a_float_function_that_doubles_itself_over_and_over_takes_no_time(doublings: int, fits: bool) -> None:
    net, x = started()
    inner = [net.m.activation(x.shape, 1.0, 0, FLOAT32) for _ in range(doublings + 1)]
    output = net.node(x.shape, x.scale, 0, x.spread)
    options: Any = (Kinds.AddOptions, {})
    net.m.ops.append(OpSpec(Code.DEQUANTIZE, [x.tensor], [inner[0]]))
    for a, b in itertools.pairwise(inner):
        net.m.ops.append(OpSpec(Code.ADD, [a, a], [b], options=options))
    net.m.ops.append(OpSpec(Code.QUANTIZE, [inner[-1]], [output.tensor]))
    begin = time.monotonic()
    if fits:
        graph.build(tflite_model.read(net.finish(output)))
    else:
        assert "ADD" in refused(net, output)
    assert time.monotonic() - begin < 5
