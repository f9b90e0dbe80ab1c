"""Outputs and trained parameters of every core are the twin's, for layers of shapes that SIMD code treats apart."""

from __future__ import annotations

from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.targets.connect import connect
from kilotune.targets.target import parse_target
from kilotune.targets.twin import Twin

from tests.support import small_models

NETWORKS = {
    "no width a multiple of 4": (small_models.chain(33, 21, 7, 3, 1, 9, 33, seed=9), "bias"),
    "no width a multiple of 4, one multiplier per channel, no bias": (
        small_models.chain(13, 7, 11, 13, with_bias=False, per_channel=True, seed=6),
        "bias+head",
    ),
    "one multiplier per channel": (small_models.chain(30, 19, 6, 5, 30, per_channel=True, seed=2), "bias"),
    "clamped on both sides": (small_models.chain(17, 33, 5, 17, activation="RELU6", last="RELU6", seed=5), "bias"),
    "clamped inside the range": (
        small_models.chain(18, 10, 18, activation="RELU_N1_TO_1", last="RELU_N1_TO_1", seed=7),
        "bias+head",
    ),
    "classifier": (small_models.chain(64, 64, 32, 4, softmax=True), "bias+head"),
    "low-rank sums": (small_models.chain(33, 21, 7, 33, per_channel=True, seed=9), "lora"),
    "some channels": (small_models.chain(33, 21, 7, 33, seed=9), "channels"),
}


OPTIONS: dict[str, dict[str, Any]] = {"Adam": {"adam": True}, "Adam, some channels": {"adam": True}}
NETWORKS |= {
    "Adam": (small_models.chain(33, 21, 7, 33, per_channel=True, seed=9), "bias+head"),
    "Adam, some channels": (small_models.chain(64, 16, 4, softmax=True, seed=9), "channels"),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_training_gives_the_twins_bits(target: str, network: str) -> None:
    if parse_target(target).kind == "port":
        pytest.skip("needs a model of its own on the board")
    content, method = NETWORKS[network]
    image = kilotune.compile(content, method=method, **OPTIONS.get(network, {}))
    x = np.random.default_rng(1).integers(-128, 128, (16, image.input_bytes)).astype(np.int8)
    labels = np.arange(16) % 4 if image.loss == "classification" else None
    results = []
    for connection in (Twin(image), connect(target, image, timeout_s=60.0, fresh=True)):
        with connection as device:
            device.train(x, steps=150, lr=0.02, labels=labels)
            results.append((device.infer(x).tobytes(), device.pull_bytes()))
    assert results[0] == results[1]
