"""Partly trained layers: device and merged model compute the same, and gradients are those of float64."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune import _native
from kilotune.adapters.adapter import Adapter
from kilotune.compiler import graph
from kilotune.errors import KilotuneError
from kilotune.tflite import model as tflite_model

from tests.support import small_models, tflite_oracle
from tests.support.kernel_checks import cosine, real, target_of
from tests.support.networks import VALID, Network
from tests.support.reference import Reference

RATES = (1e-3, 0.05, 2.0)  # one of them moves a layer by much more than its rounding, and by less than its range


def convolutions(seed: int = 0, *, per_channel: bool = True) -> bytes:
    """Windows of every kind before a dense layer that reads several positions, and one that reads one."""
    net = Network(seed=seed, per_channel=per_channel)
    x = net.conv(net.source(9, 7, 3), 6, (3, 2), stride=(2, 1))
    x = net.depthwise(net.conv(x, 9, (1, 1)))
    x = net.conv(x, 7, (2, 2), padding=VALID, activation="NONE")
    x = net.conv(x, 5, (1, 1), stride=(2, 2), activation="RELU6")
    x = net.dense(net.flatten(x), 11, activation="RELU")
    return net.finish(net.softmax(net.dense(x, 4)))


def single_position() -> bytes:
    """A convolution that ends at one position, and one with its whole input as its window."""
    net = Network(seed=4)
    x = net.conv(net.source(5, 4, 3), 6, (3, 3), stride=(3, 3), padding=VALID)
    x = net.conv(x, 5, (1, 1), activation="NONE")
    return net.finish(net.dense(net.flatten(x), 4))


NETWORKS: dict[str, Callable[[], bytes]] = {
    "convolutions": convolutions,
    "one scale for all": lambda: convolutions(1, per_channel=False),
    "single position": single_position,
    "dense": lambda: small_models.chain(96, 40, 8, 96, per_channel=True, seed=2),
    "dense, one scale": lambda: small_models.chain(70, 33, 70, seed=3),
}
WAYS: dict[str, dict[str, Any]] = {
    "lora 1": {"method": "lora", "rank": 1},
    "lora 3": {"method": "lora", "rank": 3},
    "channels": {"method": "channels", "channels": 3},
}


def every_layer(content: bytes) -> list[int]:
    """Numbers of the layers with weights that can be partly trained."""
    return [i for i, op in enumerate(graph.build(tflite_model.read(content)).ops) if op.adapts_weights]


def trained(image: kilotune.Image, rate: float, steps: int = 60) -> tuple[Any, npt.NDArray[Any]]:
    kernel, reference = _native.Kernel(image.content), Reference(image.content)
    x = np.random.default_rng(3).integers(-128, 128, (8, image.input_bytes)).astype(np.int8)
    kernel.begin(real(rate))
    for i in range(steps):
        kernel.step(x[i % 8], **target_of(reference, i % 8))
    return kernel, x


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_base_adapter_is_the_base_model(network: str, way: str) -> None:
    content = NETWORKS[network]()
    image = kilotune.compile(content, layers=every_layer(content), **WAYS[way])
    kernel = _native.Kernel(image.content)
    assert bytes(kernel.adapter) == Adapter.base(image).blob
    x = np.random.default_rng(0).integers(-128, 128, (4, image.input_bytes)).astype(np.int8)
    plain = _native.Kernel(kilotune.compile(content, method="none").content)
    np.testing.assert_array_equal(kernel.infer(x), plain.infer(x))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_every_tensor_is_that_of_the_merged_model(network: str, way: str) -> None:
    content = NETWORKS[network]()
    image = kilotune.compile(content, layers=every_layer(content), **WAYS[way])
    kernel, x = trained(image, rate=0.05)
    adapter = Adapter.from_blob(image, bytes(kernel.adapter))
    merged = kilotune.merge(content, adapter)
    changed = 0
    for layer in adapter.config.layers:
        before, after = (tflite_model.read(m).tensors[layer.weight_tensor].values() for m in (content, merged))
        changed += int((before != after).sum())
    assert changed > 0
    shape = tflite_model.read(merged).tensors[tflite_model.read(merged).inputs[0]].shape
    expected = tflite_oracle.run(merged, x.reshape(-1, *shape))
    activations = graph.build(tflite_model.read(merged)).activations
    compared = 0
    for i, row in enumerate(x):
        for index, values in kernel.tensors(row):
            key = f"tensor_{activations[index].tflite_tensor}"
            if key in expected:
                np.testing.assert_array_equal(values, expected[key][i].reshape(-1))
                compared += values.size
    assert compared > 8 * image.output_bytes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_and_updates_follow_float64(network: str, way: str) -> None:
    content = NETWORKS[network]()
    image = kilotune.compile(content, layers=every_layer(content), **WAYS[way])
    kernel, inputs = trained(image, rate=0.003)
    before = bytes(kernel.adapter)
    reference = Reference(image.content, before)
    compared = 0
    for i, (x, rate) in enumerate((x, rate) for x in inputs[:5] for rate in RATES):
        kernel.adapter = before
        kernel.begin(real(rate), seed=i)
        target = target_of(reference, i)
        tensors, gradients = kernel.observed_step(x, **target)
        values: list[Any] = [None] * len(reference.tensors)
        for index, tensor in tensors:
            values[index] = tensor.astype(np.int64)
        expected = reference.gradients(values, **target)
        for op, mantissa, exponent in gradients:
            unit = struct.unpack_from("<f", image.content, reference.ops[op].training + 16)[0]
            device = (mantissa * np.ldexp(1.0, exponent.astype(int))[:, None] * unit).reshape(-1)
            if np.linalg.norm(expected[op][0]) > 0:
                assert cosine(device, expected[op][0]) >= 0.999, op
        compared += check_weights(image, reference, bytes(kernel.adapter), expected, rate)
    assert compared >= 5


def check_weights(image: kilotune.Image, r: Reference, after: bytes, expected: Any, rate: float) -> int:
    """Each layer's trained values moved along their gradient, within a step of rounding; returns layers compared."""
    old, new = Adapter.from_blob(image, r.blob or b""), Adapter.from_blob(image, after)
    compared = 0
    for layer in new.config.layers:
        if not layer.weights_trained or r.ops[layer.op].opcode != 15:
            continue
        op, (_, dw) = r.ops[layer.op], expected[layer.op]
        s_w = r.weight_scales(op)[:, None]
        if not layer.rank:
            rows = list(layer.channels)
            moves = [(new.weights(layer) - old.weights(layer).astype(float), -rate * (dw / s_w * 256)[rows])]
            ends = [np.abs(new.weights(layer)) >= 126 * 256]
        else:
            a, b = (v.astype(float) for v in old.factors(layer))
            unit = 2.0**-11 / np.sqrt(layer.inputs)
            column = s_w * 2.0**-20 / unit
            moved = [n.astype(float) - o for n, o in zip(new.factors(layer), (a, b), strict=True)]
            moves = [
                (moved[0], -rate * ((b * column).T @ dw) / unit),
                (moved[1], -rate * (dw @ (a * unit).T) / column),
            ]
            ends = [np.abs(new.factors(layer)[0]) >= 8100, np.abs(new.factors(layer)[1]) >= 32000]
        for (got, wanted), end in zip(moves, ends, strict=True):
            inside = ~end
            excess = np.abs(got - wanted) - 1 - 0.01 * np.abs(wanted).max()
            assert np.all(excess[inside] <= 0), layer.name
            if np.linalg.norm(wanted[inside]) > 30 * np.sqrt(inside.sum()):  # rounding is small beside it
                assert cosine(got[inside], wanted[inside]) >= 0.999
                compared += 1
    return compared


