"""The device never touches more than the memory plan says: canaries at both ends, and inside, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune import _native
from kilotune.image.image import Image

from tests.support import small_models
from tests.support.kernel_checks import real, target_of
from tests.support.networks import SAME, VALID, Network
from tests.support.reference import Reference


def every_way() -> bytes:
    """Branches that meet, in-place gradients, masks, windows, positions and a dense end."""
    net = Network(seed=5)
    x = net.conv(net.source(8, 7, 3), 6, (3, 3), stride=(2, 1))
    y = net.depthwise(net.conv(x, 6, (1, 1)))
    x = net.add(y, x, activation="RELU")
    x = net.conv(x, 5, (3, 2), padding=VALID)
    x = net.pool(net.concatenation([x, net.pool(x, "max", (1, 1))], 3), "max", (2, 2), padding=SAME)
    x = net.mul(net.unary(x, "HARD_SWISH"), net.conv(x, 10, (1, 1)))
    return net.finish(net.softmax(net.dense(net.flatten(x), 4)))


def deep() -> bytes:
    """The backward pass reads more of it than any single step needs."""
    net = Network(seed=6)
    x = net.conv(net.source(8, 7, 3), 6, (3, 3))
    for _ in range(3):
        y = net.unary(net.conv(x, 6, (1, 1)), "HARD_SWISH")
        x = net.add(net.conv(net.depthwise(y), 6, (1, 1)), x)
    x = net.pool(x, "average", (4, 4), stride=(4, 4), padding=VALID)
    return net.finish(net.softmax(net.dense(net.flatten(x), 4)))


NETWORKS: dict[str, Callable[[], bytes]] = {
    "every way": every_way,
    "deep": deep,
    "reconstruction": lambda: small_models.chain(30, 12, 5, 12, 30, per_channel=True, seed=2),
    "regression": lambda: small_models.chain(20, 16, 3, seed=3),
    "long": lambda: small_models.chain(24, 24, 24, 24, 24, 24, 3, seed=4),
}
WAYS: dict[str, dict[str, Any]] = {
    "bias": {"method": "bias"},
    "bias+head": {"method": "bias+head"},
    "last two": {"method": "bias", "last_layers": 2},
    "lora": {"method": "lora"},
    "channels": {"method": "channels"},
    "recomputed lora": {"method": "lora", "recompute": True},
    "recomputed channels": {"method": "channels", "recompute": True},
}


class Watch:
    """Spoils, before each step of the pass, every byte that is no longer needed according to the plan."""

    def __init__(self, image: Image, kernel: Any, first_op: int, seed: int) -> None:
        self._pieces, self._kernel, self._first_op = image.memory, kernel, first_op
        self._ops = len(image.layers)
        self._backward: dict[int, int] = {}  # step in which each op's backward pass, with its reruns, begins
        step = self._ops + 1
        for op in reversed(range(self._ops)):
            self._backward[op] = step
            step += 1 + sum(before == op for before, _ in image.reruns)
        self._noise = np.random.default_rng(seed)
        self._before: npt.NDArray[Any] | None = None
        self._step = 0
        self.spoiled = self.steps = 0
        self.strays: list[tuple[int, int]] = []  # (step, byte) written where nothing is planned

    def begin(self) -> None:
        self._enter(0)

    def __call__(self, kind: str, op: int) -> None:
        self._leave(self._step)
        if kind == "backward":  # the loss, or the backward pass of the op before, is done; ops without a
            self._enter(self._backward[op])  # record do nothing
        elif op < self._first_op:
            self._enter(op + 1)
        else:  # the loss, or what comes after an op that ran again
            self._enter(self._ops if op == self._first_op else self._step + 1)

    def end(self) -> None:
        self._leave(self._step)

    def _enter(self, step: int) -> None:
        arena = self._kernel.arena
        needed = np.zeros(arena.size, bool)
        for p in self._pieces:
            if p.first < step <= p.last:
                needed[p.offset : p.offset + p.size] = True
        arena[~needed] = self._noise.integers(0, 256, int((~needed).sum())).astype(np.uint8)
        self.spoiled += int((~needed).sum())
        self.steps += 1
        self._before, self._step = arena.copy(), step

    def _leave(self, step: int) -> None:
        assert self._before is not None
        alive = np.zeros(self._before.size, bool)
        for p in self._pieces:
            if p.first <= step <= p.last:
                alive[p.offset : p.offset + -(-p.size // 4) * 4] = True
        changed = np.flatnonzero((self._kernel.arena != self._before) & ~alive)
        self.strays += [(step, int(i)) for i in changed]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("network", NETWORKS)
def test_what_the_plan_calls_free_is_neither_read_nor_written(network: str, way: str) -> None:
    image = kilotune.compile(NETWORKS[network](), **WAYS[way])
    reference = Reference(image.content)
    first_op = reference.loss_section()[1]
    x = np.random.default_rng(1).integers(-128, 128, (6, image.input_bytes)).astype(np.int8)
    plain, watched = _native.Kernel(image.content), _native.Kernel(image.content)
    for kernel in (plain, watched):
        kernel.begin(real(0.01))
    spoiled = 0
    for i, row in enumerate(x):
        target = target_of(reference, i)
        plain.step(row, **target)
        watch = Watch(image, watched, first_op, i)
        # The input arrives inside traced_step: the first event comes after the first op.
        events = FirstOp(watch)
        watched.traced_step(row, int(target.get("label", 0)), target.get("target"), events)
        watch.end()
        assert watch.strays == []
        assert bytes(watched.adapter) == bytes(plain.adapter)
        spoiled += watch.spoiled
        assert watch.steps >= 3
    assert spoiled > 0
    assert plain.guards_intact
    assert watched.guards_intact


class FirstOp:
    """Starts at the first event: what the first op wrote is not checked, all later steps are."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._begun = watch, False

    def __call__(self, kind: str, op: int) -> None:
        if not self._begun:
            self._begun = True
            self._watch._enter(1 if self._watch._first_op > 0 else self._watch._ops)
            return
        self._watch(kind, op)


