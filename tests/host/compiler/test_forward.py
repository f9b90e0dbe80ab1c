"""Our image, run by the numpy reference, equals TensorFlow Lite's reference kernels in every tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from kilotune.adapters.adapter import Adapter
from kilotune.compiler import graph
from kilotune.compiler.compile import compile
from kilotune.tflite import model as tflite_model

from tests.support import shared_data, small_models, tflite_oracle
from tests.support.reference import Reference
from tests.support.small_models import DenseSpec
from tests.support.tflite_builder import (
    INT32,
    PACK,
    QUANTIZE,
    RESHAPE,
    SHAPE,
    SOFTMAX,
    STRIDED_SLICE,
    UINT8,
    ModelBuilder,
    OpSpec,
)


def differing(model: bytes, inputs: npt.NDArray[np.int8]) -> tuple[int, int]:
    """(differing values, values compared) over every activation of the model."""
    image = compile(model)
    reference = Reference(image.content, Adapter.base(image).blob)
    expected = tflite_oracle.run(model, inputs)
    activations = graph.build(tflite_model.read(model)).activations
    bad = compared = 0
    for i, sample in enumerate(inputs):
        for values, activation in zip(reference.forward(sample), activations, strict=True):
            want = expected[f"tensor_{activation.tflite_tensor}"][i].reshape(-1).astype(np.int64)
            bad += int((want != values).sum())
            compared += values.size
    return bad, compared


def random_inputs(n: int, size: int, seed: int = 0) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, (n, size)).astype(np.int8)


def test_ad01_is_bit_exact_on_its_real_windows_and_on_random_ones() -> None:
    windows = shared_data.ad01_windows()
    assert windows.shape == (196, 640)
    inputs = np.concatenate([windows, random_inputs(200, 640)])
    assert differing(shared_data.ad01(), inputs) == (0, 396 * (640 + 8 * 128 + 8 + 640))


def test_hello_world_is_bit_exact_on_every_input() -> None:
    inputs = np.arange(-128, 128, dtype=np.int8)[:, None]
    assert differing(shared_data.hello_world(), inputs) == (0, 256 * 34)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("softmax", [False, True])
def test_generated_networks_are_bit_exact(per_channel: bool, softmax: bool) -> None:
    model = small_models.chain(60, 30, 10, 24, per_channel=per_channel, softmax=softmax, seed=3)
    bad, compared = differing(model, random_inputs(200, 60))
    assert (bad, compared) == (0, 200 * (60 + 30 + 10 + 24 + 24 * softmax))


def test_generated_networks_use_their_range() -> None:
    """The comparison above is worth something: outputs are neither constant nor all clipped."""
    model = small_models.chain(60, 30, 10, 24, seed=3)
    outputs = tflite_oracle.run(model, random_inputs(200, 60), all_tensors=False)["output"].astype(float)
    assert np.all(outputs.std(axis=0) > 5)
    assert np.mean(np.abs(outputs) >= 127) < 0.2


@settings(max_examples=12, deadline=None)
@given(small_models.dense_specs(float_border=False))
def test_any_dense_network_is_bit_exact(spec: DenseSpec) -> None:
    bad, compared = differing(small_models.dense_model(spec), random_inputs(8, spec.widths[0], spec.seed))
    assert bad == 0
    assert compared > 0


def test_float_borders_are_stripped() -> None:
    spec = DenseSpec((8, 6, 4), ("RELU", "NONE"), (False, True), (True, False), float_border=True, seed=5)
    model = small_models.dense_model(spec)
    image = compile(model)
    assert image.meta["border"]["input"]["dtype"] == "float32"
    assert image.meta["border"]["output"]["dtype"] == "float32"
    scale, zero = image.input_quantisation
    quantised = random_inputs(20, 8)
    floats = ((quantised.astype(np.float32) - zero) * np.float32(scale)).astype(np.float32)
    expected = tflite_oracle.run(model, floats, all_tensors=False)["output"].reshape(20, 4)
    out_scale, out_zero = image.output_quantisation
    reference = Reference(image.content)
    mine = np.stack([reference.forward(x)[reference.output] for x in quantised])
    np.testing.assert_array_equal(((mine - out_zero) * np.float32(out_scale)).astype(np.float32), expected)


def test_float_borders_leave_the_same_ops() -> None:
    spec = DenseSpec((8, 6, 4), ("RELU", "NONE"), (False, True), (True, False), float_border=True, seed=5)
    with_border, without = (compile(small_models.dense_model(s)) for s in (spec, replace(spec, float_border=False)))
    assert [(t.kind, t.inputs, t.outputs) for t in with_border.layers] == [
        (t.kind, t.inputs, t.outputs) for t in without.layers
    ]


def test_uint8_borders_are_stripped() -> None:
    m = ModelBuilder()
    outside, source = m.activation((1, 6), 0.05, 131, UINT8), m.activation((1, 6), 0.05, 3)
    output, after = m.activation((1, 4), 0.05, -5), m.activation((1, 4), 0.05, 123, UINT8)
    m.ops.append(OpSpec(QUANTIZE, [outside], [source]))
    weights = np.random.default_rng(0).integers(-127, 128, (4, 6)).astype(np.int8)
    m.dense(source, m.weights(weights, (0.005,)), -1, output)
    m.ops.append(OpSpec(QUANTIZE, [output], [after]))
    m.inputs, m.outputs = [outside], [after]
    model = m.build()
    inputs = random_inputs(50, 6)
    expected = tflite_oracle.run(model, (inputs.astype(int) + 128).astype(np.uint8), all_tensors=False)["output"]
    reference = Reference(compile(model).content)
    mine = np.stack([reference.forward(x)[reference.output] for x in inputs])
    np.testing.assert_array_equal(mine + 128, expected.reshape(50, 4))


def flattened() -> bytes:
    """What Keras makes of Flatten with an open batch size: the target shape is computed."""
    import tflite

    m = ModelBuilder()
    source, flat, output = (m.activation(shape, 0.05, 3) for shape in ((1, 4, 2), (1, 8), (1, 8)))

    def constant(values: list[int]) -> int:
        array = np.array(values, "<i4")
        return m.tensor(array.shape, INT32, (), 0, m.buffer(array.tobytes()), "constant")

    shape, batch, target = (m.tensor(s, INT32, (), 0, m.buffer(b""), "s") for s in ((3,), (), (2,)))
    width = m.tensor((), INT32, (), 0, m.buffer(np.array([8], "<i4").tobytes()), "width")
    kinds = tflite.BuiltinOptions
    m.ops.append(OpSpec(SHAPE, [source], [shape], options=(kinds.ShapeOptions, {0: ("i8", 2)})))
    sliced = [shape, constant([0]), constant([1]), constant([1])]
    shrink = {4: ("i32", 1)}  # shrink_axis_mask: one number comes out
    m.ops.append(OpSpec(STRIDED_SLICE, sliced, [batch], options=(kinds.StridedSliceOptions, shrink)))
    packed = (kinds.PackOptions, {0: ("i32", 2)})
    m.ops.append(OpSpec(PACK, [batch, width], [target], options=packed))
    m.ops.append(OpSpec(RESHAPE, [source, target], [flat]))
    weights = np.random.default_rng(0).integers(-127, 128, (8, 8)).astype(np.int8)
    m.dense(flat, m.weights(weights, (0.004,)), -1, output)
    m.inputs, m.outputs = [source], [output]
    return m.build()


def test_computed_shapes_of_a_reshape_are_skipped() -> None:
    image = compile(flattened())
    assert [layer.kind for layer in image.layers] == ["FULLY_CONNECTED"]
    assert image.loss == "reconstruction"
    assert differing(flattened(), random_inputs(50, 8)) == (0, 50 * 16)


@pytest.mark.parametrize("classes", [2, 12, 256, 511])
@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.1447, 3.0])
def test_softmax_is_gemmlowps_fixed_point(classes: int, scale: float) -> None:
    m = ModelBuilder()
    logits, output = m.activation((1, classes), scale, 7), m.activation((1, classes), 1 / 256, -128)
    m.ops.append(OpSpec(SOFTMAX, [logits], [output], beta=0.75))
    m.inputs, m.outputs = [logits], [output]
    model = m.build()
    rng = np.random.default_rng(classes)
    spread = rng.integers(1, 129, (30, 1))
    inputs = np.clip(rng.integers(-128, 128, (30, classes)) // spread + rng.integers(-90, 90, (30, 1)), -128, 127)
    expected = tflite_oracle.run(model, inputs.astype(np.int8), all_tensors=False)["output"].reshape(30, classes)
    reference = Reference(compile(model, method="none").content)
    mine = np.stack([reference.forward(x)[reference.output] for x in inputs])
    np.testing.assert_array_equal(mine, expected)
