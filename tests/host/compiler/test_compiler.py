"""What is trained, where it is stored, which loss is used, and what a model's own metadata provides."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kilotune.compiler.compile import compile, trainable
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.image.base_profile import Profile
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.image.layout import NONE
from kilotune.terms import Loss
from kilotune.tflite import edit as flatbuffer_edit
from kilotune.tflite import model as tflite_model

from tests.support import networks, shared_data, small_models, tflite_oracle
from tests.support.reference import Reference
from tests.support.tflite_builder import ModelBuilder

MODEL = small_models.chain(12, 8, 6, 12, seed=4)
FEATURES = FeatureConfig(rate_hz=1600, axes=3, bands=4, fft_points=256, window=256, hop=128)


def trained(image: Image) -> list[tuple[bool, bool]]:
    return [(layer.bias_trained, layer.weights_trained) for layer in image.layers]


def test_methods_train_what_they_say() -> None:
    assert trained(compile(MODEL, method="none")) == [(False, False)] * 3
    assert trained(compile(MODEL, method="bias")) == [(True, False)] * 3
    assert trained(compile(MODEL, method="bias", last_layers=2)) == [(False, False)] + [(True, False)] * 2
    assert trained(compile(MODEL, method="head")) == [(False, False)] * 2 + [(True, True)]
    assert trained(compile(MODEL, method="bias+head")) == [(True, False)] * 2 + [(True, True)]


def test_parameters_lie_biases_first_in_op_order_then_the_head() -> None:
    image = compile(MODEL, method="bias+head")
    assert [layer.bias_offset for layer in image.layers] == [0, 4 * 8, 4 * 14]
    assert [layer.weight_offset for layer in image.layers] == [NONE, NONE, 4 * 26]
    assert image.adapter_bytes == 4 * 26 + 2 * 6 * 12


@pytest.mark.parametrize(("momentum", "accumulate"), [(True, False), (False, True), (True, True)])
def test_optimiser_state_is_as_large_as_the_parameters(momentum: bool, accumulate: bool) -> None:
    image = compile(MODEL, method="bias+head", momentum=momentum, accumulate=accumulate)
    assert image.state_bytes == image.adapter_bytes
    assert compile(MODEL, method="bias+head").state_bytes == 0


def test_the_backward_pass_stops_before_the_first_layers_input() -> None:
    reference = Reference(compile(MODEL, method="bias").content)
    assert [bool(op.flags & 16) for op in reference.ops] == [False, True, True]
    assert [t.gradient != NONE for t in reference.tensors] == [False, True, True, True]
    head = Reference(compile(MODEL, method="head").content)
    assert [t.gradient != NONE for t in head.tensors] == [False, False, False, True]


def test_gradients_and_masks_lie_inside_the_arena() -> None:
    for method in ("bias", "head", "bias+head"):
        image = compile(MODEL, method=method)
        reference = Reference(image.content)
        loss_tensor = reference.loss_section()[3]
        for i, t in enumerate(reference.tensors):
            assert t.data + t.elements <= image.arena_bytes
            if t.gradient == NONE:
                continue
            assert t.gradient % 4 == 0
            each = 2 if i == loss_tensor else 4
            assert t.gradient + 4 + each * t.elements <= image.arena_bytes
            if i == loss_tensor:
                assert t.mask == NONE
            else:
                assert t.mask + (t.elements + 7) // 8 <= image.arena_bytes


@pytest.mark.parametrize("widths", [(24, 8, 24), (17, 5, 17), (1, 3, 2), (3, 4, 3)])
def test_a_mantissa_of_the_loss_never_lies_over_an_output_that_is_still_to_be_read(
    widths: tuple[int, ...],
) -> None:
    image = compile(small_models.chain(*widths), loss="regression")
    reference = Reference(image.content)
    t = reference.tensors[reference.loss_section()[3]]
    for i in range(t.elements - 1):
        end_of_mantissa = t.gradient + 4 + 2 * i + 2
        assert end_of_mantissa <= t.data + i + 1 or t.data + t.elements <= t.gradient


def test_the_loss_follows_the_model() -> None:
    assert compile(MODEL).loss == "reconstruction"
    assert compile(small_models.chain(12, 8, 3)).loss == "regression"
    assert compile(small_models.chain(12, 8, 3, softmax=True)).loss == "classification"
    assert compile(small_models.chain(12, 8, 3), loss="classification").loss == "classification"
    assert compile(shared_data.hello_world()).loss == "regression"
    marked = metadata.write(small_models.chain(12, 8, 3), metadata.ModelMetadata(loss=Loss.classification))
    assert compile(marked).loss == "classification"
    assert compile(marked, loss="regression").loss == "regression"


def test_a_classifiers_gradient_begins_at_the_logits() -> None:
    image = compile(small_models.chain(12, 8, 5, softmax=True, seed=1), method="bias")
    reference = Reference(image.content)
    kind, first, last, tensor, _, _, unit = reference.loss_section()
    assert (kind, first, last, tensor) == (3, 1, 0, reference.ops[1].output)
    assert unit == 2.0**-24
    at = struct.unpack_from("<I", image.content, reference.training + 16)[0]
    table = reference.array(at, "<u4", 256)
    assert table[0] == 1 << 23
    expected = 2.0**23 * np.exp(-np.float64(np.float32(reference.tensors[tensor].scale)) * np.arange(256))
    assert np.abs(table - expected).max() <= 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"method": "everything"},
        {"last_layers": 0},
        {"last_layers": 4},
        {"method": "head", "last_layers": 1},
        {"loss": "hinge"},
        {"features": FeatureConfig(rate_hz=1600, axes=3, bands=5)},
        {"profile": Profile.neutral(12, 12)},
        {"features": FEATURES, "profile": Profile.neutral(11, 12)},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(KilotuneError) as caught:
        compile(MODEL, **options)
    assert caught.value.hint


def test_reconstruction_needs_an_output_like_the_input() -> None:
    with pytest.raises(KilotuneError, match="like the input"):
        compile(small_models.chain(12, 8, 3), loss="reconstruction")


def test_a_path_and_its_bytes_compile_to_the_same(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(MODEL)
    assert (
        compile(tmp_path / "m.tflite").content == compile(str(tmp_path / "m.tflite")).content == compile(MODEL).content
    )


def test_equal_constants_are_stored_once() -> None:
    m = ModelBuilder()
    tensors = [m.activation((1, 100), 0.05, 3) for _ in range(3)]
    weights = m.weights(np.arange(10000, dtype=np.int64).astype(np.int8).reshape(100, 100), (0.01,))
    m.dense(tensors[0], weights, -1, tensors[1])
    m.dense(tensors[1], weights, -1, tensors[2])
    m.inputs, m.outputs = [tensors[0]], [tensors[2]]
    assert len(compile(m.build(), method="bias").content) < 15000


def test_the_bias_fraction_leaves_room_for_the_whole_range() -> None:
    for layer, op in zip(
        compile(shared_data.ad01()).layers, Reference(compile(shared_data.ad01()).content).ops, strict=True
    ):
        r = Reference(compile(shared_data.ad01()).content)
        unit = r.weight_scales(op)[0] * r.tensors[op.input].scale
        whole_range = 255 * r.tensors[op.output].scale / unit
        room = 2.0 ** (30 - layer.bias_fraction_bits)
        assert 4 * whole_range <= room
        assert layer.bias_fraction_bits == 24 or room < 64 * whole_range


# --- metadata ------------------------------------------------------------------------------------


def test_features_travel_in_the_models_metadata() -> None:
    profile = Profile.neutral(12, 12)
    marked = metadata.write(MODEL, metadata.ModelMetadata(features=FEATURES, profile=profile))
    image = compile(marked)
    assert image.features == FEATURES
    assert image.profile is not None
    np.testing.assert_array_equal(image.profile.feature_std, profile.feature_std)
    assert image.content[48:80] == image.base_hash != compile(MODEL).base_hash
    explicit = compile(marked, features=FeatureConfig(rate_hz=800, axes=3, bands=4))
    assert explicit.features is not None
    assert explicit.features.rate_hz == 800


def test_metadata_changes_nothing_else() -> None:
    marked = metadata.write(MODEL, metadata.ModelMetadata(loss=Loss.regression))
    inputs = np.random.default_rng(0).integers(-128, 128, (20, 12)).astype(np.int8)
    before, after = (tflite_oracle.run(m, inputs) for m in (MODEL, marked))
    assert before.keys() == after.keys()
    for key, values in before.items():
        np.testing.assert_array_equal(values, after[key])


def test_metadata_is_replaced_not_repeated() -> None:
    once = metadata.write(shared_data.ad01(), metadata.ModelMetadata(loss=Loss.regression))
    twice = metadata.write(once, metadata.ModelMetadata(loss=Loss.reconstruction, calibration={"a": [1.5]}))
    model = tflite_model.read(twice)
    assert [name for name, _ in model.metadata] == ["min_runtime_version", "kilotune"]
    assert metadata.read(twice).loss == "reconstruction"
    assert metadata.read(twice).calibration == {"a": [1.5]}
    assert metadata.write(twice, metadata.read(twice)) == twice


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"loss": "hinge"}', b'{"features": {"no": 1}}', b'{"calibration": 1}'])
def test_damaged_metadata_is_refused(text: bytes) -> None:
    edit = flatbuffer_edit.Edit(MODEL)
    edit.set_metadata(metadata.NAME, text)
    with pytest.raises(KilotuneError):
        compile(edit.finish())


def one_layer(bias: int, *, weights: int = 1, zero_point: int = 0) -> bytes:
    m = ModelBuilder()
    source, output = m.activation((1, 4), 0.05, zero_point), m.activation((1, 4), 0.05, 0)
    constant = m.weights(np.full((4, 4), weights, np.int8), (0.01,))
    m.dense(source, constant, m.bias(np.full(4, bias, np.int32), (0.0005,)), output)
    m.inputs, m.outputs = [source], [output]
    return m.build()


def test_biases_that_could_overflow_the_accumulator_are_refused() -> None:
    most = (3 << 29) - (4 << 14) - (1 << 22)  # less four products and room for training
    compile(one_layer(most))
    compile(one_layer(-most))
    for bias, zero_point in ((most + 1, 0), (-most - 1, 0), (most, -1)):
        with pytest.raises(KilotuneError, match=r"4 of 4 biases too large .* channel 0 has 1,60.* leave 1,60"):
            compile(one_layer(bias, zero_point=zero_point))


def test_every_layer_is_told_how_it_can_be_trained_or_what_is_in_the_way() -> None:
    n = networks.Network(seed=3)
    hidden = n.dense(n.source(12), 6, activation="RELU")
    tflite = n.finish(n.dense(n.softmax(hidden), 12))
    first, last = trainable(tflite, loss="regression")
    assert (first.kind, first.ways) == ("FULLY_CONNECTED", ())
    assert "do not pass operator 1 SOFTMAX" in first.reason
    assert (last.ways, last.reason) == (("bias", "head", "channels", "lora"), "")
    assert compile(tflite, method="bias", loss="regression").layers[0].bias_trained is False


def test_what_is_told_to_be_trainable_is_trained() -> None:
    for layer in trainable(MODEL):
        for way in layer.ways:
            of_it = {} if way == "head" else {"layers": [layer.op]}
            image = compile(MODEL, method=way, **of_it)  # type: ignore[arg-type]
            assert [t.op for t in image.trained] == [layer.op]
