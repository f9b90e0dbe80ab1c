"""The keyword-spotting DS-CNN of MLPerf Tiny: exact forward, trained and merged, within its memory."""

from __future__ import annotations

from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune import _native

from tests.support import shared_data, tflite_oracle
from tests.support.kernel_checks import check_gradients, differences, real


def inputs(n: int) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(-128, 128, (n, 1, 49, 10, 1)).astype(np.int8)


def test_every_tensor_is_exact() -> None:
    samples = np.concatenate([shared_data.kws_inputs(), inputs(200)])
    bad, compared = differences(shared_data.keyword_spotting(), samples)
    assert (bad, compared) == (0, 201 * (490 + 9 * 8000 + 64 + 12 + 12))


@pytest.mark.parametrize("method", ["bias", "head", "bias+head"])
def test_gradients_follow_the_float64_reference(method: Any) -> None:
    assert check_gradients(shared_data.keyword_spotting(), method=method, n=3) >= 3


@pytest.mark.parametrize(("method", "last"), [("bias", None), ("bias", 3), ("head", None), ("bias+head", 3)])
def test_training_converges_and_merges_exactly(method: Any, last: int | None) -> None:
    """Random inputs with arbitrary labels: it shows that the loss falls, not that anything is learned."""
    image = kilotune.compile(shared_data.keyword_spotting(), method=method, last_layers=last)
    kernel = _native.Kernel(image.content)
    kernel.begin(real(0.003))
    samples = inputs(6)
    flat = samples.reshape(6, -1)

    def loss() -> int:
        return sum(kernel.loss(x, label=i) for i, x in enumerate(flat))

    before = loss()
    for step in range(60):
        kernel.step(flat[step % 6], label=step % 6)
    assert loss() < 0.8 * before
    adapter = kilotune.Adapter.from_blob(image, kernel.adapter)
    merged = kilotune.merge(shared_data.keyword_spotting(), adapter)
    expected = tflite_oracle.run(merged, samples, all_tensors=False)["output"].reshape(6, -1)
    np.testing.assert_array_equal(kernel.infer(flat), expected)


def test_memory_stays_below_the_marks() -> None:
    everything = kilotune.compile(shared_data.keyword_spotting(), method="bias")
    assert everything.arena_bytes + everything.adapter_bytes <= 30_000
    last = kilotune.compile(shared_data.keyword_spotting(), method="bias+head", last_layers=3)
    assert last.arena_bytes + last.adapter_bytes <= 24_000