@pytest.mark.parametrize("way", ["lora", "channels"])
@pytest.mark.parametrize("network", ["deep", "long"])
def test_recomputed_activations_take_less_memory_and_teach_the_same(network: str, way: str) -> None:
    content = NETWORKS[network]()
    kept, again = (kilotune.compile(content, method=way, recompute=on) for on in (False, True))
    assert again.arena_bytes < kept.arena_bytes
    assert again.reruns
    assert not kept.reruns
    reference = Reference(kept.content)
    x = np.random.default_rng(1).integers(-128, 128, (40, kept.input_bytes)).astype(np.int8)
    learned = []
    for image in (kept, again):
        kernel = _native.Kernel(image.content)
        kernel.begin(real(0.01))
        for i, row in enumerate(x):
            kernel.step(row, **target_of(reference, i))
        learned.append(bytes(kernel.adapter))
    assert learned[0] == learned[1]
    fresh = _native.Kernel(kept.content)
    fresh.reset()
    assert bytes(fresh.adapter) != learned[0]


def separable() -> bytes:
    """Depthwise and 1x1 convolutions over an odd number of positions, as keyword spotting has them."""
    net = Network(seed=7)
    x = net.conv(net.source(9, 5, 2), 16, (3, 3))
    x = net.depthwise(x)
    for channels in (16, 12, 20):
        x = net.conv(x, channels, (1, 1))
        x = net.unary(net.depthwise(x), "HARD_SWISH")
    return net.finish(net.softmax(net.dense(net.flatten(net.pool(x, "max", (3, 3), stride=(2, 2), padding=VALID)), 3)))


def test_outputs_are_written_over_inputs_that_nobody_needs() -> None:
    """Inference takes little more than its largest activation; what it gives, the conformance tests compare."""
    content = separable()
    image = kilotune.compile(content, method="none")
    data = {p.key: p for p in image.memory if p.key.startswith("data")}
    assert image.arena_bytes < 1.25 * max(p.size for p in data.values())
    over = [(a, b) for a in data.values() for b in data.values() if a.last == b.first > a.first
            and a.offset < b.offset + b.size and b.offset < a.offset + a.size]  # fmt: skip
    assert len(over) >= 8
    assert any(b.size > a.size for a, b in over), "a growing output too"
    rows = np.random.default_rng(3).integers(-128, 128, (40, image.input_bytes)).astype(np.int8)
    kept = kilotune.compile(content, method="lora")  # backward reads the inputs: they stay
    np.testing.assert_array_equal(_native.Kernel(image.content).infer(rows), fresh_kernel(kept).infer(rows))


def fresh_kernel(image: Image) -> Any:
    kernel = _native.Kernel(image.content)
    kernel.reset()
    return kernel


def test_biases_need_no_activations_again() -> None:
    content = NETWORKS["reconstruction"]()
    assert kilotune.compile(content, recompute=True).content == kilotune.compile(content).content


def test_the_watch_sees_a_plan_that_is_too_small() -> None:
    """A plan that forgets a buffer is noticed: its bytes are spoiled, or written where nothing is planned."""
    image = kilotune.compile(NETWORKS["every way"](), method="bias")
    reference = Reference(image.content)
    caught = 0
    for forgotten in range(0, len(image.memory), 3):
        pieces = [p for i, p in enumerate(image.memory) if i != forgotten]
        plain, watched = _native.Kernel(image.content), _native.Kernel(image.content)
        x = np.random.default_rng(1).integers(-128, 128, image.input_bytes).astype(np.int8)
        for kernel in (plain, watched):
            kernel.begin(real(0.01))
        plain.step(x, label=1)
        watch = Watch(image, watched, reference.loss_section()[1], 0)
        watch._pieces = tuple(pieces)
        watched.traced_step(x, 1, None, FirstOp(watch))
        watch.end()
        caught += bool(watch.strays) or bytes(watched.adapter) != bytes(plain.adapter)
    assert caught >= len(range(0, len(image.memory), 3)) - 2


def test_guards_notice_a_write_beyond_the_end() -> None:
    kernel = _native.Kernel(kilotune.compile(NETWORKS["regression"](), method="bias").content)
    assert kernel.guards_intact
    beyond = np.lib.stride_tricks.as_strided(kernel.arena, (kernel.arena.size + 1,), (1,))
    beyond[-1] ^= 1
    assert not kernel.guards_intact
