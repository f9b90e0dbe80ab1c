"""A device that is always in time and never done: every command ends, in time that its size and the timeout bound."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cbor2
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.device.recorder import record
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link import frames, messages, transfer
from kilotune.link.messages import ANSWER, HEADER, Kind, Phase

from tests.support.faulty_line import Clock
from tests.support.model_device import ADAPTER_BYTES, AXES, INPUTS, ModelDevice

TIMEOUT_S = 3.0
SLOW_S = 0.9 * TIMEOUT_S  # in time, just
SAMPLES = np.zeros((2000, AXES), np.int16)

Fields = list[Any]
Lie = Callable[[Fields], Fields]


class LyingLine:
    """A device whose answers of some kinds are changed; each answer takes `answer_s`."""

    name, poll_s = "lying", 0.05

    def __init__(self, model: ModelDevice, lies: dict[Kind, Lie], answer_s: float = 0.01) -> None:
        self.model, self.clock = model, Clock()
        self._lies, self._answer_s = {kind | ANSWER: lie for kind, lie in lies.items()}, answer_s
        self._ready = b""

    def write(self, data: bytes) -> None:
        for body in frames.FrameDecoder().feed(self.model.exchange(data)):
            lie = self._lies.get(body[1])
            told = cbor2.dumps(lie(cbor2.loads(body[HEADER.size :]))) if lie else body[HEADER.size :]
            self._ready += frames.encode(body[: HEADER.size] + told)

    def read(self, timeout_s: float) -> bytes:
        if not self._ready:
            self.clock.now_s += max(timeout_s, 1e-3)
            return b""
        self.clock.now_s += self._answer_s
        answer, zero, self._ready = self._ready.partition(b"\0")
        return answer + zero

    def reopen(self, timeout_s: float) -> None:
        pass

    def close(self) -> None:
        pass


def connect(line: LyingLine) -> Device:
    return Device(line, timeout_s=TIMEOUT_S, clock=line.clock, rng=random.Random(0))


def ends(line: LyingLine, work: Callable[[Device], object], within_s: float) -> KilotuneError:
    device = connect(line)
    begun = line.clock.now_s
    with pytest.raises(KilotuneError) as error:
        work(device)
    assert line.clock.now_s - begun <= within_s
    return error.value


def set_fields(**at: int) -> Lie:
    """Fields of a message by number, as f3=7."""

    def lie(fields: Fields) -> Fields:
        for name, value in at.items():
            fields[int(name[1:])] = value
        return fields

    return lie


# --- training -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", [1, 5], ids=["generation", "train_steps"])
def test_training_of_nothing_but_steps(field: int) -> None:
    """Each question finds more of them than the one before, and no pass ends."""
    count = itertools.count()

    def training(fields: Fields) -> Fields:
        fields[0], fields[field] = int(Phase.train), next(count)
        return fields

    line = LyingLine(ModelDevice(), {Kind.status: training})
    error = ends(line, lambda device: device.learn(SAMPLES, 0, passes=4), 4 * TIMEOUT_S)
    assert error.code == "timeout"
    assert "finished no pass" in error.message


def test_training_of_more_passes_than_were_asked_for() -> None:
    count = itertools.count()

    def training(fields: Fields) -> Fields:
        fields[0] = int(Phase.train)
        fields[14 + 2] = next(count)
        return fields

    line = LyingLine(ModelDevice(), {Kind.status: training}, answer_s=SLOW_S)
    error = ends(line, lambda device: device.learn(SAMPLES, 0, passes=4), 50 * TIMEOUT_S)
    assert "finished no pass" in error.message
    assert "4 of 4" in error.message


# --- transfers ----------------------------------------------------------------------------------------


def test_a_pull_in_pieces_of_one_byte() -> None:
    def one(fields: Fields) -> Fields:
        return [*fields[:4], fields[4][:1]]

    error = ends(LyingLine(ModelDevice(), {Kind.pull: one}), lambda device: device.pull_bytes(), TIMEOUT_S)
    assert error.code == "bad_message"


def test_a_pull_of_64_mib() -> None:
    """From a device whose model nobody gave; each piece in time."""
    size, chunk = 64 << 20, 100

    class Endless(ModelDevice):
        def _pull(self, offset: int, length: int) -> list[object]:
            return [offset, size, 0, 0, bytes(chunk)]

    line = LyingLine(Endless(), {Kind.hello: set_fields(f4=chunk), Kind.model: set_fields(f4=size)}, answer_s=SLOW_S)
    error = ends(line, lambda device: device.pull_bytes(), 10 * TIMEOUT_S)
    assert error.code == "timeout"
    assert "too slowly" in error.message


def test_sizes_are_held_against_the_image(image: Image) -> None:
    """An image of the same hash cannot have an adapter of 64 MiB."""
    for name in ("input_bytes", "output_bytes", "adapter_bytes", "arena_bytes", "window", "hop"):
        features = image.features
        assert features is not None
        told = messages.Model(
            image_hash=image.image_hash, base_hash=image.base_hash, input_bytes=image.input_bytes,
            output_bytes=image.output_bytes, adapter_bytes=image.adapter_bytes, state_bytes=0,
            arena_bytes=image.arena_bytes, loss=1, method=3, classes=0, axes=features.axes, rate_mhz=1_600_000,
            full_scale_ug=16_000_000, window=features.window, hop=features.hop, features=24,
        )  # fmt: skip
        told = replace(told, **{name: getattr(told, name) + 1})
        answer = cbor2.loads(messages.encode(told))
        line = LyingLine(ModelDevice(), {Kind.model: lambda _, answer=answer: answer})  # type: ignore[misc]
        with pytest.raises(KilotuneError, match="gives the size of its model's") as error:
            Device(line, image=image, timeout_s=TIMEOUT_S, clock=line.clock, rng=random.Random(0))
        assert error.value.code == "bad_message"


def load() -> transfer.OutgoingAdapter:
    return transfer.OutgoingAdapter(bytes(ADAPTER_BYTES), bytes(range(32)), 0, 0)


def push(device: Device) -> object:
    return transfer.push(device.client, load(), 464, lambda done: None)


@pytest.mark.parametrize("claimed", [ADAPTER_BYTES + 1, 0xFFFFFFFF])
def test_a_push_that_was_done_before_it_began(claimed: int) -> None:
    model = ModelDevice()
    line = LyingLine(model, {Kind.push_begin: lambda fields: [claimed]})
    error = ends(line, push, TIMEOUT_S)
    assert error.code == "bad_message"
    assert "push_end" not in model.log


def test_a_push_that_became_another_checkpoint() -> None:
    for field in (1, 2):  # its bytes, its checksum
        line = LyingLine(ModelDevice(), {Kind.push_end: set_fields(**{f"f{field}": 7})})
        assert "not the adapter that was sent" in ends(line, push, TIMEOUT_S).message


def test_an_output_in_pieces_of_one_byte() -> None:
    def one(fields: Fields) -> Fields:
        return [fields[0], fields[1], fields[2][:1]]

    line = LyingLine(ModelDevice(), {Kind.infer: one, Kind.output_read: one})
    error = ends(line, lambda device: device.infer(np.zeros((1, INPUTS), np.int8)), TIMEOUT_S)
    assert error.code == "bad_message"


# --- streams ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2 * AXES, 5 * 2 * AXES], ids=["byte", "frame", "frames"])
def test_a_stream_that_is_taken_in_parts_of_its_pieces(step: int) -> None:
    taken = itertools.count(step, step)

    def part(fields: Fields) -> Fields:
        return [next(taken), *fields[1:3], b""]

    line = LyingLine(ModelDevice(), {Kind.samples: part}, answer_s=SLOW_S)
    error = ends(line, lambda device: device.score(SAMPLES), 10 * TIMEOUT_S)
    assert error.code == "bad_message"


def test_a_stream_of_tiny_messages() -> None:
    """A device's limits are its own to set; that it gets on is not."""

    class Tiny(ModelDevice):
        def _hello(self) -> list[object]:
            fields = super()._hello()
            fields[4] = 16  # chunk
            return fields

    line = LyingLine(Tiny(), {}, answer_s=SLOW_S)
    error = ends(line, lambda device: device.score(SAMPLES), 10 * TIMEOUT_S)
    assert error.code == "timeout"
    assert "too slowly" in error.message


