"""LSTM layers against TensorFlow Lite Micro, which they follow exactly, and against TensorFlow Lite, which differs.

TensorFlow Lite Micro's outputs are kept with the models; if tflite-micro is installed, it runs as well.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune import _native
from kilotune.compiler.compile import trainable
from kilotune.errors import KilotuneError

from tests.conformance import lstm_models
from tests.support import tflite_oracle
from tests.support.kernel_checks import check_gradients, real
from tests.support.networks import Network

MODELS = lstm_models.models()
# Where what differs by a step grows: recurrences near saturation, large cell states and cut ones.
FAR = ("saturated", "large_cells", "limited", "long")
# Cell states of scales below 2^-15, for which TensorFlow Lite has no tanh: it leaves there what it finds.
NO_TANH = ("small_cells", "keras_stacked")
# Written for a REVERSE_V2 that the runtime does not know.
NOT_RUN = ("keras_both_ways",)


def outputs_of(model: bytes) -> Any:
    inputs = lstm_models.inputs_of(model)
    kernel = _native.Kernel(kilotune.compile(model, method="none").content)
    return kernel.infer(inputs.reshape(len(inputs), -1))


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_tensorflow_lite_micro(name: str) -> None:
    with np.load(lstm_models.FOLDER / "outputs.npz") as kept:
        expected = kept[name]
    assert len(np.unique(expected)) > 3
    np.testing.assert_array_equal(outputs_of(MODELS[name]), expected)


@pytest.mark.skipif(find_spec("tflite_micro") is None, reason="tflite-micro is not installed: pip install tflite-micro")
def test_kept_outputs_are_those_that_tensorflow_lite_micro_gives() -> None:
    with np.load(lstm_models.FOLDER / "outputs.npz") as kept:
        assert set(kept) == set(MODELS)
        for name, model in MODELS.items():
            np.testing.assert_array_equal(lstm_models.micro_outputs(model), kept[name], err_msg=name)


def test_built_models_are_those_that_are_kept() -> None:
    for name, model in lstm_models.build().items():
        assert MODELS[name] == model, name


@pytest.mark.parametrize("name", [n for n in MODELS if n not in FAR + NO_TANH + NOT_RUN])
def test_tensorflow_lite_differs_by_one_step_here_and_there(name: str) -> None:
    """It computes sigmoid and tanh in fixed point instead of tables, and rounds products once instead of twice."""
    inputs = lstm_models.inputs_of(MODELS[name])
    expected = tflite_oracle.run(MODELS[name], inputs, all_tensors=False)["output"].reshape(len(inputs), -1)
    error = np.abs(outputs_of(MODELS[name]).astype(int) - expected)
    assert error.max() <= 2
    assert (error > 0).mean() < 0.1


def test_each_inference_starts_from_an_empty_state() -> None:
    model = MODELS["wide"]
    inputs = lstm_models.inputs_of(model)
    kernel = _native.Kernel(kilotune.compile(model, method="none").content)
    rows = inputs.reshape(len(inputs), -1)
    np.testing.assert_array_equal(kernel.infer(rows)[::-1], kernel.infer(rows[::-1]))


def behind_an_lstm() -> bytes:
    net = Network(seed=3)
    x = net.lstm(net.source(9, 3), 5)
    x = net.slice(x, (0, 8, 0), (1, 9, 5), (1, 1, 1))
    return net.finish(net.softmax(net.dense(net.dense(net.reshape(x, 5), 7, activation="RELU"), 4)))


@pytest.mark.parametrize("method", ["bias", "bias+head", "lora"])
def test_layers_behind_an_lstm_learn(method: Any) -> None:
    model = behind_an_lstm()
    if method == "bias":
        assert check_gradients(model) > 0
    image = kilotune.compile(model, method=method)
    kernel = _native.Kernel(image.content)
    kernel.begin(real(0.05))
    rng = np.random.default_rng(1)
    rows = rng.integers(-128, 128, (4, 27)).astype(np.int8)
    first = sum(kernel.loss(x, label=i) for i, x in enumerate(rows))
    for _ in range(100):
        for i, x in enumerate(rows):
            kernel.step(x, label=i)
    assert sum(kernel.loss(x, label=i) for i, x in enumerate(rows)) < 0.9 * first
    merged = kilotune.merge(model, kilotune.Adapter.from_blob(image, kernel.adapter))
    again = _native.Kernel(kilotune.compile(merged, method="none").content)
    np.testing.assert_array_equal(again.infer(rows), kernel.infer(rows))
    if find_spec("tflite_micro") is not None:
        np.testing.assert_array_equal(
            lstm_models.micro_outputs(merged), kernel.infer(lstm_models.inputs_of(merged).reshape(-1, 27))
        )


def test_layers_in_front_of_an_lstm_are_named_with_what_is_in_the_way() -> None:
    net = Network(seed=3)
    x = net.reshape(net.conv(net.source(9, 1, 3), 4, (3, 1)), 9, 4)
    model = net.finish(net.dense(net.flatten(net.lstm(x, 5)), 4))
    before, behind = trainable(model, loss="regression")
    assert before.ways == ()
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in before.reason
    assert "bias" in behind.ways
    with pytest.raises(KilotuneError, match="there is no layer 0"):
        kilotune.compile(model, method="bias", layers=[0], loss="regression")


WRONG: dict[str, Any] = {
    "time-major": {"fields": {3: ("i8", 1)}},
    "activation RELU": {"fields": {0: ("i8", 1)}},
    "peepholes": {"inputs": {9: 1}},
    "projection": {"inputs": {16: 1}},
    "layer normalisation": {"inputs": {20: 1}},
    "coupled": {"inputs": {1: -1}},
    "cell state of scale": {"cell_power": -4},
    "initial state": {"inputs": {18: 0}},
}


@pytest.mark.parametrize("what", WRONG)
def test_other_kinds_of_lstm_are_refused_by_name(what: str) -> None:
    net = Network(seed=3)
    model = net.finish(net.lstm(net.source(9, 5), 5, **WRONG[what]))
    with pytest.raises(KilotuneError, match=what) as caught:
        kilotune.compile(model, method="none")
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in str(caught.value)
