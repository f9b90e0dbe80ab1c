"""A malicious device: whatever it sends, the host raises an error in bounded time and memory."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import cbor2
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.link import frames
from kilotune.link.messages import HEADER

from tests.support.faulty_line import Clock
from tests.support.model_device import AXES, INPUTS, ModelDevice

TIMEOUT_S = 5.0


class HostileLine:
    """Every read takes 5 ms, so that a device that never stops sending does not stop the clock."""

    name = "hostile"
    poll_s = 0.0

    def __init__(self, answer: Callable[[bytes], bytes]) -> None:
        self.clock = Clock()
        self._answer = answer
        self._ready = b""

    def write(self, data: bytes) -> None:
        self._ready += self._answer(data)

    def read(self, timeout_s: float) -> bytes:
        self.clock.now_s += 5e-3
        data = self._ready or self._answer(b"")
        self._ready = b""
        if not data:
            self.clock.now_s += max(timeout_s, 0.0)
        return data

    def reopen(self, timeout_s: float) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def connect() -> Callable[[HostileLine], Device]:
    def open_device(line: HostileLine) -> Device:
        return Device(line, timeout_s=TIMEOUT_S, clock=line.clock, rng=random.Random(0))

    return open_device


Connect = Callable[[HostileLine], Device]


def use(device: Device, seed: int) -> None:
    """A bit of everything."""
    rng = np.random.default_rng(seed)
    actions: list[Callable[[], Any]] = [
        lambda: device.score(np.zeros((2000, AXES), np.int16)),
        lambda: device.pull_bytes(),
        lambda: device.infer(np.zeros((2, INPUTS), np.int8)),
        lambda: device.train(np.zeros((2, INPUTS), np.int8), steps=3, lr=0.1),
        lambda: device.learn(np.zeros((2000, AXES), np.int16), passes=4),
        lambda: device.status(),
        lambda: device.reset(),
    ]
    for i in rng.permutation(len(actions)):
        actions[int(i)]()


def in_bounded_memory(line: HostileLine, work: Callable[[], None]) -> KilotuneError | None:
    tracemalloc.start()
    try:
        error = bounded(line, work)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20
    return error


def bounded(line: HostileLine, work: Callable[[], None]) -> KilotuneError | None:
    error = None
    try:
        work()
    except KilotuneError as caught:
        error = caught
    assert line.clock.now_s < 20 * TIMEOUT_S
    return error


@pytest.mark.parametrize("seed", range(3))
def test_endless_noise(connect: Connect, seed: int) -> None:
    rng = random.Random(seed)
    line = HostileLine(lambda data: rng.randbytes(rng.randrange(4096)))
    error = in_bounded_memory(line, lambda: use(connect(line), seed))
    assert error is not None
    assert error.code == "timeout"
    assert "baud" in error.hint


def test_an_endless_frame(connect: Connect) -> None:
    line = HostileLine(lambda data: b"\1" * 65536)
    error = in_bounded_memory(line, lambda: use(connect(line), 0))
    assert error is not None
    assert error.code == "timeout"


def test_endless_intact_frames_that_answer_nothing(connect: Connect) -> None:
    model = ModelDevice()
    last = b""

    def flood(data: bytes) -> bytes:
        nonlocal last
        last = data or last
        header = frames.FrameDecoder().feed(last)[0][: HEADER.size]
        version, kind, session, sequence = HEADER.unpack(header)
        others = [HEADER.pack(version, kind | 0x80, session, (sequence + i) & 0xFFFF) for i in range(1, 20)]
        return b"".join(frames.encode(other + b"\x80") for other in others)

    line = HostileLine(flood)
    error = in_bounded_memory(line, lambda: use(connect(line), 0))
    assert error is not None
    assert error.code == "timeout"
    assert model.log == []


def mutate(rng: random.Random, payload: bytes) -> bytes:
    """Something like the real answer: a field replaced, bytes changed, cut or added."""
    choice = rng.randrange(5)
    if choice == 0 and payload:
        items = cbor2.loads(payload)
        values = [0, 1, 0xFFFF, 0xFFFFFFFF, 1 << 63, -1, b"", bytes(3000), "x" * 40, [], None, 1.5, {1: 2}]
        items[rng.randrange(len(items))] = rng.choice(values)
        return cbor2.dumps(items)
    if choice == 1 and payload:
        at = rng.randrange(len(payload))
        return payload[:at] + bytes([rng.randrange(256)]) + payload[at + 1 :]
    if choice == 2:
        return payload[: rng.randrange(len(payload) + 1)]
    if choice == 3:
        return payload + rng.randbytes(rng.randrange(1, 50))
    return rng.randbytes(rng.randrange(200))


@pytest.mark.parametrize("seed", range(150))
def test_answers_that_were_tampered_with(connect: Connect, seed: int) -> None:
    rng = random.Random(seed)
    model = ModelDevice()

    def tamper(data: bytes) -> bytes:
        out = b""
        for body in frames.FrameDecoder().feed(model.exchange(data)):
            header, payload = body[: HEADER.size], body[HEADER.size :]
            if rng.random() < 0.05:
                payload = mutate(rng, payload)
            if rng.random() < 0.02:
                header = header[:1] + bytes([rng.choice([0xFF, 0x91, rng.randrange(256)])]) + header[2:]
            out += frames.encode(header + payload)
        return out

    line = HostileLine(tamper)
    bounded(line, lambda: use(connect(line), seed))


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        (
            2,
            [bytes(32), bytes(32), 600, 600, 0xFFFFFFFF, 0, 0, 1, 3, 0, 3, 1_600_000, 16_000_000, 64, 24, 48],
        ),
        (
            2,
            [
                bytes(32),
                bytes(32),
                600,
                0xFFFFFFFF,
                3000,
                0,
                0,
                1,
                3,
                0,
                3,
                1_600_000,
                16_000_000,
                64,
                24,
                48,
            ],
        ),
        (2, [bytes(32), bytes(32), 600, 600, 3000, 0, 0, 1, 3, 0, 3, 1_600_000, 0, 64, 0, 48]),
        (16, [0xFFFF]),
        (16, [1]),
        (17, [0xFFFFFFFF, 0, 0, b""]),
        (17, [0, 0, 0, b""]),
        (17, [10**6, 2048, 0, b""]),
        (17, [462, 2048, 0xFFFFFFF0, bytes(96)]),
        (17, [462, 2048, 0, bytes(6 * 600)]),
        (19, [0, 0xFFFFFFFF, b""]),
        (18, [60000, 0xFFFFFFFF]),
        (26, [600, 464, b""]),
        (28, [0xFFFFFFFF]),
        (35, [0, 3000, 0, 0, b""]),
        (35, [0, 3000, 0, 0, bytes(464)]),
        (35, [0, 3000, 0, 0, bytes(4000)]),
        (37, [0]),
    ],
)
def test_lies_about_sizes_and_offsets(connect: Connect, kind: int, items: list[Any]) -> None:
    model = ModelDevice()

    def lie(data: bytes) -> bytes:
        out = b""
        for body in frames.FrameDecoder().feed(model.exchange(data)):
            lied = body[1] == kind | 0x80
            out += frames.encode(body[: HEADER.size] + cbor2.dumps(items) if lied else body)
        return out

    line = HostileLine(lie)

    def connect_and_use(seed: int) -> None:
        use(connect(line), seed)

    for seed in range(3):
        in_bounded_memory(line, partial(connect_and_use, seed))
        line.clock.now_s = 0.0


def test_training_that_never_ends(connect: Connect) -> None:
    model = ModelDevice()
    line = HostileLine(model.exchange)
    device = connect(line)
    model.passes_left = 0

    def stuck(data: bytes) -> bytes:
        answers = model.exchange(data)
        model.passes_left, model._generation = 99, 0
        return answers

    line._answer = stuck
    with pytest.raises(KilotuneError, match="no progress"):
        device.learn(np.zeros((2000, AXES), np.int16), labels=0)
    assert line.clock.now_s < 3 * TIMEOUT_S
