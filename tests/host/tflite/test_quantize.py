"""Quantising with TensorFlow, and short runs of the base models' recipes, if it is installed."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.tflite import model as tflite_model
from kilotune.tflite.convert import quantize

from tests.support.paths import ROOT

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="needs the tensorflow extra: pip install .[tensorflow]",
)


def test_without_tensorflow_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(KilotuneError) as caught:
        quantize("model.keras", np.zeros((1, 4), np.float32))
    assert caught.value.code == "no_tensorflow"
    assert "pip install kilotune[tensorflow]" in caught.value.hint


# tflite-runtime, which other tests load, does not work in a process that has imported TensorFlow.
SCRIPT = """
import sys
import numpy as np
from pathlib import Path
from kilotune.errors import KilotuneError
from kilotune.tflite.convert import import_tensorflow, quantize

tf, folder = import_tensorflow(), Path(sys.argv[1])
layers = tf.keras.layers
model = tf.keras.Sequential([layers.Input((6,)), layers.Dense(5, "relu"), layers.Dense(6)])
inputs = np.random.default_rng(1).standard_normal((50, 6)).astype(np.float32)
(folder / "object.tflite").write_bytes(quantize(model, inputs))
(folder / "scaled.tflite").write_bytes(quantize(model, inputs, output_scale=0.125))
model.save(folder / "m.keras")
(folder / "keras.tflite").write_bytes(quantize(folder / "m.keras", inputs))
model.export(folder / "saved", verbose=False)
(folder / "saved.tflite").write_bytes(quantize(folder / "saved", inputs))
for bad in (folder / "absent.keras", folder):
    try:
        quantize(bad, inputs)
    except KilotuneError as error:
        assert error.code == "bad_model" and error.hint, error
    else:
        raise AssertionError(bad)
try:
    quantize(model, np.full((1, 6), np.nan))
except KilotuneError as error:
    assert error.code == "bad_argument"
else:
    raise AssertionError("NaN was taken")
"""


@needs_tensorflow
@pytest.mark.timeout(300)
def test_keras_objects_files_and_saved_models_become_int8(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for name in ("object", "scaled", "keras", "saved"):
        model = tflite_model.read((tmp_path / f"{name}.tflite").read_bytes())
        entry, leave = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
        assert (entry.dtype, leave.dtype) == ("int8", "int8")
        if name == "scaled":
            assert (leave.scale, leave.zero_point) == (np.float32(0.125), 0)


@needs_tensorflow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["vibration_ae_20k", "vibration_ae_1k6", "vibration_classifier"])
def test_a_shortened_recipe_makes_a_complete_model(name: str, tmp_path: Path) -> None:
    out = tmp_path / "m.tflite"
    recipe = ROOT / "models" / name / "recipe.py"
    done = subprocess.run([sys.executable, recipe, "--quick", "-o", out], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == out.stat().st_size
    found = metadata.read(out.read_bytes())
    shipped = metadata.read((ROOT / "models" / name / f"{name}.tflite").read_bytes())
    assert found.features == shipped.features
    assert found.features is not None
    assert found.profile is not None
    assert found.profile.feature_mean.shape == (found.features.inputs,)
