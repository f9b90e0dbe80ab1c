"""Merging: the plain model computes exactly what the device computes, whatever tensors the base shares."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.adapters.adapter import Adapter
from kilotune.adapters.merge import merge
from kilotune.compiler.compile import compile
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.image.image import Image
from kilotune.terms import Loss
from kilotune.tflite import model as tflite_model

from tests.support import shared_data, small_models, tflite_oracle
from tests.support.reference import Reference
from tests.support.tflite_builder import FULLY_CONNECTED, ModelBuilder, OpSpec


def trained_adapter(image: Image, seed: int = 0) -> Adapter:
    """As after training: deltas up to a third of the output range, weights moved by some steps."""
    rng = np.random.default_rng(seed)
    blob = bytearray(Adapter.base(image).blob)
    reference = Reference(image.content)
    for layer in image.trained:
        if layer.bias_trained:
            op = reference.ops[layer.op]
            units = reference.weight_scales(op) * reference.tensors[op.input].scale
            reach = 85.0 * reference.tensors[op.output].scale / units * 2.0**layer.bias_fraction_bits
            deltas = np.clip(np.rint(rng.uniform(-1, 1, layer.outputs) * reach), -(2**30) + 1, 2**30 - 1)
            blob[layer.bias_offset : layer.bias_offset + 4 * layer.outputs] = deltas.astype("<i4").tobytes()
        if layer.weights_trained:
            count = layer.inputs * layer.outputs
            base = np.frombuffer(blob, "<i2", count, layer.weight_offset).astype(np.int64)
            moved = np.clip(base + rng.integers(-4000, 4001, count), -127 * 256, 127 * 256 + 255)
            blob[layer.weight_offset : layer.weight_offset + 2 * count] = moved.astype("<i2").tobytes()
    return Adapter.from_blob(image, bytes(blob))


def check_exact(model: bytes, image: Image, inputs: npt.NDArray[np.int8], seed: int = 0) -> bytes:
    """Merges a trained adapter and compares the oracle's outputs; returns the merged model."""
    adapter = trained_adapter(image, seed)
    merged = merge(model, adapter)
    reference = Reference(image.content, adapter.blob)
    mine = np.stack([reference.forward(x)[reference.output] for x in inputs])
    theirs = tflite_oracle.run(merged, inputs, all_tensors=False)["output"].reshape(mine.shape)
    np.testing.assert_array_equal(mine, theirs)
    base = Reference(image.content, Adapter.base(image).blob)
    before = np.stack([base.forward(x)[base.output] for x in inputs])
    assert np.any(mine != before)  # the adapter does something
    return merged


def inputs_for(image: Image, n: int = 50, seed: int = 0) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, (n, image.input_bytes)).astype(np.int8)