@pytest.mark.parametrize("way", WAYS)
def test_momentum_accumulation_and_decay_reach_these_weights(way: str) -> None:
    content = NETWORKS["dense"]()
    image = kilotune.compile(content, momentum=True, accumulate=True, layers=every_layer(content), **WAYS[way])
    assert image.state_bytes == image.adapter_bytes

    def after(**settings: Any) -> npt.NDArray[Any]:
        kernel, reference = _native.Kernel(image.content), Reference(image.content)
        x = np.random.default_rng(3).integers(-128, 128, (8, image.input_bytes)).astype(np.int8)
        kernel.begin(real(0.001), **settings)
        for i in range(40):
            kernel.step(x[i % 8], **target_of(reference, i % 8))
        return np.frombuffer(kernel.adapter, "<i2").astype(float)

    base = np.frombuffer(Adapter.base(image).blob, "<i2").astype(float)
    plain = np.abs(after() - base).sum()
    assert np.abs(after(momentum_q15=29000) - base).sum() > 1.2 * plain
    assert np.abs(after(decay=real(20.0)) - base).sum() < 0.9 * plain
    assert np.abs(after(accumulate=4) - base).sum() > 0


def test_small_updates_of_factors_accumulate() -> None:
    content = NETWORKS["dense"]()
    image = kilotune.compile(content, method="lora", rank=2)
    kernel, x = _native.Kernel(image.content), np.random.default_rng(3).integers(-128, 128, (8, 96)).astype(np.int8)
    kernel.begin(real(1e-5))
    before = np.mean([kernel.loss(row) for row in x])
    for i in range(20_000):
        kernel.step(x[i % 8])
    assert np.mean([kernel.loss(row) for row in x]) < 0.98 * before


def test_what_cannot_be_trained_so_is_refused_with_what_can() -> None:
    content = convolutions()
    for options, message in (
        ({"method": "lora", "rank": 9}, "rank"),
        ({"method": "bias", "rank": 2}, "rank"),
        ({"method": "channels", "layers": ["nowhere"]}, "nowhere"),
        ({"method": "channels", "channels": {2: [0]}}, "no layer 2"),
        ({"method": "channels", "channels": {0: [6]}}, "channels 0 to 5"),
        ({"method": "channels", "channels": 0}, "0 channels"),
        ({"method": "bias", "layers": [0], "last_layers": 1}, "both"),
    ):
        with pytest.raises(KilotuneError, match=message):
            kilotune.compile(content, **options)


def test_a_chosen_list_of_layers() -> None:
    image = kilotune.compile(convolutions(), method="bias", layers=[1, 5])
    assert [layer.bias_trained for layer in image.layers] == [i in (1, 5) for i in range(len(image.layers))]
    named = kilotune.compile(convolutions(), method="bias", layers=[image.layers[1].name, "5"])
    assert named.content == image.content
