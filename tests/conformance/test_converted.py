"""Networks shaped like commonly used ones, made by TensorFlow's converter with random weights."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune import _native

from tests.conformance.convert import NETWORKS
from tests.support import tflite_oracle
from tests.support.kernel_checks import check_gradients, differences, random_inputs, real

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None,
        reason="needs the tensorflow extra: pip install .[tensorflow]",
    ),
]
NAMES = [build.__name__ for build in NETWORKS]


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("converted") / "model.tflite"
    script = Path(__file__).with_name("convert.py")
    result = subprocess.run(
        [sys.executable, str(script), request.param, str(path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return path.read_bytes()


def test_every_tensor_is_exact(model: bytes) -> None:
    bad, compared = differences(model, random_inputs(model, 5))
    assert bad == 0
    assert compared > 0


def test_gradients_follow_the_float64_reference(model: bytes) -> None:
    assert check_gradients(model, method="bias", n=2) > 0


def test_trained_biases_merge_exactly(model: bytes) -> None:
    image = kilotune.compile(model, method="bias")
    kernel = _native.Kernel(image.content)
    kernel.begin(real(0.01))
    inputs = random_inputs(model, 4)
    for x in inputs:
        target = np.zeros(image.output_bytes, np.int8) if image.loss == "regression" else None
        kernel.step(x.reshape(-1), label=1, target=target)
    merged = kilotune.merge(model, kilotune.Adapter.from_blob(image, kernel.adapter))
    assert merged != model
    expected = tflite_oracle.run(merged, inputs, all_tensors=False)["output"].reshape(4, -1)
    np.testing.assert_array_equal(kernel.infer(inputs.reshape(4, -1)), expected)
