"""Images and starting inputs for the fuzz targets.  python tests/fuzz/seeds.py <build folder>

Everything is computed: images of every method and loss by the compiler, inputs from a fixed seed.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
from kilotune.image.base_profile import Profile
from kilotune.image.envelope import read_header, seal
from kilotune.image.features import FeatureConfig
from kilotune.image.layout import HEADER_BYTES

from tests.support import small_models
from tests.support.networks import SAME, Network

TARGETS = ("session", "model", "checkpoint", "adapter")
INPUTS = 64  # random starting inputs a target


def _windows(bands: int, axes: int = 1, window: int = 32) -> FeatureConfig:
    return FeatureConfig(rate_hz=1600.0, window=window, hop=window // 2, fft_points=64, axes=axes,
                         bands=bands, full_scale_g=16.0)  # fmt: skip


def _profile(features: int, residuals: int) -> Profile:
    rng = np.random.default_rng(3)
    ranges = ((-1, 2, features), (0.3, 1.5, features), (0.3, 1.0, residuals))
    mean, std, residual_std = (rng.uniform(low, high, n).astype(np.float32) for low, high, n in ranges)
    return Profile(mean, std, residual_std, 1.0)


def _positions() -> bytes:
    net = Network(seed=1)
    x = net.conv(net.conv(net.source(4, 3, 2), 3, (2, 2)), 2, (1, 1))
    return net.finish(net.dense(net.flatten(net.pool(x, "max", (2, 2))), 3))


def _deep() -> bytes:
    """Whose activations take less memory when they are computed again."""
    net = Network(seed=3)
    x = net.conv(net.source(4, 4, 1), 4, (2, 2))
    for _ in range(2):
        x = net.conv(net.unary(x, "HARD_SWISH"), 4, (1, 1))
    return net.finish(net.dense(net.flatten(net.pool(x, "average", (3, 3))), 2))


def _every_operator() -> bytes:
    """Each operator that gradients pass, on few values."""
    net = Network(seed=2)
    x = net.conv(net.source(5, 4, 2), 4, stride=(1, 2), dilation=(2, 1))
    x = net.depthwise(net.depthwise(x), (2, 3), multiplier=2, stride=(2, 1))
    x = net.unary(net.conv(x, 3, (1, 1)), "HARD_SWISH")
    x = net.add(net.mul(x, net.mean(x, keep=True)), x)
    x = net.concatenation([net.pool(x, "average", (2, 2), stride=(1, 1), padding=SAME), x], 3)
    x = net.slice(net.pad(x, (1, 0), (0, 1), (0, 0)), (0, 0, 0, 1), (1, 4, 3, 6), (1, 1, 1, 1))
    x = net.transpose_conv(net.pool(net.resize(x, 5, 4), "max", (2, 2)), 2, (2, 2))
    return net.finish(net.softmax(net.dense(net.flatten(x), 3)))


def _broadcasts() -> bytes:
    """Means over some axes, constants, and extents of 1 that count for all."""
    net = Network(seed=3)
    x = net.conv(net.source(4, 3, 2), 3)
    x = net.mul(net.mean(x, axes=(1,), keep=True), net.mean(x, axes=(2, 3), keep=True))
    x = net.combine("SUB", net.with_constant(x, "MUL", [[[1]], [[2]], [[9]], [[-7]]]), x)
    x = net.with_constant(net.mean(x, axes=(3,)), "ADD", np.arange(12).reshape(4, 3))
    return net.finish(net.softmax(net.dense(net.flatten(x), 3)))


def _sequence() -> bytes:
    """Two LSTMs, one of them backwards, in front of what is trained."""
    net = Network(seed=4)
    x = net.source(4, 3)
    x = net.lstm(net.reverse(net.lstm(x, 3), 1), 2, cell_power=-13, limit=0.0)
    return net.finish(net.softmax(net.dense(net.flatten(x), 3)))


def images() -> dict[str, bytes]:
    """Small images, so that a run is short: with and without features, per tensor and per channel."""
    coder = small_models.chain(8, 6, 4, 8, per_channel=True, seed=1)
    plain = small_models.chain(8, 5, 8, seed=2)
    classes = small_models.chain(8, 6, 3, softmax=True, seed=4)
    two_axes = small_models.chain(16, 5, 16, seed=5)
    out = {
        "ready-none": kilotune.compile(plain, method="none"),
        "ready-regression": kilotune.compile(small_models.chain(7, 9, 5, seed=6), method="bias+head",
                                             loss="regression", momentum=True),
        "ready-classes": kilotune.compile(classes, method="bias+head", accumulate=True),
        "classes": kilotune.compile(classes, method="head", features=_windows(8), reservoir=9,
                                    profile=_profile(8, 0)),
        "two-axes": kilotune.compile(two_axes, method="bias", features=_windows(8, axes=2), reservoir=8,
                                     profile=_profile(16, 16)),
    }  # fmt: skip
    out["operators"] = kilotune.compile(_every_operator(), method="bias")
    out["sequence"] = kilotune.compile(_sequence(), method="bias+head")
    out["broadcasts"] = kilotune.compile(_broadcasts(), method="bias")
    for method in ("lora", "channels"):
        out[f"positions-{method}"] = kilotune.compile(_positions(), method=method, layers=[0, 1, 3])
    out["recomputed"] = kilotune.compile(_deep(), method="channels", recompute=True)
    methods: tuple[Any, ...] = ("bias", "head", "bias+head", "lora", "channels")
    for method in methods:
        out[f"coder-{method}"] = kilotune.compile(
            coder, method=method, features=_windows(8), profile=_profile(8, 8), reservoir=12,
            early=0 if method == "head" else 4, momentum=method != "bias",
        )  # fmt: skip
    return {name: image.content for name, image in out.items()}


def without_meta(content: bytes) -> bytes:
    """The image without its last section, half of it, which the device does not read: fewer bytes a run."""
    header = read_header(content)
    return seal(replace(header, image_bytes=header.meta, meta_bytes=0), content[HEADER_BYTES : header.meta])


def write(folder: Path) -> None:
    rng = random.Random(0)
    found = {name: without_meta(content) for name, content in images().items()}
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (folder / "images" / f"{name}.ktm").write_bytes(content)
    for target in TARGETS:
        corpus = folder / "corpus" / target
        corpus.mkdir(parents=True, exist_ok=True)
        if target == "model":
            for name, content in found.items():
                for i in range(4):
                    (corpus / f"seed-{name}-{i}").write_bytes(content + rng.randbytes(16))
        else:
            for i in range(INPUTS):
                (corpus / f"seed-{i}").write_bytes(rng.randbytes(rng.choice((50, 150, 400))))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
