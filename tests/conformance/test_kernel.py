"""The C++ kernel against the numpy reference of the image format: every tensor, every gradient, every update."""

from __future__ import annotations

import struct
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from kilotune import _native

from tests.support import small_models
from tests.support.kernel_checks import cosine, real, target_of
from tests.support.reference import Reference

METHODS = ("bias", "head", "bias+head")
NETWORKS = {
    "autoencoder": small_models.chain(48, 24, 12, 6, 12, 24, 48, seed=1),
    "per channel": small_models.chain(96, 64, 16, 64, 96, per_channel=True, seed=2),
    "one axis": small_models.chain(32, 32, 8, 32, 32, per_channel=True, seed=3),
    "classifier": small_models.chain(32, 32, 16, 9, softmax=True, seed=4),
    "regression": small_models.chain(17, 33, 5, 3, activation="RELU6", seed=5),
    "odd widths, no bias": small_models.chain(13, 7, 11, 13, with_bias=False, per_channel=True, seed=6),
}


def inputs(content: bytes, n: int, seed: int = 0) -> npt.NDArray[np.int8]:
    r = Reference(content)
    shape = (n, r.tensors[r.input].elements)
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


@settings(max_examples=60, deadline=None)
@given(spec=small_models.dense_specs())
def test_every_tensor_is_that_of_the_reference(spec: small_models.DenseSpec) -> None:
    content = kilotune.compile(small_models.dense_model(spec), method="none").content
    kernel, reference = _native.Kernel(content), Reference(content)
    for x in inputs(content, 4, spec.seed):
        values = reference.forward(x)
        for index, tensor in kernel.tensors(x):
            np.testing.assert_array_equal(tensor, values[index])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_follow_the_float64_reference(network: str, method: Any) -> None:
    content = kilotune.compile(NETWORKS[network], method=method).content
    kernel = _native.Kernel(content)
    kernel.begin(real(2.0**-100))  # too little to change a parameter: the reference has the base model's
    reference = Reference(content)
    worst: dict[int, float] = {}
    for i, x in enumerate(inputs(content, 20)):
        target = target_of(reference, i)
        _, gradients = kernel.observed_step(x, **target)
        expected = reference.gradients(reference.forward(x), **target)
        assert [op for op, _, _ in gradients] == list(expected)
        for op, mantissa, exponent in gradients:
            unit = struct.unpack_from("<f", content, reference.ops[op].training + 16)[0]
            device = mantissa[0] * 2.0 ** float(exponent[0]) * unit
            worst[op] = min(worst.get(op, 1.0), cosine(device, expected[op][0]))
            size = np.linalg.norm(expected[op][0])
            assert np.linalg.norm(device) == pytest.approx(size, rel=0.02, abs=1e-12)
    assert min(worst.values()) >= 0.999, worst


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", NETWORKS)
def test_one_step_changes_parameters_along_the_gradient(network: str, method: Any) -> None:
    image = kilotune.compile(NETWORKS[network], method=method)
    content, rate = image.content, 0.01
    kernel, reference = _native.Kernel(content), Reference(content)
    kernel.begin(real(rate))
    before = kernel.adapter
    x, target = inputs(content, 1, 5)[0], target_of(reference, 5)
    expected = reference.gradients(reference.forward(x), **target)
    kernel.step(x, **target)
    old, new = (kilotune.Adapter.from_blob(image, blob) for blob in (before, kernel.adapter))
    for layer in new.config.layers:
        op = reference.ops[layer.op]
        g, outer = expected[layer.op]
        scale = reference.weight_scales(op)
        if layer.bias_trained:
            unit = reference.tensors[op.input].scale * scale / 2.0**layer.bias_fraction_bits
            change = (new.bias_delta(layer) - old.bias_delta(layer)) * unit
            assert cosine(change, -rate * g) >= 0.999
            assert np.linalg.norm(change) == pytest.approx(np.linalg.norm(rate * g), rel=0.02)
        if layer.weights_trained:
            change = (new.weights(layer).astype(float) - old.weights(layer)) * scale[:, None] / 256
            wanted = -rate * outer
            # Rounding moves each weight by less than one step of 1/256; the ends of the range hold it back.
            inside = np.abs(new.weights(layer)) < 126 * 256
            assert inside.mean() > 0.9
            excess = np.abs(change - wanted) - scale[:, None] / 256 - 0.02 * np.abs(wanted)
            assert np.all(excess[inside] <= 0)


def loss_after(content: bytes, steps: int, rate: float, seed: int = 1) -> tuple[float, float]:
    """Mean loss over 16 inputs before and after training on them."""
    kernel = _native.Kernel(content)
    kernel.begin(real(rate), seed=seed)
    xs = inputs(content, 16)
    before = np.mean([kernel.loss(x) for x in xs])
    for i in range(steps):
        kernel.step(xs[i % 16])
    return float(before), float(np.mean([kernel.loss(x) for x in xs]))


