"""Training curves of the integer kernel over those of the same network trained in float64.

    python tests/bench/curves.py [docs/training-curves.svg]

The shipped three-axis model, 24 healthy windows of a simulated machine that it has not seen, batch 1, no noise, the
same order and rate for both; the loss is the mean squared error in sigma^2 over all windows after each pass.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune import _native
from kilotune.device.learning import TrainOptions
from kilotune.recordings.simulator import Machine
from kilotune.studies.base_models import base_model

from models.recipes import compute_features
from tests.support.reference import Reference

PASSES, RATE, WINDOWS = 60, 0.2, 24
METHODS = ("bias", "head", "bias+head")


def windows(image: kilotune.Image) -> npt.NDArray[Any]:
    """Model inputs (windows, inputs) of one unseen machine, normalised by its own mean and scale."""
    config = image.features
    assert config is not None
    machine = Machine.random(1_000_101)
    n = config.window + (WINDOWS // 2 - 1) * config.hop
    parts = [
        machine.record(n / config.rate_hz, config.rate_hz, rpm=rpm, load=load, seed=7)
        for rpm, load in ((600, 0.1), (3400, 0.9))
    ]
    x = np.concatenate([compute_features(config, g) for g in parts])
    scale, zero = image.input_quantisation
    z = (x - x.mean(0)) / np.maximum(x.std(0), 0.05)
    return np.asarray(np.clip(np.rint(z / scale) + zero, -128, 127)).astype(np.int8)


class FloatNetwork:
    """The image's dense layers in float64."""

    def __init__(self, content: bytes, method: str) -> None:
        r = Reference(content)
        self.method = method
        self.weights, self.biases = [], []
        for op in r.ops:
            w, b = r.effective(op)
            scale = r.weight_scales(op)
            self.weights.append(w * scale[:, None])
            self.biases.append(b * scale * r.tensors[op.input].scale)

    def activations(self, x: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        values = [x]
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = w @ values[-1] + b
            values.append(np.maximum(z, 0) if i + 1 < len(self.weights) else z)
        return values

    def step(self, x: npt.NDArray[Any], rate: float) -> None:
        values = self.activations(x)
        g = 2 / x.size * (values[-1] - x)
        for i in range(len(self.weights) - 1, -1, -1):
            last = i + 1 == len(self.weights)
            if not last:
                g = g * (values[i + 1] > 0)
            back = self.weights[i].T @ g
            if last and "head" in self.method:
                self.weights[i] = self.weights[i] - rate * np.outer(g, values[i])
            if "bias" in self.method or last:
                self.biases[i] = self.biases[i] - rate * g
            g = back

    def loss(self, xs: npt.NDArray[Any]) -> float:
        return float(np.mean([((self.activations(x)[-1] - x) ** 2).mean() for x in xs]))


def curves(method: Any) -> tuple[list[float], list[float]]:
    """Loss after each pass of the device's kernel and of float64; the first before training."""
    image = kilotune.compile(base_model("vibration_ae_20k"), method=method)
    q = windows(image)
    scale, zero = image.input_quantisation
    out_scale, out_zero = image.output_quantisation
    real = (q.astype(np.float64) - zero) * scale
    kernel, network = _native.Kernel(image.content), FloatNetwork(image.content, method)
    config = TrainOptions().train_config(RATE)
    kernel.begin((config.rate_mantissa, config.rate_exponent))

    def device_loss() -> float:
        y = (kernel.infer(q).astype(np.float64) - out_zero) * out_scale
        return float(((y - real) ** 2).mean())

    found = [device_loss()], [network.loss(real)]
    rng = np.random.default_rng(1)
    for _ in range(PASSES):
        for i in rng.permutation(len(q)):
            kernel.step(q[i])
            network.step(real[i], RATE)
        found[0].append(device_loss())
        found[1].append(network.loss(real))
    return found


def main() -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "kilotune"
    import matplotlib.pyplot as plt

    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/training-curves.svg")
    figure, axes = plt.subplots(figsize=(7, 4))
    for colour, method in zip(("tab:blue", "tab:orange", "tab:green"), METHODS, strict=True):
        device, float64 = curves(method)
        axes.plot(device, color=colour, label=f"{method}, integers of the device")
        axes.plot(float64, color=colour, linestyle=":", linewidth=2, label=f"{method}, float64")
        print(f"{method}: {device[0]:.3f} to {device[-1]:.3f}, float64 {float64[0]:.3f} to {float64[-1]:.3f}")
    axes.set(xlabel="pass over 24 windows", ylabel="mean squared error, sigma²", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main()
