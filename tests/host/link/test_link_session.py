"""The firmware's own session, frame by frame: what no client would send, and how it reacts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.image.image import Image
from kilotune.link import frames, messages
from kilotune.link.messages import HEADER, Kind
from kilotune.link.status import statuses

from tests.support.firmware_session import start


class RawLine:
    """Single frames to the session, as no client would send them."""

    def __init__(self, image: Image) -> None:
        self.session = start(image)
        self.answer(Kind.hello, 0)

    def send(self, kind: int, sequence: int, payload: bytes = b"", session: int = 9, version: int = 1) -> list[bytes]:
        body = HEADER.pack(version, kind, session, sequence & 0xFFFF) + payload
        return frames.FrameDecoder().feed(self.session.exchange(frames.encode(body)))

    def answer(self, kind: int, sequence: int, payload: bytes = b"") -> bytes:
        [body] = self.send(kind, sequence, payload)
        assert HEADER.unpack_from(body) == (1, kind | 0x80, 9, sequence & 0xFFFF)
        return body[HEADER.size :]

    def error(self, kind: int, sequence: int, payload: bytes = b"", **header: int) -> tuple[str, int]:
        [body] = self.send(kind, sequence, payload, **header)
        assert HEADER.unpack_from(body)[1] == 0xFF
        error = messages.decode(messages.ErrorAnswer, body[HEADER.size :])
        assert error.kind == kind
        return statuses()[error.status].name, error.detail


def test_a_repeated_request_is_answered_again_and_not_carried_out_again(image: Image) -> None:
    line = RawLine(image)
    train = messages.encode(0x8000, -20, 0, 0, 0, 1, 1)
    line.answer(Kind.train_begin, 1, train)
    step = messages.encode(0, 0, bytes(24), b"")
    first = line.send(Kind.train_step, 2, step)
    assert line.send(Kind.train_step, 2, step) == first
    assert line.send(Kind.train_begin, 1, train) == []  # older: dropped
    again = messages.decode(messages.StepsDone, line.answer(Kind.train_step, 3, step))
    assert again.steps == 1  # step 0 is done, though asked for under a new number
    assert line.error(Kind.train_step, 4, messages.encode(5, 0, b"", b"")) == ("out_of_order", 1)
    status = messages.decode(messages.DeviceStatus, line.answer(Kind.status, 5))
    assert (status.counters.train_steps, status.link.repeated, status.link.dropped) == (1, 1, 1)


def test_sequence_numbers_wrap_around(image: Image) -> None:
    line = RawLine(image)
    line.send(Kind.hello, 0xFFFE, session=10)
    for sequence in (0xFFFF, 0x10000, 0x10001):
        [body] = line.send(Kind.status, sequence, session=10)
        assert HEADER.unpack_from(body)[3] == sequence & 0xFFFF
    assert line.send(Kind.status, 0xFFFF, session=10) == []


def test_requests_without_a_session_or_of_another_version_are_refused(image: Image) -> None:
    line = RawLine(image)
    assert line.error(Kind.commit, 1, session=8) == ("no_session", 9)
    assert line.error(Kind.hello, 1, session=0) == ("no_session", 9)
    assert line.error(Kind.commit, 1, version=2) == ("bad_version", 1)
    assert line.send(Kind.commit | 0x80, 1) == []
    status = messages.decode(messages.DeviceStatus, line.answer(Kind.status, 1))
    assert status.checkpoint.sequence == 0


def test_a_refusal_does_not_replace_the_stored_answer(image: Image) -> None:
    line = RawLine(image)
    first = line.send(Kind.commit, 1)
    line.error(Kind.commit, 7, session=8)
    assert line.send(Kind.commit, 1) == first
    status = messages.decode(messages.DeviceStatus, line.answer(Kind.status, 2))
    assert status.checkpoint.sequence == 1


def test_samples_of_a_stream_that_ended_or_out_of_order_are_not_taken(image: Image) -> None:
    line = RawLine(image)
    begin = messages.encode(5, 0, 1_600_000, 3, 0)
    assert messages.decode(messages.StreamBegun, line.answer(Kind.stream_begin, 1, begin)).frame_bytes == 6
    data = bytes(60)
    taken = messages.decode(messages.SamplesTaken, line.answer(Kind.samples, 2, messages.encode(5, 0, 0, data)))
    assert taken.next == 60
    for offset in (0, 59, 120):
        request = messages.encode(5, offset, 0, data)
        taken = messages.decode(messages.SamplesTaken, line.answer(Kind.samples, 100 + offset, request))
        assert taken.next == 60
    assert line.error(Kind.samples, 300, messages.encode(4, 60, 0, data)) == ("stale_stream", 5)
    assert line.error(Kind.samples, 301, messages.encode(5, 60, 0, bytes(61))) == ("bad_argument", 0)
    line.answer(Kind.stream_end, 302, messages.encode(5))
    assert line.error(Kind.samples, 303, messages.encode(5, 60, 0, data)) == ("stale_stream", 0)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.status, b"\x80"),
        (Kind.pull, b""),
        (Kind.pull, messages.encode(0)),
        (Kind.pull, messages.encode(0, 10, 1)),
        (Kind.pull, messages.encode(0, 10) + b"\0"),
        (Kind.pull, messages.encode(0, 0x10000)),
        (Kind.pull, messages.encode(-1, 10)),
        (Kind.pull, messages.encode(0, b"10")),
        (Kind.pull, b"\x9f\x00\x0a"),
        (Kind.infer, b"\x81\x5a\xff\xff\xff\xff"),
        (Kind.infer, b"\x81" * 300),
        (55, b""),
        (0, b""),
    ],
)
def test_malformed_messages_are_refused(image: Image, kind: int, payload: bytes) -> None:
    assert RawLine(image).error(kind, 1, payload) == ("bad_message", 0)


@settings(max_examples=400, deadline=None)
@given(
    kind=st.sampled_from([k for k in Kind if k != Kind.reset]),
    items=st.lists(
        st.one_of(st.integers(0, 3), st.integers(0, 0xFFFFFFFF), st.integers(-40, -1), st.binary(max_size=40)),
        max_size=18,
    ),
    cut=st.integers(0, 60),
)
def test_any_message_is_answered_and_the_session_lives_on(image: Image, kind: Kind, items: list[Any], cut: int) -> None:
    line = RawLine(image)
    payload = messages.encode(*items)
    assert len(line.send(kind, 1, payload[: len(payload) - cut] if cut < 20 else payload)) == 1
    [body] = line.send(Kind.status, 2)
    messages.decode(messages.DeviceStatus, body[HEADER.size :])


@settings(max_examples=300, deadline=None)
@given(noise=st.binary(max_size=2000))
def test_noise_is_never_obeyed(image: Image, noise: bytes) -> None:
    line = RawLine(image)
    before = line.answer(Kind.pull, 1, messages.encode(0, 400))
    line.session.exchange(noise + b"\0")
    assert line.answer(Kind.pull, 2, messages.encode(0, 400)) == before