@pytest.mark.parametrize("windows", [100, 0xFFFFFFFF])
def test_a_stream_with_more_windows_than_samples(windows: int) -> None:
    line = LyingLine(ModelDevice(), {Kind.stream_end: set_fields(f1=windows)})
    assert ends(line, lambda device: device.score(SAMPLES), 10 * TIMEOUT_S).code == "bad_message"


def test_a_stream_of_other_frames_than_the_models() -> None:
    line = LyingLine(ModelDevice(), {Kind.stream_begin: lambda fields: [2]})
    assert ends(line, lambda device: device.score(SAMPLES), TIMEOUT_S).code == "bad_message"


def test_a_message_that_holds_more_than_the_longest() -> None:
    line = LyingLine(ModelDevice(), {Kind.hello: set_fields(f3=400, f4=464)})
    with pytest.raises(KilotuneError, match="does not fit"):
        connect(line)


# --- the sensor ---------------------------------------------------------------------------------------


class Sensing(ModelDevice):
    """Answers each question for samples by the next of `told`."""

    def __init__(self, told: Callable[[int, int], list[object]]) -> None:
        super().__init__()
        self._told, self._asked = told, itertools.count()

    def _raw(self, start: int) -> list[object]:
        return self._told(next(self._asked), start)


def no_progress(count: int, start: int) -> list[object]:
    """Its stream begins anew, again and again."""
    if start == 0xFFFFFFFF:
        return [0, 0, 0, 0, b""]
    return [10, 10, 0, 0, b""] if start == 0 else [0, 5, 0, 0, bytes(2 * AXES)]


