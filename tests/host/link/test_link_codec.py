"""Frames, CBOR, messages: what goes in comes out, damage is refused, the schema is the firmware's."""

from __future__ import annotations

import zlib

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.errors import KilotuneError
from kilotune.link import cbor, frames, messages
from kilotune.link.frames import FrameDecoder
from kilotune.link.messages import Kind
from kilotune.link.status import RefusedError, local_error, statuses

from tests.support.paths import ROOT

FIRMWARE = ROOT / "firmware"
BODIES = st.binary(min_size=1, max_size=1200)
ITEMS = st.one_of(st.integers(-(1 << 64), (1 << 64) - 1), st.binary(max_size=300), st.text(max_size=80))


@given(st.lists(BODIES, max_size=6), st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(bodies: list[bytes], data: st.DataObject) -> None:
    line = b"".join(frames.encode(body) for body in bodies)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(line)), max_size=8)))
    decoder, got = FrameDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(line)], strict=True):
        got += decoder.feed(line[start:end])
    assert got == bodies
    assert decoder.counters.bad == 0


@given(BODIES)
def test_a_frame_is_no_longer_than_promised(body: bytes) -> None:
    line = frames.encode(body)
    assert line.count(b"\0") == 1
    assert len(line) <= frames.encoded_bytes(len(body) + frames.CRC_BYTES)


def test_known_frames_have_the_bytes_of_the_specification() -> None:
    assert frames.encode(b"123456789") == b"\x0e123456789\x26\x39\xf4\xcb\0"
    assert frames.encode(bytes(4)) == b"\1\1\1\1\5\x1c\xdf\x44\x21\0"


@given(BODIES, st.data())
def test_a_flipped_bit_is_caught_and_the_next_frame_arrives(body: bytes, data: st.DataObject) -> None:
    line = bytearray(frames.encode(body))
    bit = data.draw(st.integers(0, 8 * len(line) - 1))
    line[bit // 8] ^= 1 << bit % 8
    decoder = FrameDecoder()
    got = decoder.feed(bytes(line) + frames.encode(b"first") + frames.encode(b"second"))
    assert got in ([b"first", b"second"], [b"second"])
    assert decoder.counters.bad >= 1


@given(st.lists(st.binary(max_size=5000), max_size=10))
def test_noise_delivers_nothing_and_is_not_kept(noise: list[bytes]) -> None:
    decoder = FrameDecoder(512)
    for piece in noise:
        assert decoder.feed(piece) == []
        assert len(decoder._pending) <= frames.encoded_bytes(512)
    assert decoder.feed(b"\0" + frames.encode(b"x"))[-1:] == [b"x"]


def test_a_frame_that_is_too_long_is_counted_and_dropped() -> None:
    decoder = FrameDecoder(100)
    assert decoder.feed(frames.encode(b"a" * 96)) == [b"a" * 96]
    assert decoder.feed(frames.encode(b"a" * 97)) == []
    assert decoder.feed(frames.encode(b"a" * 5000)) == []
    assert decoder.counters.too_long == 2


@given(st.lists(ITEMS, max_size=20), st.booleans())
def test_the_decoder_agrees_with_cbor2_on_every_message(items: list[cbor.Item], indefinite: bool) -> None:
    payload = cbor2.dumps(items)
    if indefinite:
        payload = b"\x9f" + b"".join(cbor2.dumps(item) for item in items) + b"\xff"
    big = any(isinstance(i, int) and not -(1 << 64) <= i < 1 << 64 for i in items)
    assert not big
    assert cbor.decode(payload) == items


@settings(max_examples=500)
@given(st.binary(max_size=80))
def test_any_bytes_are_a_message_or_refused(payload: bytes) -> None:
    code = ""
    try:
        items = cbor.decode(payload)
    except KilotuneError as error:
        code = error.code
    assert code == "bad_message" if code else cbor2.loads(payload) == items


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",  # no array
        b"\x81",  # cut off
        b"\x9f\x00",  # never ends
        b"\x81\x00\x00",  # something behind
        b"\x81" * 400 + b"\x00",  # nested
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x00",  # as many items as can be claimed
        b"\x81\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",  # a string of 2^63 bytes
        b"\x81\xc2\x41\x01",  # a tag
        b"\x81\xc5\x82\x1a\x7f\xff\xff\xff\x01",  # a number of 2^31 digits
        b"\x81\xf6",  # null
        b"\x81\xa0",  # a map
        b"\x81\x61\xff",  # text that is not UTF-8
        b"\x81\x5f\x41\x00\xff",  # a string in pieces
        b"\x81\x1c",  # reserved
    ],
)
def test_what_no_message_is_made_of_is_refused(payload: bytes) -> None:
    with pytest.raises(KilotuneError) as caught:
        cbor.decode(payload)
    assert caught.value.code == "bad_message"


