"""Adam with two bytes per parameter, against Adam in float64 on the reference's gradients."""

from __future__ import annotations

from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune import _native
from kilotune.adapters.adapter import Adapter
from kilotune.errors import KilotuneError

from tests.support import small_models
from tests.support.kernel_checks import cosine, real, target_of
from tests.support.networks import Network
from tests.support.reference import Reference

BETA1, BETA2 = 0.9, 1 - 2.0**-10


def positions() -> bytes:
    net = Network(seed=2)
    x = net.conv(net.conv(net.source(6, 5, 2), 5, (3, 2)), 6, (1, 1))
    return net.finish(net.dense(net.flatten(x), 4))


CASES: dict[str, tuple[bytes, dict[str, Any]]] = {
    "bias+head": (small_models.chain(24, 12, 6, 24, seed=1), {"method": "bias+head"}),
    "bias+head, one scale per channel": (
        small_models.chain(20, 12, 20, per_channel=True, seed=2),
        {"method": "bias+head"},
    ),
    "classifier": (small_models.chain(16, 12, 4, softmax=True, seed=3), {"method": "bias+head"}),
    "channels": (small_models.chain(24, 12, 6, 24, seed=4), {"method": "channels", "channels": 3}),
    "channels of convolutions": (positions(), {"method": "channels", "channels": 2, "layers": [0, 1]}),
}


class Float:
    """Adam in float64 for one array."""

    def __init__(self) -> None:
        self.m: Any = 0.0
        self.v: Any = 0.0

    def step(self, g: npt.NDArray[Any], t: int) -> npt.NDArray[Any]:
        self.m = BETA1 * self.m + (1 - BETA1) * g
        self.v = BETA2 * self.v + (1 - BETA2) * g * g
        root = np.sqrt(self.v / (1 - BETA2**t))
        return np.divide(self.m / (1 - BETA1**t), root, out=np.zeros_like(g), where=root > 0)


def parameters(image: kilotune.Image, blob: bytes, r: Reference) -> dict[str, npt.NDArray[Any]]:
    """Every trained array in real units."""
    adapter = Adapter.from_blob(image, blob)
    found = {}
    for layer in adapter.config.layers:
        op = r.ops[layer.op]
        s_w = r.weight_scales(op)
        if layer.bias_trained:
            unit = r.tensors[op.input].scale * s_w / 2.0**layer.bias_fraction_bits
            found[f"{layer.op} bias"] = adapter.bias_delta(layer) * unit
        if layer.weights_trained:
            rows = list(layer.channels) if layer.channels else slice(None)
            found[f"{layer.op} weights"] = adapter.weights(layer) * (s_w / 256)[rows][:, None]
    return found


def gradients(image: kilotune.Image, r: Reference, values: list[Any], target: Any) -> dict[str, npt.NDArray[Any]]:
    expected = r.gradients(values, **target)
    found = {}
    for layer in image.trained:
        g, dw = expected[layer.op]
        if layer.bias_trained:
            found[f"{layer.op} bias"] = g.reshape(-1, layer.outputs).sum(0)
        if layer.weights_trained:
            found[f"{layer.op} weights"] = dw[list(layer.channels)] if layer.channels else dw
    return found


@pytest.mark.parametrize("case", CASES)
def test_parameters_move_as_adam_in_float64_moves_them(case: str) -> None:
    content, options = CASES[case]
    image = kilotune.compile(content, adam=True, **options)
    kernel, rate, steps = _native.Kernel(image.content), 2e-3, 60
    kernel.begin(real(rate))
    xs = np.random.default_rng(4).integers(-128, 128, (6, image.input_bytes)).astype(np.int8)
    states: dict[str, Float] = {}
    wanted: dict[str, npt.NDArray[Any]] = {}
    start = parameters(image, bytes(kernel.adapter), Reference(image.content, bytes(kernel.adapter)))
    for t in range(1, steps + 1):
        r = Reference(image.content, bytes(kernel.adapter))
        target = target_of(r, t % 6)
        tensors, _ = kernel.observed_step(xs[t % 6], **target)
        values: list[Any] = [None] * len(r.tensors)
        for index, tensor in tensors:
            values[index] = tensor.astype(np.int64)
        for name, g in gradients(image, r, values, target).items():
            move = -rate * states.setdefault(name, Float()).step(g, t)
            wanted[name] = wanted.get(name, 0.0) + move
    end = parameters(image, bytes(kernel.adapter), r)
    for name, move in wanted.items():
        got = end[name] - start[name]
        # The root of the mean square has steps of an eighth of an octave, rounded stochastically: it wanders by
        # a fifth. Rounding of parameters is a random walk of at most one unit per step; weights are the coarse ones.
        layer = next(x for x in image.trained if name.startswith(f"{x.op} "))
        unit = r.weight_scales(r.ops[layer.op]).max() / 256 if "weights" in name else 0.0
        noise = 0.5 * unit * np.sqrt(steps * move.size)
        size = float(np.linalg.norm(move))
        assert size > 0
        assert np.linalg.norm(got - move) <= 0.3 * size + noise, name
        if noise < 0.05 * size:
            assert cosine(got, move) >= 0.96, name


def test_the_state_has_two_bytes_a_parameter() -> None:
    content, options = CASES["bias+head"]
    adam, momentum = (kilotune.compile(content, **{name: True, **options}) for name in ("adam", "momentum"))
    biases, weights = 12 + 6 + 24, 6 * 24
    assert adam.state_bytes == 2 * (biases + weights)
    assert momentum.state_bytes == 4 * biases + 2 * weights


def test_adam_learns() -> None:
    content, options = CASES["bias+head, one scale per channel"]
    kernel = _native.Kernel(kilotune.compile(content, adam=True, **options).content)
    xs = np.random.default_rng(4).integers(-60, 60, (8, 20)).astype(np.int8)
    kernel.begin(real(0.01))
    before = np.mean([kernel.loss(x) for x in xs])
    for i in range(800):
        kernel.step(xs[i % 8])
    assert np.mean([kernel.loss(x) for x in xs]) < 0.5 * before


def test_what_adam_does_not_do_is_refused() -> None:
    content, _ = CASES["bias+head"]
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"method": "lora"}, "low-rank"), ({"momentum": True}, "momentum of its own"),
    )  # fmt: skip
    for options, message in refused:
        with pytest.raises(KilotuneError, match=message):
            kilotune.compile(content, adam=True, **options)
    kernel = _native.Kernel(kilotune.compile(content, adam=True).content)
    with pytest.raises(RuntimeError, match="status"):
        kernel.begin(real(0.1), accumulate=2)
