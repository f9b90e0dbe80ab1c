"""Measures what each kind of work costs, for the estimates of `kilotune compile --instructions`.

    python tests/bench/costs.py

Counts instructions of small networks on QEMU's mps2-an386, fits non-negative costs a unit (least relative
squares), and prints them with the errors on each network when it is left out of the fit.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune.compiler import costs, graph, planning
from kilotune.compiler.options import CompileOptions
from kilotune.targets.connect import connect
from kilotune.terms import Method, named
from kilotune.tflite import model as tflite_model
from scipy.optimize import nnls

from tests.support import small_models
from tests.support.networks import VALID, Network

TARGET = "qemu:mps2-an386"


def ds_cnn(seed: int, height: int, width: int, channels: int) -> bytes:
    net = Network(seed=seed)
    x = net.conv(net.source(height, width, 1), channels, (5, 3), stride=(2, 2))
    for _ in range(2):
        x = net.conv(net.depthwise(x), channels, (1, 1))
    x = net.pool(x, "average", (x.shape[1], x.shape[2]))
    return net.finish(net.softmax(net.dense(net.flatten(x), 6)))


def residual(seed: int, size: int, channels: int) -> bytes:
    net = Network(seed=seed)
    x = net.conv(net.source(size, size, 3), channels, (3, 3))
    x = net.add(net.conv(x, channels, (3, 3), activation="NONE"), x, activation="RELU")
    x = net.conv(x, 2 * channels, (3, 3), stride=(2, 2), padding=VALID)
    x = net.mean(x)
    return net.finish(net.softmax(net.dense(x, 10)))


NETWORKS: dict[str, bytes] = {
    "dense small": small_models.chain(48, 24, 12, 6, 12, 24, 48),
    "dense": small_models.chain(128, 64, 16, 64, 128),
    "dense, one scale per channel": small_models.chain(96, 64, 16, 64, 96, per_channel=True),
    "classifier": small_models.chain(64, 64, 32, 4, softmax=True),
    "depthwise separable": ds_cnn(1, 20, 10, 24),
    "depthwise separable, wider": ds_cnn(2, 16, 12, 40),
    "residual": residual(3, 12, 8),
    "residual, larger": residual(4, 16, 12),
}
METHODS: tuple[dict[str, Any], ...] = (
    {"method": "bias"},
    {"method": "bias+head"},
    {"method": "bias", "last_layers": 2},
    {"method": "lora", "rank": 1},
    {"method": "lora", "rank": 3},
    {"method": "channels", "channels": 4},
)


@dataclass(frozen=True)
class Count:
    network: str
    name: str
    work: Counter[str]
    instructions: int


def measure(network: str, content: bytes, options: dict[str, Any]) -> list[Count]:
    """Counts an inference and a step."""
    image = kilotune.compile(content, **options)
    built = graph.build(tflite_model.read(content))
    asked = CompileOptions(**{**options, "method": named(Method, options["method"])})
    plan = planning.plan(built, asked, calibration_bytes=0)
    with connect(TARGET, image, timeout_s=300.0, fresh=True) as device:
        counted = device.bench(runs=1)
    assert counted.instructions_inference is not None
    assert counted.instructions_step is not None
    name = f"{network}, {' '.join(map(str, options.values()))}"
    inference = costs.inference_work(built, plan.ops, range(len(built.ops)))
    return [
        Count(network, f"{name}, inference", inference, counted.instructions_inference),
        Count(network, f"{name}, step", costs.step_work(built, plan), counted.instructions_step),
    ]


def fit(counts: list[Count], kinds: list[str]) -> npt.NDArray[Any]:
    """Non-negative costs by kind, the least relative squares."""
    table = np.array([[c.work[kind] / c.instructions for kind in kinds] for c in counts], float)
    return np.asarray(nnls(table, np.ones(len(counts)))[0])


def errors(counts: list[Count], kinds: list[str], cost: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.array([sum(c.work[k] * v for k, v in zip(kinds, cost, strict=True)) / c.instructions - 1 for c in counts])


def main() -> None:
    counts: list[Count] = []
    for network, content in NETWORKS.items():
        for options in METHODS:
            counts += measure(network, content, options)
            print(counts[-1].name, counts[-1].instructions, file=sys.stderr, flush=True)
    kinds = sorted({kind for c in counts for kind in c.work})
    cost = fit(counts, kinds)
    for kind, value in zip(kinds, cost, strict=True):
        print(f'        "{kind}": {value:.4g},')
    all_fitted = np.abs(errors(counts, kinds, cost))
    print(f"fitted to all: mean error {all_fitted.mean():.1%}, worst {all_fitted.max():.1%}")
    for network in NETWORKS:
        rest = [c for c in counts if c.network != network]
        own = [c for c in counts if c.network == network]
        off = errors(own, kinds, fit(rest, kinds))
        print(f"{network}, fitted to the others: mean error {np.abs(off).mean():.1%}, worst {np.abs(off).max():.1%}")


if __name__ == "__main__":
    main()
