"""MLPerf Tiny's keyword model learns shifted labels of synthetic features on the twin, with each method.

    python tests/bench/keywords.py [--steps 200]

The recordings that this model was trained on are not used: samples are smooth random patterns, each a prototype
with noise; a sample's label is the class after the one that the base model finds in its prototype. So this shows
that training converges and what it costs, and nothing about keywords. Needs KILOTUNE_DATA.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune import _native
from kilotune.image.real16 import to_real
from scipy.ndimage import gaussian_filter

from tests.support import shared_data

CLASSES, EACH, SHIFT = 6, 2, 1  # classes used, prototypes of a class, labels moved on by
METHODS: dict[str, dict[str, Any]] = {
    "head": {"method": "head"},
    "bias": {"method": "bias"},
    "bias, last 3": {"method": "bias", "last_layers": 3},
    "bias+head, last 3": {"method": "bias+head", "last_layers": 3},
    "lora rank 2, last 2": {"method": "lora", "rank": 2, "last_layers": 2},
    "channels, 8 of the last 2": {"method": "channels", "channels": 8, "last_layers": 2},
}
RATES = (0.1, 0.02)


def prototypes(kernel: Any, rng: np.random.Generator) -> tuple[npt.NDArray[Any], npt.NDArray[Any], int]:
    """(patterns (n, 490), labels before the shift, patterns drawn): EACH of the CLASSES most frequent classes."""
    drawn = np.stack([gaussian_filter(rng.normal(0, 1, (49, 10)), (6, 1.5)) for _ in range(400)])
    drawn = (drawn / drawn.std((1, 2), keepdims=True) * 45 + 60 * rng.normal(size=(400, 1, 1))).reshape(400, -1)
    found = kernel.infer(quantised(drawn)).argmax(1)
    counts = np.bincount(found, minlength=12)
    used = np.argsort(-counts)[:CLASSES]
    used = used[counts[used] >= EACH]
    rows = np.concatenate([np.flatnonzero(found == k)[:EACH] for k in used])
    return drawn[rows], found[rows], len(drawn)


def quantised(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.clip(np.rint(x), -128, 127)).astype(np.int8)


def samples(patterns: npt.NDArray[Any], labels: npt.NDArray[Any], n: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """n noisy copies of each prototype and their shifted labels, in random order."""
    x = np.repeat(patterns, n, 0) + rng.normal(0, 12, (n * len(patterns), patterns.shape[1]))
    order = rng.permutation(len(x))
    return quantised(x)[order], ((np.repeat(labels, n) + SHIFT) % 12)[order]


def accuracy(kernel: Any, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    return float((kernel.infer(x).argmax(1) == y).mean())


def learn(image: kilotune.Image, train: Any, test: Any, steps: int) -> tuple[float, float, int]:
    """(accuracy on the test samples, rate, ms per step here), with the best of RATES for the training ones."""
    best = (-1.0, 0.0, 0.0)
    start = time.perf_counter()
    for rate in RATES:
        kernel = _native.Kernel(image.content)
        kernel.begin(to_real(rate, "the learning rate"))
        for i in range(steps):
            k = i % len(train[0])
            kernel.step(train[0][k], int(train[1][k]))
        best = max(best, (accuracy(kernel, *train), accuracy(kernel, *test), rate))
    return best[1], best[2], round((time.perf_counter() - start) / (len(RATES) * steps) * 1000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    steps = parser.parse_args().steps
    content = shared_data.keyword_spotting()
    rng = np.random.default_rng(1)
    base = _native.Kernel(kilotune.compile(content, method="none").content)
    patterns, labels, _ = prototypes(base, rng)
    train, test = samples(patterns, labels, 6, rng), samples(patterns, labels, 6, rng)
    classes, right = len(set(labels)), accuracy(base, *test)
    print(f"{classes} classes, {len(patterns)} prototypes, {len(train[0])} training samples, {steps} steps. Before")
    print(f"training, {right:.2f} of the shifted labels are right; chance is {1 / classes:.2f}.\n")
    print("| trained | arena | adapter | accuracy | rate |\n|---|---|---|---|---|")
    images = {name: kilotune.compile(content, **options) for name, options in METHODS.items()}
    for name, image in images.items():
        right, rate, ms = learn(image, train, test, steps)
        print(f"| {name} | {image.arena_bytes:,} | {image.adapter_bytes:,} | {right:.2f} | {rate:g} |", flush=True)
        print(f"{name}: {ms} ms per step", file=sys.stderr)


if __name__ == "__main__":
    main()
