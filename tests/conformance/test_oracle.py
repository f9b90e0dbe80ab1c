"""The device's code against TensorFlow Lite: forward in every tensor, and after training through a merge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune import _native
from kilotune.adapters.adapter import Adapter
from kilotune.adapters.merge import merge
from kilotune.compiler import graph
from kilotune.compiler.compile import Method, compile
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.tflite import model as tflite_model

from tests.support import shared_data, small_models, tflite_oracle

BASE_MODELS = sorted((Path(__file__).parents[2] / "models").glob("*/*.tflite"))
NETWORKS = {
    "autoencoder": small_models.chain(48, 24, 12, 6, 12, 24, 48, seed=1),
    "per channel": small_models.chain(96, 64, 16, 64, 96, per_channel=True, seed=2),
    "classifier": small_models.chain(32, 32, 16, 9, softmax=True, seed=4),
    "regression without biases": small_models.chain(17, 33, 5, 3, activation="RELU6", with_bias=False, seed=5),
}
STEPS = 200


def random_inputs(n: int, size: int, seed: int = 0) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, (n, size)).astype(np.int8)


def differing_tensors(model: bytes, inputs: npt.NDArray[np.int8]) -> tuple[int, int]:
    """(differing values, values compared) over every tensor that the kernel writes."""
    kernel = _native.Kernel(compile(model).content)
    activations = graph.build(tflite_model.read(model)).activations
    expected = tflite_oracle.run(model, inputs)
    bad = compared = 0
    for i, x in enumerate(inputs):
        for index, values in kernel.tensors(x):
            want = expected[f"tensor_{activations[index].tflite_tensor}"][i].reshape(-1)
            bad += int((want != values).sum())
            compared += values.size
    return bad, compared


def train(image: Image, inputs: npt.NDArray[np.int8], rate: tuple[int, int]) -> Adapter:
    """STEPS steps of the kernel; `rate` is (mantissa, exponent)."""
    kernel = _native.Kernel(image.content)
    kernel.begin(rate, (0, 0), 0, 1, 7)
    rng = np.random.default_rng(3)
    for step in range(STEPS):
        target = rng.integers(-128, 128, image.output_bytes).astype(np.int8)
        given = target if image.loss == "regression" else None
        kernel.step(inputs[step % len(inputs)], int(rng.integers(image.output_bytes)), given)
    return Adapter.from_blob(image, kernel.adapter, steps=STEPS)


def check_merge(model: bytes, method: Method, inputs: npt.NDArray[np.int8]) -> None:
    image = compile(model, method=method)
    adapter = train(image, inputs, (1 << 15, -20))
    if adapter.blob == Adapter.base(image).blob:
        pytest.fail("training changed nothing")
    kernel = _native.Kernel(image.content)
    before = kernel.infer(inputs)
    kernel.adapter = adapter.blob
    mine = kernel.infer(inputs)
    theirs = tflite_oracle.run(merge(model, adapter), inputs, all_tensors=False)["output"].reshape(mine.shape)
    assert int((mine != theirs).sum()) == 0
    assert int((mine != before).sum()) > 0


def test_ad01_forward() -> None:
    inputs = np.concatenate([shared_data.ad01_windows(), random_inputs(200, 640)])
    assert differing_tensors(shared_data.ad01(), inputs) == (0, 396 * (640 + 8 * 128 + 8 + 640))


def test_hello_world_forward() -> None:
    inputs = np.arange(-128, 128, dtype=np.int8)[:, None]
    assert differing_tensors(shared_data.hello_world(), inputs) == (0, 256 * 34)


@pytest.mark.parametrize("path", BASE_MODELS, ids=lambda p: p.stem)
def test_base_model_forward(path: Path) -> None:
    size = compile(path).input_bytes
    bad, compared = differing_tensors(path.read_bytes(), random_inputs(200, size))
    assert bad == 0
    assert compared > 200 * size


@pytest.mark.parametrize("method", ["bias", "head", "bias+head"])
@pytest.mark.parametrize("network", NETWORKS)
def test_networks_merge_exactly_after_training(network: str, method: Method) -> None:
    size = compile(NETWORKS[network]).input_bytes
    check_merge(NETWORKS[network], method, random_inputs(200, size))


@pytest.mark.parametrize("method", [Method.bias, Method.head, Method.bias_and_head])
def test_ad01_merges_exactly_after_training(method: Method) -> None:
    check_merge(shared_data.ad01(), method, np.concatenate([shared_data.ad01_windows(), random_inputs(200, 640)]))


@pytest.mark.parametrize("method", [Method.bias, Method.head, Method.bias_and_head])
def test_hello_world_merges_exactly_after_training(method: Method) -> None:
    check_merge(shared_data.hello_world(), method, np.arange(-128, 128, dtype=np.int8)[:, None])


@pytest.mark.parametrize("path", BASE_MODELS, ids=lambda p: p.stem)
def test_base_model_merges_exactly_after_training(path: Path) -> None:
    model = path.read_bytes()
    check_merge(model, Method.bias_and_head, random_inputs(200, compile(model).input_bytes))


SMALL = small_models.dense_model(
    small_models.DenseSpec((8, 6, 4), ("RELU", "RELU6"), (False, True), (True, False), softmax=True, reshape_input=True)
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(8, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.sampled_from(["none", "bias", "head", "bias+head"]),
)
def test_what_the_compiler_accepts_the_kernel_accepts(changes: list[tuple[int, int]], method: Method) -> None:
    """Strange scales, shapes and biases: either the compiler refuses them or the device can run them."""
    damaged = bytearray(SMALL)
    for position, value in changes:
        damaged[position] = value
    try:
        image = compile(bytes(damaged), method=method)
    except KilotuneError:
        return
    _native.Kernel(image.content).infer(random_inputs(2, image.input_bytes))