@pytest.mark.parametrize("method", METHODS)
def test_updates_below_one_step_of_a_parameter_accumulate(method: Any) -> None:
    """At this rate not one update of the run reaches one step of the int8 weight or int32 bias that runs forward."""
    content = kilotune.compile(NETWORKS["autoencoder"], method=method).content
    rate = 3e-6
    reference = Reference(content)
    largest = 0.0
    for x in inputs(content, 16):
        for op, (bias, weight) in reference.integer_changes(reference.forward(x)).items():
            fraction = content[reference.ops[op].training + 12]
            if reference.ops[op].flags & 1:
                largest = max(largest, rate * float(np.abs(bias).max()) / 2.0**fraction)
            if reference.ops[op].flags & 2:
                largest = max(largest, rate * float(np.abs(weight).max()) / 256)
    assert largest < 1.0
    before, after = loss_after(content, 100_000, rate)
    assert after < 0.98 * before


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another() -> None:
    content = kilotune.compile(NETWORKS["per channel"], method="bias+head").content

    def trained(seed: int) -> bytes:
        kernel = _native.Kernel(content)
        kernel.begin(real(0.1), seed=seed)
        for x in inputs(content, 50):
            kernel.step(x)
        return bytes(kernel.adapter)

    assert trained(3) == trained(3)
    assert trained(3) != trained(4)


def test_accumulation_is_the_mean_gradient_at_unchanged_parameters() -> None:
    image = kilotune.compile(NETWORKS["autoencoder"], method="bias", accumulate=True)
    content, n, rate = image.content, 4, 0.1
    kernel, reference = _native.Kernel(content), Reference(content)
    kernel.begin(real(rate), accumulate=n)
    xs = inputs(content, n)
    mean = {op: np.mean([reference.gradients(reference.forward(x))[op][0] for x in xs], 0) for op in range(6)}
    for i, x in enumerate(xs):
        assert bytes(kernel.adapter) == bytes(len(kernel.adapter)), f"parameters moved before window {i}"
        kernel.step(x)
    adapter = kilotune.Adapter.from_blob(image, kernel.adapter)
    for layer in adapter.config.layers:
        op = reference.ops[layer.op]
        unit = reference.tensors[op.input].scale * reference.weight_scales(op) / 2.0**layer.bias_fraction_bits
        assert cosine(adapter.bias_delta(layer) * unit, -rate * mean[layer.op]) >= 0.999


def test_momentum_remembers_the_steps_before() -> None:
    """With an input that does not change and a tiny rate the gradient is constant: v grows as a geometric sum."""
    image = kilotune.compile(NETWORKS["autoencoder"], method="bias", momentum=True)
    kernel = _native.Kernel(image.content)
    rate, momentum = 2e-5, 0.5
    kernel.begin(real(rate), momentum_q15=int(momentum * 32768))
    x = inputs(image.content, 1)[0]
    reference = Reference(image.content)
    g = reference.gradients(reference.forward(x))[5][0]
    for _ in range(3):
        kernel.step(x)
    adapter = kilotune.Adapter.from_blob(image, kernel.adapter)
    layer = adapter.config.layers[5]
    op = reference.ops[5]
    unit = reference.tensors[op.input].scale * reference.weight_scales(op) / 2.0**layer.bias_fraction_bits
    expected = -rate * g * (1 + 1.5 + 1.75)
    assert cosine(adapter.bias_delta(layer) * unit, expected) >= 0.998
    assert np.linalg.norm(adapter.bias_delta(layer) * unit) == pytest.approx(np.linalg.norm(expected), rel=0.03)


@pytest.mark.parametrize("method", ["bias", "bias+head"])
def test_weight_decay_pulls_towards_the_base_model(method: Any) -> None:
    content = kilotune.compile(NETWORKS["autoencoder"], method=method).content
    xs = inputs(content, 16)

    def distance(decay: float) -> float:
        kernel = _native.Kernel(content)
        base = np.frombuffer(kernel.adapter, "<i2").astype(float)
        kernel.begin(real(0.05), real(decay))
        for i in range(400):
            kernel.step(xs[i % 16])
        return float(np.abs(np.frombuffer(kernel.adapter, "<i2") - base).sum())

    assert distance(2.0) < 0.9 * distance(0.0)


@pytest.mark.parametrize("bits", range(0, 128 * 8, 61))
def test_a_flipped_bit_in_the_header_is_refused(bits: int) -> None:
    content = bytearray(kilotune.compile(NETWORKS["one axis"], method="bias+head").content)
    content[bits // 8] ^= 1 << bits % 8
    if 16 <= bits // 8 < 48:
        pytest.skip("a hash that is only compared: the host verifies it")
    with pytest.raises(RuntimeError, match="status"):
        _native.Kernel(bytes(content))
