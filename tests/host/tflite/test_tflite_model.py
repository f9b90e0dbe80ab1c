"""Reading `.tflite` files: the content is read correctly, and a damaged file always raises KilotuneError."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.compiler import compile as compiler
from kilotune.errors import KilotuneError
from kilotune.tflite import model as tflite_model

from tests.support import shared_data, small_models
from tests.support.tflite_builder import ACTIVATIONS, FLOAT32, ModelBuilder, OpSpec

SMALL = small_models.chain(6, 5, 3, softmax=True)


def refusal(content: bytes) -> KilotuneError:
    with pytest.raises(KilotuneError) as caught:
        compiler.compile(content)
    assert caught.value.message
    assert caught.value.hint
    return caught.value


def test_reads_ad01() -> None:
    model = tflite_model.read(shared_data.ad01())
    assert [op.opcode for op in model.operators] == ["FULLY_CONNECTED"] * 10
    assert [op.options.activation for op in model.operators] == ["RELU"] * 9 + ["NONE"]
    source = model.tensors[model.inputs[0]]
    assert (source.shape, source.dtype, source.zero_point) == ((1, 640), "int8", 89)
    assert model.tensors[11].values().shape == (128, 640)
    assert len(model.sha256) == 32


@pytest.mark.parametrize("content", [b"", b"abc", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_other_files_are_refused(content: bytes) -> None:
    assert "not a .tflite" in refusal(content).message


def test_every_truncation_is_refused_or_complete() -> None:
    for length in range(0, len(SMALL), 7):
        with pytest.raises(KilotuneError):
            compiler.compile(SMALL[:length])


@settings(max_examples=400, deadline=2000)
@given(st.integers(8, len(SMALL) - 1), st.integers(0, 255))
def test_a_changed_byte_never_escapes_as_another_error(position: int, value: int) -> None:
    damaged = bytearray(SMALL)
    damaged[position] = value
    with contextlib.suppress(KilotuneError):
        compiler.compile(bytes(damaged))


@settings(max_examples=300, deadline=2000)
@given(st.integers(2, (len(SMALL) - 4) // 4), st.sampled_from([0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20]))
def test_a_wild_offset_or_length_never_escapes_hangs_or_fills_memory(word: int, value: int) -> None:
    damaged = bytearray(SMALL)
    struct.pack_into("<I", damaged, 4 * word, value)
    with contextlib.suppress(KilotuneError):
        compiler.compile(bytes(damaged))


def test_an_unsupported_operator_is_named() -> None:
    m = ModelBuilder()
    source, output = m.activation((1, 4), 0.1, 0), m.activation((1, 4), 0.1, 0)
    m.ops.append(OpSpec(tflite.BuiltinOperator.L2_NORMALIZATION, [source], [output]))
    m.inputs, m.outputs = [source], [output]
    error = refusal(m.build())
    assert error.code == "unsupported_model"
    assert "operator 0 L2_NORMALIZATION" in error.message
    assert "README" in error.hint


def dense(m: ModelBuilder, source: int, output: int) -> None:
    m.dense(source, m.weights(np.ones((4, 4), np.int8), (0.01,)), -1, output)
    m.inputs, m.outputs = [source], [output]


def test_a_batch_is_refused() -> None:
    m = ModelBuilder()
    dense(m, m.activation((3, 4), 0.1, 0), m.activation((3, 4), 0.1, 0))
    assert "a batch of 3" in refusal(m.build()).message


def test_a_float_model_is_refused() -> None:
    m = ModelBuilder()
    dense(m, m.activation((1, 4), 1, 0, FLOAT32), m.activation((1, 4), 1, 0, FLOAT32))
    assert "kilotune quantize" in refusal(m.build()).hint


def test_two_outputs_are_refused() -> None:
    m = ModelBuilder()
    dense(m, m.activation((1, 4), 0.1, 0), m.activation((1, 4), 0.1, 0))
    m.outputs.append(m.activation((1, 4), 0.1, 0))
    assert "2 outputs" in refusal(m.build()).message


def test_several_subgraphs_are_refused() -> None:
    m = ModelBuilder(subgraphs=2)
    dense(m, m.activation((1, 4), 0.1, 0), m.activation((1, 4), 0.1, 0))
    assert "subgraphs" in refusal(m.build()).message


def test_another_schema_version_is_refused() -> None:
    m = ModelBuilder(version=4)
    dense(m, m.activation((1, 4), 0.1, 0), m.activation((1, 4), 0.1, 0))
    assert "version 4" in refusal(m.build()).message


def test_a_fused_activation_that_is_not_supported_is_named() -> None:
    m = ModelBuilder()
    dense(m, m.activation((1, 4), 0.1, 0), m.activation((1, 4), 0.1, 0))
    ACTIVATIONS["TANH"] = 4
    try:
        m.ops[0].activation = "TANH"
        error = refusal(m.build())
    finally:
        del ACTIVATIONS["TANH"]
    assert "TANH" in error.message


def test_an_operator_that_is_not_supported_inside_is_named() -> None:
    m = ModelBuilder()
    source, middle, output = (m.activation((1, 4), 0.1, 0) for _ in range(3))
    dense(m, source, middle)
    m.ops.append(OpSpec(tflite.BuiltinOperator.L2_NORMALIZATION, [middle], [output]))
    m.outputs = [output]
    assert "operator 1 L2_NORMALIZATION" in refusal(m.build()).message


def test_wrong_weight_data_is_refused() -> None:
    m = ModelBuilder()
    dense(m, m.activation((1, 4), 0.1, 0), m.activation((1, 4), 0.1, 0))
    m.buffers[m.tensors[2].buffer] = bytes(15)
    assert "15 bytes of data" in refusal(m.build()).message


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -1.0])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    m = ModelBuilder()
    dense(m, m.activation((1, 4), 0.1, 0), m.activation((1, 4), 0.1, 0))
    m.tensors[0].scales = (scale,)
    assert "scale" in refusal(m.build()).message


def test_a_missing_file_is_explained() -> None:
    with pytest.raises(KilotuneError) as caught:
        compiler.compile("no/such/model.tflite")
    assert caught.value.code == "no_file"