@pytest.mark.parametrize("method", ["bias", "head", "bias+head"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_merged_outputs_are_the_devices(method: Any, per_channel: bool, with_bias: bool) -> None:
    model = small_models.chain(24, 16, 8, 6, per_channel=per_channel, with_bias=with_bias, softmax=True, seed=7)
    image = compile(model, method=method)
    check_exact(model, image, inputs_for(image))


def test_ad01_merges_exactly() -> None:
    model = shared_data.ad01()
    image = compile(model, method="bias+head")
    merged = check_exact(model, image, np.concatenate([shared_data.ad01_windows(), inputs_for(image, 200)]))
    assert len(merged) == len(model)  # everything replaced in place


def test_hello_world_merges_exactly() -> None:
    image = compile(shared_data.hello_world(), method="bias+head")
    check_exact(shared_data.hello_world(), image, np.arange(-128, 128, dtype=np.int8)[:, None])


@settings(max_examples=8, deadline=None)
@given(small_models.dense_specs(float_border=False), st.sampled_from(["bias", "head", "bias+head"]))
def test_any_network_merges_exactly(spec: small_models.DenseSpec, method: Any) -> None:
    model = small_models.dense_model(spec)
    image = compile(model, method=method)
    adapter = trained_adapter(image, spec.seed)
    reference = Reference(image.content, adapter.blob)
    inputs = inputs_for(image, 8, spec.seed)
    mine = np.stack([reference.forward(x)[reference.output] for x in inputs])
    theirs = tflite_oracle.run(merge(model, adapter), inputs, all_tensors=False)["output"].reshape(mine.shape)
    np.testing.assert_array_equal(mine, theirs)


@dataclass
class Shared:
    """Two layers 6 -> 6 that share tensors."""

    model: bytes
    image: Image


def two_layers(
    *,
    method: Any,
    same_weights: bool = False,
    same_bias_tensor: bool = False,
    same_bias_buffer: bool = False,
    last_layers: int | None = None,
) -> Shared:
    rng = np.random.default_rng(3)
    m = ModelBuilder()
    scale, unit = 0.05, float(np.float32(0.05) * np.float32(0.01))
    source, middle, output = (m.activation((1, 6), scale, 3) for _ in range(3))
    first = m.weights(rng.integers(-100, 100, (6, 6)).astype(np.int8), (0.01,))
    second = first if same_weights else m.weights(rng.integers(-100, 100, (6, 6)).astype(np.int8), (0.01,))
    values = rng.integers(-2000, 2000, 6).astype(np.int32)
    bias_1 = m.bias(values, (unit,))
    if same_bias_tensor:
        bias_2 = bias_1
    else:
        bias_2 = m.bias(values, (unit,), m.tensors[bias_1].buffer if same_bias_buffer else None)
    m.dense(source, first, bias_1, middle, "RELU")
    m.dense(middle, second, bias_2, output)
    m.inputs, m.outputs = [source], [output]
    model = m.build()
    return Shared(model, compile(model, method=method, last_layers=last_layers))


def test_a_shared_bias_buffer_is_unshared() -> None:
    shared = two_layers(method="bias", same_bias_buffer=True)
    merged = tflite_model.read(check_exact(shared.model, shared.image, inputs_for(shared.image)))
    first, second = (merged.tensors[op.inputs[2]] for op in merged.operators)
    assert first.buffer != second.buffer
    assert not np.array_equal(first.values(), second.values())


def test_a_shared_bias_tensor_is_unshared_when_one_op_trains_it() -> None:
    shared = two_layers(method="bias", same_bias_tensor=True, last_layers=1)
    base = tflite_model.read(shared.model)
    merged = tflite_model.read(check_exact(shared.model, shared.image, inputs_for(shared.image)))
    np.testing.assert_array_equal(
        merged.tensors[merged.operators[0].inputs[2]].values(),
        base.tensors[base.operators[0].inputs[2]].values(),
    )
    assert merged.operators[0].inputs[2] != merged.operators[1].inputs[2]


def test_a_shared_weight_tensor_is_unshared_when_one_op_trains_it() -> None:
    shared = two_layers(method="head", same_weights=True)
    base = tflite_model.read(shared.model)
    merged = tflite_model.read(check_exact(shared.model, shared.image, inputs_for(shared.image)))
    np.testing.assert_array_equal(merged.tensors[base.operators[0].inputs[1]].values(), base.tensors[2 + 1].values())
    assert merged.operators[0].inputs[1] != merged.operators[1].inputs[1]


def test_a_bias_that_two_ops_train_is_refused_before_training() -> None:
    with pytest.raises(KilotuneError, match="share bias tensor") as caught:
        two_layers(method="bias", same_bias_tensor=True)
    assert caught.value.code == "shared_tensor"


def test_a_bias_that_two_ops_train_is_refused_in_the_merge_too(tmp_path: Path) -> None:
    """An adapter directory may have been made elsewhere."""
    import json

    from kilotune.adapters.config import CONFIG_FILE

    shared = two_layers(method="bias")
    trained_adapter(shared.image).save(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    same = two_layers(method="none", same_bias_tensor=True)
    config["base_hash"] = same.image.base_hash.hex()
    base = tflite_model.read(same.model)
    for layer in config["layers"]:
        layer["bias_tensor"] = base.operators[layer["source"]].inputs[2]
        layer["weight_tensor"] = base.operators[layer["source"]].inputs[1]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(KilotuneError, match="share bias tensor"):
        merge(same.model, Adapter.load(tmp_path))


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_missing_bias_is_created(per_channel: bool) -> None:
    model = small_models.chain(10, 6, 4, with_bias=False, per_channel=per_channel, seed=2)
    image = compile(model, method="bias")
    merged = tflite_model.read(check_exact(model, image, inputs_for(image)))
    before = tflite_model.read(model)
    for old, new in zip(before.operators, merged.operators, strict=True):
        assert old.inputs[2] == -1
        bias = merged.tensors[new.inputs[2]]
        assert (bias.dtype, bias.shape) == ("int32", (len(bias.values()),))
        weights = merged.tensors[new.inputs[1]]
        np.testing.assert_array_equal(bias.scales, merged.tensors[new.inputs[0]].scale * weights.scales)


def test_a_bias_input_that_is_not_even_listed_is_created() -> None:
    m = ModelBuilder()
    source, output = m.activation((1, 6), 0.05, 3), m.activation((1, 6), 0.05, -4)
    weights = np.random.default_rng(1).integers(-127, 128, (6, 6)).astype(np.int8)
    m.ops.append(OpSpec(FULLY_CONNECTED, [source, m.weights(weights, (0.004,))], [output]))
    m.inputs, m.outputs = [source], [output]
    image = compile(m.build(), method="bias+head")
    merged = tflite_model.read(check_exact(m.build(), image, inputs_for(image)))
    assert len(merged.operators[0].inputs) == 3


def test_models_with_float_borders_merge_exactly() -> None:
    spec = small_models.DenseSpec((8, 6, 4), ("RELU", "NONE"), (False, True), (True, False), float_border=True, seed=5)
    model = small_models.dense_model(spec)
    image = compile(model, method="bias+head")
    adapter = trained_adapter(image)
    x = inputs_for(image)
    scale, zero = image.input_quantisation
    floats = ((x.astype(np.float32) - zero) * np.float32(scale)).astype(np.float32)
    theirs = tflite_oracle.run(merge(model, adapter), floats, all_tensors=False)["output"].reshape(50, 4)
    reference = Reference(image.content, adapter.blob)
    mine = np.stack([reference.forward(row)[reference.output] for row in x])
    scale, zero = image.output_quantisation
    np.testing.assert_array_equal(((mine - zero) * np.float32(scale)).astype(np.float32), theirs)


def test_the_directory_is_all_that_a_merge_needs(tmp_path: Path) -> None:
    model = small_models.chain(10, 6, 4, with_bias=False, seed=2)
    adapter = trained_adapter(compile(model, method="bias+head"))
    adapter.save(tmp_path)
    assert merge(model, Adapter.load(tmp_path)) == merge(model, adapter)


def test_another_base_model_is_refused() -> None:
    adapter = trained_adapter(compile(small_models.chain(10, 6, 4, seed=2)))
    with pytest.raises(KilotuneError, match="another model") as caught:
        merge(small_models.chain(10, 6, 4, seed=3), adapter)
    assert caught.value.code == "wrong_base"


def test_everything_else_in_the_model_stays() -> None:
    model = metadata.write(small_models.chain(10, 6, 4, seed=2), metadata.ModelMetadata(loss=Loss.regression))
    merged = tflite_model.read(merge(model, trained_adapter(compile(model, method="bias"))))
    base = tflite_model.read(model)
    assert [t.name for t in merged.tensors] == [t.name for t in base.tensors]
    assert merged.metadata == base.metadata
    assert merged.operators == base.operators


def test_the_base_adapter_merges_to_the_same_outputs() -> None:
    model = small_models.chain(10, 6, 4, seed=2)
    image = compile(model, method="bias+head")
    assert merge(model, Adapter.base(image)) == model
