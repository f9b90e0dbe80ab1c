"""The firmware's own session on a faulty line: the same results and adapter as on a clean one."""

from __future__ import annotations

import random
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.errors import EXIT_REFUSED, KilotuneError
from kilotune.image.image import Image
from kilotune.link import messages
from kilotune.link.client import Client
from kilotune.link.messages import Kind
from kilotune.link.status import RefusedError
from kilotune.link.transport import InProcess
from kilotune.studies.streaming import model_rate_hz

from tests.support.faulty_line import Clock, Drawn, Faults, FaultyLine
from tests.support.firmware_session import native, start
from tests.support.small_models import chain

FAULTS = Faults(drop=0.08, repeat=0.15, flip=0.05, cut=0.05, delay=0.15, noise=0.05)
SEEDS = range(6)


@pytest.fixture
def clean(image: Image) -> Device:
    return Device(InProcess(start(image)), image=image)


@pytest.fixture(params=SEEDS)
def faulty(image: Image, request: pytest.FixtureRequest) -> Device:
    clock, seed = Clock(), request.param
    line = FaultyLine(start(image).exchange, clock, FAULTS, seed)
    return Device(line, image=image, timeout_s=60.0, clock=clock, rng=random.Random(seed))


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
