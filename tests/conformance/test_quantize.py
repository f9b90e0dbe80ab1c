"""`kilotune quantize` from what people have: Keras, recurrent layers, float and hybrid files; and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import kilotune
import pytest
from kilotune.errors import KilotuneError
from kilotune.tflite import model as tflite_model

from tests.support.kernel_checks import differences, random_inputs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None,
        reason="needs the tensorflow extra: pip install .[tensorflow]",
    ),
]

# In a process of its own: tflite-runtime does not work in one that has imported TensorFlow.
SCRIPT = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import numpy as np
from kilotune.errors import KilotuneError
from kilotune.studies.quantising import changes
from kilotune.tflite.convert import import_tensorflow, quantize, quantize_and_compare
from kilotune.tflite.float_model import shaped

tf, folder, refusals = import_tensorflow(), Path(sys.argv[1]), []
tf.keras.utils.set_random_seed(1)
k = tf.keras.layers
inputs = np.random.default_rng(1).normal(size=(40, 8, 3)).astype(np.float32)

def network(*layers):  # with an open batch
    return tf.keras.Sequential([k.Input((8, 3)), *layers, k.Flatten(), k.Dense(3)])

def write(name, content):
    (folder / f"{name}.tflite").write_bytes(content)

def refused(model, samples):
    try:
        quantize(model, samples)
    except KilotuneError as error:
        refusals.append([error.code, error.message])

gru = network(k.GRU(6))
gru.save(folder / "gru.h5")
compared = quantize_and_compare(folder / "gru.h5", inputs)
write("gru", compared.content)
write("lstm", quantize(network(k.LSTM(5, return_sequences=True)), inputs))
write("transpose", quantize(network(k.Conv1DTranspose(4, 3, strides=2, padding="same")), inputs))
write("causal", quantize(network(k.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="elu")), inputs))
nested = network(tf.keras.Sequential([k.Input((8, 3)), k.Bidirectional(k.LSTM(4))]))
made = quantize_and_compare(nested, inputs)
write("nested", made.content)
unrolled = list(made.notes)

class Looped(k.Layer):
    def call(self, x):
        return tf.while_loop(lambda i, _: i < tf.cast(x[0, 0, 0], tf.int32), lambda i, y: (i + 1, y * 0.9), (0, x))[1]

refused(network(Looped()), inputs)
refused(tf.keras.Sequential([k.Input((None, 3)), k.Bidirectional(k.LSTM(4)), k.Dense(3)]), inputs)
dense = network(k.Dense(4, "relu"))
for name, optimizations in (("float", []), ("hybrid", [tf.lite.Optimize.DEFAULT])):
    converter = tf.lite.TFLiteConverter.from_keras_model(dense)
    converter.optimizations = optimizations
    write(name, converter.convert())
    write(f"from_{name}", quantize(folder / f"{name}.tflite", inputs))
refused(folder / "from_float.tflite", inputs)
refused(folder / "float.tflite", inputs[:, :7])
refused(folder / "float.tflite", inputs.transpose(0, 2, 1))
write("flat", quantize(folder / "float.tflite", inputs.reshape(40, 24)))
plain = (folder / "float.tflite").read_bytes()
rows = [shaped(tf, plain, x, channels_first=True) for x in (inputs.transpose(0, 2, 1), inputs,
        inputs.transpose(0, 2, 1).reshape(40, 24))]
assert all(np.array_equal(np.concatenate(r), inputs) for r in rows)
square = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Sequential([k.Input((3, 3), batch_size=1), k.Dense(2)]))
some = inputs[:, :3]
turned, kept = (shaped(tf, square.convert(), some, channels_first=first) for first in (True, False))
assert np.array_equal(np.concatenate(turned), some.transpose(0, 2, 1))
assert np.array_equal(np.concatenate(kept), some)
refused(dense, inputs[:, :7])
told = asdict(changes(compared))
print(json.dumps({"told": told, "refusals": refusals, "unrolled": unrolled}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("quantised")
    done = subprocess.run([sys.executable, "-c", SCRIPT, made], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    (made / "said.json").write_text(done.stdout.splitlines()[-1])
    return made


def said(folder: Path) -> Any:
    return json.loads((folder / "said.json").read_text())


@pytest.mark.parametrize("name", ["gru", "lstm", "transpose", "causal", "from_float", "from_hybrid"])
def test_what_was_quantised_compiles_and_is_exact(folder: Path, name: str) -> None:
    content = (folder / f"{name}.tflite").read_bytes()
    if name == "causal":  # ELU has no reference kernel in tflite-runtime
        assert kilotune.compile(content, method="bias+head").trained
        return
    bad, compared = differences(content, random_inputs(content, 3))
    assert bad == 0
    assert compared > 0


@pytest.mark.parametrize(("name", "what"), [("float", "computes in float32"), ("hybrid", "computes in float32")])
def test_without_quantising_they_are_refused(folder: Path, name: str, what: str) -> None:
    with pytest.raises(KilotuneError, match=what):
        kilotune.compile(folder / f"{name}.tflite")


def test_what_has_changed_is_told(folder: Path) -> None:
    told = said(folder)["told"]
    assert 0 < told["error"] < 0.2 * told["range"]
    assert len(told["errors"]) == 3
    assert told["int8_bytes"] == (folder / "gru.tflite").stat().st_size
    assert "bias+head" in told["methods"]
    assert "unrolled" in told["notes"][0]


def test_refusals_say_why(folder: Path) -> None:
    loop, opened, already, shape, turned, keras_shape = said(folder)["refusals"]
    assert loop[0] == "bad_model"
    assert "contains a loop" in loop[1]
    assert "has the open shape [None, None, 3]" in opened[1]
    assert already == ["bad_argument", "the model is quantised to int8 already"]
    assert "samples of shape [7, 3] do not fit the model's input [8, 3]" in shape[1]
    assert "samples of shape [3, 8] do not fit the model's input [8, 3]" in turned[1]
    assert keras_shape == shape


def test_layers_inside_others_are_unrolled(folder: Path) -> None:
    told = said(folder)["unrolled"]
    assert len(told) == 1
    assert "lstm" in told[0]
    assert len(tflite_model.read((folder / "nested.tflite").read_bytes()).operators) > 100  # and no loop
    assert (folder / "flat.tflite").read_bytes() == (folder / "from_float.tflite").read_bytes()
