"""The firmware's own session on a faulty line: the same results and adapter as on a clean one."""

from __future__ import annotations

import random
from typing import Any

import kilotune
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.device import device as device_module
from kilotune.device.device import Device
from kilotune.errors import EXIT_REFUSED, KilotuneError
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link import frames, messages
from kilotune.link.client import Client
from kilotune.link.messages import HEADER, Kind
from kilotune.link.status import RefusedError, statuses
from kilotune.link.transport import InProcess
from kilotune.studies.streaming import model_rate_hz

from tests.support.link_doubles import Clock, Drawn, Faults, FaultyLine
from tests.support.small_models import chain

native = pytest.importorskip("kilotune._native", reason="the compiled module is not installed")
if not hasattr(native, "Session"):
    pytest.skip("the compiled module has no Session", allow_module_level=True)

FAULTS = Faults(drop=0.08, repeat=0.15, flip=0.05, cut=0.05, delay=0.15, noise=0.05)
SEEDS = range(6)


@pytest.fixture(scope="module")
def image() -> Image:
    features = FeatureConfig(rate_hz=1600.0, window=64, hop=40, fft_points=64, axes=3, bands=8)
    return kilotune.compile(chain(24, 12, 24), method="bias+head", features=features)


def start(image: Image) -> Any:
    return native.Session(image.content, bytearray(b"\xff" * 4096 * 16), 4096)


@pytest.fixture
def clean(image: Image) -> Device:
    return Device(InProcess(start(image)), image=image)


@pytest.fixture(params=SEEDS)
def faulty(image: Image, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Device:
    clock, seed = Clock(), request.param
    line = FaultyLine(start(image).exchange, clock, FAULTS, seed)

    def client(transport: FaultyLine, timeout_s: float) -> Client:
        return Client(transport, timeout_s=timeout_s, clock=clock, rng=random.Random(seed))

    monkeypatch.setattr(device_module, "Client", client)
    device = Device(line, image=image, timeout_s=60.0)
    monkeypatch.undo()
    return device


def samples(seed: int, n: int = 3000) -> Any:
    return np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32) * 0.2


def test_learning_and_scoring_are_the_same_on_a_faulty_line(clean: Device, faulty: Device) -> None:
    reports = [d.learn([samples(1), samples(2, 500)], passes=3, seed=5) for d in (clean, faulty)]
    assert reports[0] == reports[1]
    assert reports[0].learned > 0
    assert clean.pull().sha256 == faulty.pull().sha256
    scores = [d.score(samples(3)) for d in (clean, faulty)]
    assert scores[0] == scores[1]
    assert scores[0].lost == 0
    assert faulty.status().link.bad_crc + faulty.status().link.bad_cobs > 0


def test_training_on_ready_inputs_is_the_same_on_a_faulty_line(clean: Device, faulty: Device) -> None:
    rows = np.random.default_rng(0).integers(-128, 128, (5, 24)).astype(np.int8)
    before = clean.pull().blob
    for device in (clean, faulty):
        device.train(rows, steps=30, lr=0.05, seed=3)
    assert clean.pull().blob == faulty.pull().blob != before
    assert np.array_equal(clean.infer(rows), faulty.infer(rows))


def test_commit_reset_push_and_rollback_on_a_faulty_line(clean: Device, faulty: Device) -> None:
    rows = np.random.default_rng(0).integers(-128, 128, (5, 24)).astype(np.int8)
    base = faulty.pull().blob
    faulty.commit()
    clean.train(rows, steps=10, lr=0.05)
    adapter = clean.pull()
    checkpoint = faulty.push(adapter)
    assert checkpoint.sequence == 2
    faulty.reset()
    assert faulty.pull().blob == adapter.blob != base
    faulty.rollback()
    assert faulty.pull().blob == base
    faulty.train(rows, steps=4, lr=0.05)
    faulty.restore()
    assert faulty.pull().blob == base


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


def test_results_that_were_evicted_are_counted_as_lost(image: Image, clean: Device) -> None:
    stream = clean.open_stream()
    stream._under_way = 1 << 30  # a host that does not mind
    client = clean.client
    model_receive = client.receive
    results = stream.push(bytes(6 * 64)) + stream.drain()
    assert [r.index for r in results] == [0]
    client.receive = lambda deadline: None  # type: ignore[method-assign]
    for _ in range(40):
        stream._unsent += bytes(6 * 40)
        stream._send_next()
    client.receive = model_receive  # type: ignore[method-assign]
    client._waiting.clear()
    client.transport.read(0)
    rest = stream.finish()
    assert stream.lost > 0
    assert stream.lost + 1 + len(rest) == 41


def test_a_device_without_a_model_tells_so_and_why(image: Image) -> None:
    content = bytearray(image.content)
    content[-1] ^= 1
    with Device(InProcess(native.Session(bytes(content), None, 4096))) as device:
        assert device.info().model == "bad_crc"
        assert device.status().phase is messages.Phase.idle
        for use in (
            lambda: device.score(samples(0)),
            lambda: device.infer(np.zeros((1, 24), np.int8)),
            lambda: model_rate_hz(device),  # as `kilotune stream` asks: not that the model takes no samples
            device.commit,
            device.mark_stable,
            device.rollback,
            device.raw,
        ):
            with pytest.raises(KilotuneError) as caught:
                use()
            assert caught.value.code == "bad_crc"
            assert caught.value.exit_code == EXIT_REFUSED
            assert "no valid model image on the device" in caught.value.message
            assert "flash-model" in caught.value.hint
        with pytest.raises(KilotuneError) as caught:
            device.client.tell(Kind.commit)
        assert caught.value.code == "bad_crc"


def test_another_image_than_the_one_on_the_device_is_refused(image: Image) -> None:
    other = kilotune.compile(chain(24, 12, 24, seed=1), method="bias+head", features=image.features)
    with pytest.raises(KilotuneError) as caught:
        Device(InProcess(start(image)), image=other)
    assert caught.value.code == "other_image"


def test_what_the_device_itself_refuses_of_a_stream(clean: Device) -> None:
    for rate_mhz, axes, name in ((1_617_000, 3, "wrong_rate"), (1_600_000, 2, "wrong_axes")):
        with pytest.raises(RefusedError) as caught:
            clean.client.request(Kind.stream_begin, messages.encode(1, 0, rate_mhz, axes, 0))
        assert caught.value.code == name


def test_an_adapter_of_another_image_is_refused_by_the_device_too(clean: Device) -> None:
    with pytest.raises(RefusedError) as caught:
        clean.client.request(Kind.push_begin, messages.encode(bytes(32), 1792, 0, 0, 0))
    assert caught.value.code == "wrong_base"


def test_an_interrupted_learn_phase_is_cancelled(clean: Device) -> None:
    before = clean.pull().blob

    def stop(result: messages.WindowResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clean.learn(samples(0), on_result=stop)
    assert clean.status().phase is messages.Phase.idle
    assert clean.pull().blob == before


def test_firmware_and_tools_have_one_version(clean: Device) -> None:
    assert clean.info().firmware == kilotune.__version__


def test_a_session_whose_number_the_device_has_open_already_gets_another(image: Image) -> None:
    clock = Clock()
    line = FaultyLine(start(image).exchange, clock, Faults(), 0)
    first = Client(line, timeout_s=6.0, clock=clock, rng=Drawn(7, 100))
    first.open()
    first.request(Kind.status)
    second = Client(line, timeout_s=6.0, clock=clock, rng=Drawn(7, 50, 8, 50))
    second.open()
    second.request(Kind.status)
    with pytest.raises(RefusedError, match="session"):
        first.request(Kind.status)