def test_a_field_out_of_its_range_is_refused() -> None:
    good = ["0.1.0", "board", b"id", 512, 464, 2048, 16, 0, 3, 1, b"\1" * 8]
    assert messages.decode(messages.Hello, cbor2.dumps(good)).phase is messages.Phase.detect
    for at, bad in ((0, "v" * 25), (0, b"0"), (1, 7), (2, bytes(17)), (3, 0x10000), (4, 0), (5, -1), (6, 0),
                    (7, 256), (8, 4), (8, "detect"), (9, 3), (10, bytes(9))):  # fmt: skip
        with pytest.raises(KilotuneError) as caught:
            messages.decode(messages.Hello, cbor2.dumps([*good[:at], bad, *good[at + 1 :]]))
        assert caught.value.code == "bad_message"
    for fields in (good[:-1], [*good, 0]):
        with pytest.raises(KilotuneError):
            messages.decode(messages.Hello, cbor2.dumps(fields))


def test_results_of_a_broken_length_are_refused() -> None:
    packed = messages.RESULT.pack(-5, 1, 2, 3, 0)
    assert messages.unpack_results(7, packed) == [messages.WindowResult(7, -5, 1, 2, 3)]
    with pytest.raises(KilotuneError):
        messages.unpack_results(0, packed + b"\0")


def test_messages_have_the_bytes_of_the_specification() -> None:
    train = messages.TrainConfig(
        rate_mantissa=0x8000,
        rate_exponent=-20,
        decay_mantissa=0,
        decay_exponent=0,
        momentum_q15=1,
        accumulate=2,
        seed=3,
    )
    config = messages.LearnConfig(
        train_config=train,
        passes=4,
        patience=5,
        hold_period=6,
        hold_count=7,
        labelled=False,
        resume=True,
        scorer=messages.Scorer.combined,
        force=False,
        noise=8,
        gain=9,
        jitter=True,
        guard=messages.Guard.none,
        recalibrate=False,
        lives=True,
        apart=messages.Apart.leave_out,
    )
    fields = "198000 33 00 00 01 02 03 04 05 06 07 00 01 03 00 08 09 01 02 00 01 01"
    assert messages.encode_request(Kind.learn_begin, config) == bytes.fromhex("96" + fields.replace(" ", ""))
    pull = messages.PullRequest(offset=70000, length=300)
    assert messages.encode_request(Kind.pull, pull) == bytes.fromhex("821a0001117019012c")
    assert messages.encode_request(Kind.commit, None) == b""


def test_fields_of_another_kind_are_no_request() -> None:
    with pytest.raises(TypeError, match="the fields of pull are PullRequest, not PushRequest"):
        messages.encode_request(Kind.pull, messages.PushRequest(offset=0, data=b""))
    with pytest.raises(TypeError, match="the fields of commit are NoneType"):
        messages.encode_request(Kind.commit, messages.PullRequest(offset=0, length=1))


def test_the_layouts_of_header_and_results_have_the_sizes_of_the_schema() -> None:
    assert messages.HEADER.size == messages.WIRE_HEADER_BYTES
    assert messages.RESULT.size == messages.WIRE_RESULT_BYTES


def test_every_status_has_a_text_and_a_hint() -> None:
    lines = (FIRMWARE / "kernel" / "status.def").read_text().splitlines()
    assert len(statuses()) == sum(line.startswith("KILOTUNE_STATUS(") for line in lines)
    assert sorted(statuses()) == list(range(len(statuses())))
    for status in statuses().values():
        assert status.text
        assert status.hint or status.name == "ok"
    assert local_error("wrong_rate").code == "wrong_rate"
    assert RefusedError(200, 0, "dance").code == "unknown_status"


def test_a_message_of_every_size_fits_a_frame() -> None:
    longest = messages.encode(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, bytes(512 - 48))
    assert messages.HEADER.size + len(longest) + frames.CRC_BYTES <= 512
    assert zlib.crc32(b"123456789") == 0xCBF43926
