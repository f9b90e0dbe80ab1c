"""Streams with credit: pieces in flight, lost, or slower than any timeout; all of them arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from kilotune.device.device import Device

from tests.support.faulty_line import Clock, Faults, FaultyLine
from tests.support.model_device import AXES, HOP, WINDOW, ModelDevice

Connect = Callable[[Any, Clock, int], Device]


class PatientLine:
    """Answers nothing while the client writes: shows how much it sends before it waits."""

    name = "patient"
    poll_s = 0.0

    def __init__(self, model: ModelDevice) -> None:
        self._model = model
        self._pending = b""
        self.most = 0

    def write(self, data: bytes) -> None:
        self._pending += data
        self.most = max(self.most, len(self._pending))

    def read(self, timeout_s: float) -> bytes:
        pending, self._pending = self._pending, b""
        return self._model.exchange(pending)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("credit", [600, 1200, 2048])
def test_several_pieces_are_under_way_and_never_more_than_the_credit(connect: Connect, credit: int) -> None:
    line = PatientLine(ModelDevice(credit=credit))
    device = connect(line, Clock(), 0)
    device.score(np.zeros((5000, AXES), np.int16))
    assert credit - 490 < line.most <= credit
    assert device.client.repeats == 0


def test_no_result_is_evicted_unread_however_large_the_credit(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice(credit=1 << 20)
    requests = 0

    def answers_get_lost_for_a_while(data: bytes) -> bytes:
        nonlocal requests
        requests += bool(data)
        answers = model.exchange(data)
        return b"" if 10 < requests < 40 else answers

    device = connect(FaultyLine(answers_get_lost_for_a_while, clock, Faults(), 0), clock, 0)
    scores = device.score(np.zeros((20000, AXES), np.int16))
    assert scores.lost == 0
    assert [r.index for r in scores] == list(range((20000 - WINDOW) // HOP + 1))


def test_a_lost_piece_costs_no_timeout_when_others_follow_it(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice()
    pieces = 0

    def lose_the_tenth(data: bytes) -> bytes:
        nonlocal pieces
        pieces += len(data) > 300
        return b"" if pieces == 10 and len(data) > 300 else model.exchange(data)

    device = connect(FaultyLine(lose_the_tenth, clock, Faults(), 0), clock, 0)
    samples = np.random.default_rng(0).integers(-99, 99, (3000, AXES)).astype(np.int16)
    device.score(samples)
    assert bytes(model.taken) == samples.tobytes()
    assert device.client.repeats == 0
    assert clock.now_s < 0.3


@pytest.mark.parametrize("credit", [600, 1200, 2048])
def test_lost_pieces_use_up_no_credit(connect: Connect, credit: int) -> None:
    clock, model = Clock(), ModelDevice(credit=credit)
    pieces = 0

    def lose_every_seventh(data: bytes) -> bytes:
        nonlocal pieces
        pieces += len(data) > 300
        return b"" if pieces % 7 == 0 and len(data) > 300 else model.exchange(data)

    samples = np.random.default_rng(0).integers(-99, 99, (3000, AXES)).astype(np.int16)
    connect(FaultyLine(lose_every_seventh, clock, Faults(), 0), clock, 0).score(samples)
    assert bytes(model.taken) == samples.tobytes()
    assert clock.now_s < 10


class SlowDeviceLine:
    """A device that takes `frame_s` per frame and loses what does not fit its receive buffer."""

    name = "slow"
    poll_s = 0.0

    def __init__(self, model: ModelDevice, clock: Clock, frame_s: float) -> None:
        self._model, self._clock, self._frame_s = model, clock, frame_s
        self._buffer = b""
        self._busy_until_s = 0.0

    def write(self, data: bytes) -> None:
        self._buffer += data[: self._model.credit - len(self._buffer)]

    def read(self, timeout_s: float) -> bytes:
        ends = self._clock.now_s + max(timeout_s, 1e-4)
        frame, zero, rest = self._buffer.partition(b"\0")
        if not zero or self._busy_until_s > ends:
            self._clock.now_s = ends
            return b""
        self._clock.now_s = max(self._clock.now_s, self._busy_until_s)
        self._buffer = rest
        answers = self._model.exchange(frame + zero)
        if answers:  # what is damaged takes no time
            self._busy_until_s = self._clock.now_s + self._frame_s
        return answers

    def close(self) -> None:
        pass


@pytest.mark.parametrize("frame_s", [0.05, 0.3, 0.7, 2.0])
@pytest.mark.parametrize("credit", [600, 1200])
def test_a_device_that_is_slower_than_the_first_timeout_gets_all(connect: Connect, credit: int, frame_s: float) -> None:
    clock, model = Clock(), ModelDevice(credit=credit)
    samples = np.random.default_rng(0).integers(-99, 99, (3000, AXES)).astype(np.int16)
    connect(SlowDeviceLine(model, clock, frame_s), clock, 0).score(samples)
    assert bytes(model.taken) == samples.tobytes()


def test_clipped_samples_are_counted(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice()
    device = connect(FaultyLine(model.exchange, clock, Faults(), 0), clock, 0)
    samples = np.zeros((20, AXES))
    samples[3] = [16.1, -16.1, 15.9]
    assert device.score(samples).clipped == 2
    assert np.frombuffer(bytes(model.taken), "<i2").reshape(-1, 3)[3].tolist() == [32767, -32768, 32563]
