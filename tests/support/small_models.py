"""Small int8 dense `.tflite` files, and random ones for property tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.support.tflite_builder import (
    ACTIVATIONS,
    DEQUANTIZE,
    FLOAT32,
    INT32,
    QUANTIZE,
    RESHAPE,
    SOFTMAX,
    ModelBuilder,
    OpSpec,
)


@dataclass(frozen=True)
class DenseSpec:
    """A chain of dense layers; `widths` has one entry more than there are layers."""

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    per_channel: tuple[bool, ...]
    with_bias: tuple[bool, ...]
    softmax: bool = False
    reshape_input: bool = False
    float_border: bool = False
    seed: int = 0


def dense_model(spec: DenseSpec) -> bytes:
    """Random weights with ranges as a converter would choose them: outputs fill int8 and clip a little."""
    rng = np.random.default_rng(spec.seed)
    m = ModelBuilder()
    scale, zero = float(np.float32(rng.uniform(0.005, 0.1))), int(rng.integers(-128, 128))
    n = spec.widths[0]
    shape = (1, n, 1, 1) if spec.reshape_input else (1, n)
    source = m.activation(shape, scale, zero)
    m.inputs = [source]
    if spec.float_border:
        m.inputs = [m.activation(shape, 1.0, 0, FLOAT32)]
        m.ops.append(OpSpec(QUANTIZE, [m.inputs[0]], [source]))
    if spec.reshape_input:
        flat = m.activation((1, n), scale, zero)
        target = m.tensor((2,), INT32, (), 0, m.buffer(np.array([1, n], "<i4").tobytes()), "shape")
        m.ops.append(OpSpec(RESHAPE, [source, target], [flat]))
        source = flat
    spread = 74.0 * scale  # standard deviation of a uniform int8 input, real units
    for i, activation in enumerate(spec.activations):
        fan_in, out = spec.widths[i], spec.widths[i + 1]
        weights = rng.integers(-127, 128, (out, fan_in)).astype(np.int8)
        count = out if spec.per_channel[i] else 1
        scales = tuple(float(np.float32(s)) for s in rng.uniform(0.5, 2.0, count) / (74.0 * fan_in**0.5))
        spread = spread * 1.2
        out_scale = float(np.float32(spread * rng.uniform(2.0, 4.0) / 128))
        zero = -128 if activation in ("RELU", "RELU6") else int(rng.integers(-20, 20))
        if activation == "RELU6":
            out_scale = min(out_scale, float(np.float32(6.0 / 200)))
        bias = -1
        if spec.with_bias[i]:
            units = np.array([np.float32(scale) * np.float32(s) for s in scales], np.float32)
            values = np.rint(rng.normal(0, 0.3 * spread, out) / units).astype(np.int32)
            bias = m.bias(values, tuple(float(u) for u in units))
        output = m.activation((1, out), out_scale, zero)
        m.dense(source, m.weights(weights, scales), bias, output, activation)
        source, scale, spread = output, out_scale, min(spread, 64 * out_scale)
    if spec.softmax:
        output = m.activation((1, spec.widths[-1]), 1 / 256, -128)
        m.ops.append(OpSpec(SOFTMAX, [source], [output]))
        source = output
    if spec.float_border:
        output = m.activation((1, spec.widths[-1]), 1.0, 0, FLOAT32)
        m.ops.append(OpSpec(DEQUANTIZE, [source], [output]))
        source = output
    m.outputs = [source]
    return m.build()


def chain(
    *widths: int,
    activation: str = "RELU",
    last: str = "NONE",
    per_channel: bool = False,
    with_bias: bool = True,
    softmax: bool = False,
    seed: int = 0,
) -> bytes:
    """A plain network of dense layers."""
    layers = len(widths) - 1
    return dense_model(
        DenseSpec(
            widths=widths,
            activations=(activation,) * (layers - 1) + (last,),
            per_channel=(per_channel,) * layers,
            with_bias=(with_bias,) * layers,
            softmax=softmax,
            seed=seed,
        )
    )


@st.composite
def dense_specs(draw: Any, *, per_channel: bool = True, float_border: bool = True) -> DenseSpec:
    layers = draw(st.integers(1, 4))
    softmax = draw(st.booleans())
    widths = draw(st.lists(st.integers(1, 40), min_size=layers + 1, max_size=layers + 1))
    if softmax:
        widths[-1] = max(2, widths[-1])
    flags = st.lists(st.booleans(), min_size=layers, max_size=layers)
    return DenseSpec(
        widths=tuple(widths),
        activations=tuple(draw(st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=layers, max_size=layers))),
        per_channel=tuple(draw(flags)) if per_channel else (False,) * layers,
        with_bias=tuple(draw(flags)),
        softmax=softmax,
        reshape_input=draw(st.booleans()),
        float_border=draw(st.booleans()) if float_border else False,
        seed=draw(st.integers(0, 1 << 30)),
    )