def one_frame(count: int, start: int) -> list[object]:
    at = 0 if start == 0xFFFFFFFF else start
    return [at, at + 1, 0, 0, bytes(2 * AXES)] if start != 0xFFFFFFFF else [0, 0, 0, 0, b""]


def old_frames(count: int, start: int) -> list[object]:
    return [0, 50, 0, 0, bytes(2 * AXES)]


@pytest.mark.parametrize("told", [no_progress, one_frame], ids=["no progress", "one sample at a time"])
def test_a_recording_that_gets_nowhere(told: Callable[[int, int], list[object]]) -> None:
    line = LyingLine(Sensing(told), {}, answer_s=SLOW_S)
    assert ends(line, lambda device: record(device, seconds=60), 5 * TIMEOUT_S).code == "timeout"


def test_a_recording_of_the_same_samples_again_and_again() -> None:
    line = LyingLine(Sensing(old_frames), {})
    assert ends(line, lambda device: record(device, seconds=60), TIMEOUT_S).code == "bad_message"


# --- any request --------------------------------------------------------------------------------------


@pytest.mark.parametrize("work", [Device.status, Device.reset, Device.commit, Device.bench])
def test_any_request_that_is_answered_by_endless_other_messages(work: Callable[[Device], object]) -> None:
    """Answers to what was not asked, of this session, thousands a second."""

    class Flood(LyingLine):
        flooding = False

        def read(self, timeout_s: float) -> bytes:
            if not self.flooding:
                return super().read(timeout_s)
            self.clock.now_s += 1e-3
            head = HEADER.pack(1, Kind.status | ANSWER, self.model._session, self.model._sequence + 1 & 0xFFFF)
            return frames.encode(head + b"\x80") * 5

    line = Flood(ModelDevice(), {})
    device = connect(line)
    line.flooding = True
    begun = line.clock.now_s
    with pytest.raises(KilotuneError) as error:
        work(device)
    assert error.value.code == "timeout"
    assert line.clock.now_s - begun < 2 * TIMEOUT_S
