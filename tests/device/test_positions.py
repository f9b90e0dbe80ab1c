"""Networks with positions: every target gives the outputs and the adapter of the twin."""

from __future__ import annotations

from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.compiler import Method
from kilotune.targets import registry
from networks import SAME, Network


def model() -> bytes:
    """Odd channels, strides, dilation, a residual, pooling: with variants for some processors or without."""
    net = Network(seed=1)
    x = net.conv(net.source(9, 7, 3), 7, stride=(2, 1))
    x = net.depthwise(net.conv(x, 10, (1, 1)), stride=(1, 2))
    x = net.add(net.depthwise(x, (3, 2), dilation=(1, 2), activation="NONE"), x, activation="RELU")
    x = net.pool(net.unary(x, "HARD_SWISH"), "average", (3, 3), stride=(1, 1), padding=SAME)
    return net.finish(net.softmax(net.dense(net.flatten(x), 4)))


@pytest.mark.parametrize("method", ["bias+head", "lora", "channels"])
def test_outputs_and_adapter_are_those_of_the_twin(target: str, tmp_path: Path, method: Method) -> None:
    image = kilotune.compile(model(), method=method, recompute=method == "lora")
    rows = np.random.default_rng(0).integers(-128, 128, (4, image.input_bytes)).astype(np.int8)
    labels = np.array([0, 1, 2, 3], np.uint16)
    results = []
    for where in (target, "twin"):
        with registry.open(where, image, tmp_path / where.replace(":", "_"), timeout_s=60) as device:
            outputs = device.infer(rows)
            device.train(rows, labels=labels, steps=8, lr=0.05)
            results.append((outputs, device.pull_bytes()))
    (device_outputs, device_adapter), (twin_outputs, twin_adapter) = results
    np.testing.assert_array_equal(device_outputs, twin_outputs)
    assert device_adapter == twin_adapter
    assert device_adapter != bytes(kilotune.Adapter.base(image).blob)
