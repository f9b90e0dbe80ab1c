"""Compares the C++ kernel with its references: tensors with TensorFlow Lite's, gradients and updates with float64."""

from __future__ import annotations

import math
import struct
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune import _native
from kilotune.compiler import graph
from kilotune.operators import lookup
from kilotune.tflite import model as tflite_model

from tests.support import tflite_oracle
from tests.support.arrays import Array, Bytes
from tests.support.reference import Reference


def real(value: float) -> tuple[int, int]:
    """(mantissa, exponent) of a non-negative number, as the kernel takes it."""
    if value == 0:
        return 0, 0
    fraction, exponent = math.frexp(value)
    mantissa = round(fraction * 2**16)
    return (mantissa, exponent - 16) if mantissa < 2**16 else (2**15, exponent - 15)


def target_of(reference: Reference, seed: int) -> dict[str, Any]:
    """What a step gets besides its input, by the image's loss."""
    kind, _, _, tensor, *_ = reference.loss_section()
    rng = np.random.default_rng(seed)
    count = reference.tensors[tensor].elements
    if kind == 3:
        return {"label": int(rng.integers(count))}
    return {} if kind == 1 else {"target": rng.integers(-100, 101, count).astype(np.int8)}


def cosine(a: Array, b: Array) -> float:
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return 1.0 if norm == 0 and np.array_equal(a, b) else float(np.vdot(a, b)) / max(norm, 1e-300)


def random_inputs(model: bytes, n: int, seed: int = 0) -> Bytes:
    shape = tflite_model.read(model).tensors[tflite_model.read(model).inputs[0]].shape
    return np.random.default_rng(seed).integers(-128, 128, (n, *shape)).astype(np.int8)


def differences(model: bytes, inputs: Bytes) -> tuple[int, int]:
    """(differing values, values compared) over every tensor that the kernel computes."""
    content = kilotune.compile(model, method="none").content
    built = graph.build(tflite_model.read(model))
    activations = built.activations
    expected = tflite_oracle.run(model, inputs)
    # The runtime writes ADD, SUB and MUL over one of their inputs, even where it is told to keep all tensors:
    # such an input cannot be seen there, only what comes of it.
    for op in built.ops:
        if op.kind in ("ADD", "SUB", "MUL"):
            made = expected.get(f"tensor_{activations[op.output].tflite_tensor}")
            for source in op.reads:
                key = f"tensor_{activations[source].tflite_tensor}"
                if made is not None and np.array_equal(expected.get(key, 0), made):
                    del expected[key]
    kernel = _native.Kernel(content)
    bad = compared = 0
    for i, x in enumerate(inputs):
        for index, values in kernel.tensors(x.reshape(-1)):
            key = f"tensor_{activations[index].tflite_tensor}"
            if key not in expected:
                continue
            want = expected[key][i].reshape(-1)
            bad += int((want != values).sum())
            compared += values.size
    return bad, compared


def slope_units(model: bytes) -> dict[int, float]:
    ops = graph.build(tflite_model.read(model)).ops
    return {op.output: op.gradient_gain for op in ops if isinstance(op, lookup.Lookup)}


def check_gradients(model: bytes, *, method: Any = "bias", n: int = 6, loss: Any = "auto") -> int:
    """Each op's gradient, and the bias change that follows from it; returns ops compared."""
    image = kilotune.compile(model, method=method, loss=loss)
    content = image.content
    kernel, reference = _native.Kernel(content), Reference(content, slope_units=slope_units(model))
    kernel.begin(real(2.0**-100))  # too little to change a parameter: the reference has the base model's
    compared = 0
    inputs = random_inputs(model, n, 7).reshape(n, -1)
    for i, x in enumerate(inputs):
        target = target_of(reference, i)
        tensors, gradients = kernel.observed_step(x, **target)
        values: list[Any] = [None] * len(reference.tensors)
        for index, tensor in tensors:
            values[index] = tensor.astype(np.int64)
        expected = reference.gradients(values, **target)
        assert [op for op, _, _ in gradients] == list(expected)
        for op, mantissa, exponent in gradients:
            unit = struct.unpack_from("<f", content, reference.ops[op].training + 16)[0]
            device = (mantissa * np.ldexp(1.0, exponent.astype(int))[:, None] * unit).reshape(-1)
            want = expected[op][0].reshape(-1)
            size = np.linalg.norm(want)
            if size > 0:
                assert cosine(device, want) >= 0.999, (op, reference.ops[op].opcode)
                assert np.linalg.norm(device) == pytest.approx(size, rel=0.02)
                compared += 1
            else:
                assert not device.any()
    check_updates(image, reference, inputs[0], target_of(reference, 0))
    return compared


def check_updates(image: Any, reference: Reference, x: Bytes, target: dict[str, Any], rate: float = 0.001) -> None:
    """One step moves every trained bias along the sum of its gradient over the positions."""
    kernel = _native.Kernel(image.content)
    kernel.begin(real(rate))
    tensors, _ = kernel.observed_step(x, **target)
    values: list[Any] = [None] * len(reference.tensors)
    for index, tensor in tensors:
        values[index] = tensor.astype(np.int64)
    expected = reference.gradients(values, **target)
    adapter = kilotune.Adapter.from_blob(image, kernel.adapter)
    for layer in adapter.config.layers:
        if not layer.bias_trained:
            continue
        op = reference.ops[layer.op]
        wanted = -rate * expected[layer.op][0].reshape(-1, layer.outputs).sum(0)
        unit = reference.tensors[op.input].scale * reference.weight_scales(op) / 2.0**layer.bias_fraction_bits
        change = adapter.bias_delta(layer) * unit
        # Rounding moves each delta by less than one of its units.
        slack = np.linalg.norm(unit) + 0.01 * np.linalg.norm(wanted)
        assert np.linalg.norm(change - wanted) <= slack, layer.name
