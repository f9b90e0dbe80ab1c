"""Networks with positions: every target gives the outputs and the adapter of the twin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.compiler.compile import Method
from kilotune.targets.connect import connect

from tests.support.networks import SAME, VALID, LargeBiases, Network


def model() -> bytes:
    """Odd channels, strides, dilation, a residual, pooling: with variants for some processors or without."""
    net = Network(seed=1)
    x = net.conv(net.source(9, 7, 3), 7, stride=(2, 1))
    x = net.depthwise(net.conv(x, 10, (1, 1)), stride=(1, 2))
    x = net.add(net.depthwise(x, (3, 2), dilation=(1, 2), activation="NONE"), x, activation="RELU")
    x = net.pool(net.unary(x, "HARD_SWISH"), "average", (3, 3), stride=(1, 1), padding=SAME)
    return net.finish(net.softmax(net.dense(net.flatten(x), 4)))


def sequence() -> bytes:
    """An LSTM in front of what is trained, means over some axes, a constant, attention by place."""
    net = Network(seed=2)
    x = net.lstm(net.source(12, 3), 7)
    x = net.conv(net.reshape(x, 4, 3, 7), 5, (2, 2))
    gate = net.unary(net.mean(x, axes=(3,), keep=True), "LOGISTIC")
    x = net.with_constant(net.mul(x, gate), "ADD", [10, -20, 30, 5, 0])
    x = net.combine("SUB", x, net.mean(x, axes=(1,), keep=True))
    return net.finish(net.softmax(net.dense(net.flatten(x), 4)))


def triples() -> bytes:
    """Depthwise 3x3 windows of stride 1, one of them into a sum; on few columns, and unpadded."""
    net = Network(seed=2)
    x = net.depthwise(net.conv(net.source(9, 4, 3), 12, (1, 1)), activation="RELU6")
    x = net.add(net.depthwise(x, activation="NONE"), x, activation="RELU")
    x = net.depthwise(net.resize(x, 20, 6), padding=VALID, activation="NONE")
    x = net.depthwise(net.conv(x, 8, (1, 2), stride=(1, 2)), activation="RELU6")  # two columns
    x = net.depthwise(net.pool(x, "average", (1, 2), stride=(1, 2)), activation="NONE")  # one column
    return net.finish(net.softmax(net.dense(net.flatten(x), 4)))


def large_biases() -> bytes:
    """Accumulators beyond 2^30, ending at both ends of the outputs' range and within it."""
    net = LargeBiases(seed=1)
    x = net.depthwise(net.conv(net.source(7, 5, 3), 8), stride=(1, 2))
    net.within = True
    x = net.depthwise(net.conv(x, 8, (1, 1)))
    net.within = False
    return net.finish(net.softmax(net.dense(net.dense(net.flatten(x), 12), 4)))


def test_every_window_that_fits_goes_back_in_triples() -> None:
    content = kilotune.compile(triples(), method="bias").content
    entries = [op_entry(content, i) for i in range(content[82])]
    multipliers = [int.from_bytes(e[56:60], "little") for e in entries if e[0] == 4]
    assert multipliers == [1 | 1 << 31] * 5


def op_entry(content: bytes, index: int) -> bytes:
    """SPEC 1.3."""
    start = int.from_bytes(content[92:96], "little") + 64 * index
    return content[start : start + 64]


TRAINED = [(build, method) for method in ("bias+head", "lora", "channels") for build in (model, triples)]


@pytest.mark.parametrize(("build", "method"), [*TRAINED, (sequence, "bias+head"), (large_biases, "bias")])
def test_outputs_and_adapter_are_those_of_the_twin(
    target: str, tmp_path: Path, method: Method, build: Callable[[], bytes]
) -> None:
    image = kilotune.compile(build(), method=method, recompute=build is model and method == "lora")
    rows = np.random.default_rng(0).integers(-128, 128, (4, image.input_bytes)).astype(np.int8)
    labels = np.array([0, 1, 2, 3], np.uint16)
    results = []
    for where in (target, "twin"):
        with connect(where, image, tmp_path / where.replace(":", "_"), timeout_s=60) as device:
            outputs = device.infer(rows)
            device.train(rows, labels=labels, steps=8, lr=0.05)
            results.append((outputs, device.pull_bytes()))
    (device_outputs, device_adapter), (twin_outputs, twin_adapter) = results
    np.testing.assert_array_equal(device_outputs, twin_outputs)
    assert device_adapter == twin_adapter
    assert device_adapter != bytes(kilotune.Adapter.base(image).blob)
