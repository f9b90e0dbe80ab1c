"""The client on a line that loses, repeats, damages and delays: everything happens, once, in order."""

from __future__ import annotations

import hashlib
import random
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.link import frames
from kilotune.link.client import Client
from kilotune.link.messages import HEADER, Kind, WindowResult

from tests.support.faulty_line import Clock, Faults, FaultyLine
from tests.support.model_device import AXES, HOP, IMAGE_HASH, INPUTS, WINDOW, ModelDevice

FAULTS = {
    "clean": Faults(),
    "drops": Faults(drop=0.2),
    "repeats": Faults(repeat=0.4),
    "flips": Faults(flip=0.15),
    "cuts": Faults(cut=0.15),
    "delays": Faults(delay=0.3),
    "noise": Faults(noise=0.2),
    "everything": Faults(drop=0.08, repeat=0.15, flip=0.05, cut=0.05, delay=0.15, noise=0.05),
}
SEEDS = range(4)


@pytest.fixture(params=[(name, seed) for name in FAULTS for seed in SEEDS], ids=lambda p: f"{p[0]}-{p[1]}")
def line(request: pytest.FixtureRequest) -> tuple[ModelDevice, FaultyLine, Clock, int]:
    name, seed = request.param
    clock, model = Clock(), ModelDevice()
    return model, FaultyLine(model.exchange, clock, FAULTS[name], seed), clock, seed


Connect = Callable[[Any, Clock, int], Device]
Line = tuple[ModelDevice, FaultyLine, Clock, int]


def test_a_stream_arrives_whole_and_every_result_comes_back(line: Line, connect: Connect) -> None:
    model, faulty, clock, seed = line
    samples = np.random.default_rng(seed).integers(-30000, 30000, (1500, AXES)).astype(np.int16)
    scores = connect(faulty, clock, seed).score(samples)
    assert model.log == ["stream 0", f"end {hashlib.sha256(samples.astype('<i2').tobytes()).hexdigest()}"]
    assert scores.lost == 0
    assert scores.results == tuple(WindowResult(i, *model.score(i)) for i in range(len(scores)))
    assert len(scores) == (1500 - WINDOW) // HOP + 1


def test_faults_were_really_there() -> None:
    clock, model = Clock(), ModelDevice()
    faulty = FaultyLine(model.exchange, clock, FAULTS["everything"], 1)
    client = Client(faulty, clock=clock, rng=random.Random(1))
    client.open()
    for _ in range(100):
        client.request(Kind.status)
    assert faulty.injected > 20
    assert client.repeats > 5
    assert client.frame_counters.bad > 0


def test_learning_runs_once(line: Line, connect: Connect) -> None:
    model, faulty, clock, seed = line
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(n, AXES)).astype(np.float32) for n in (300, WINDOW, 200)]
    connect(faulty, clock, seed).learn(parts, labels=[2, 0, 1], passes=7)
    steps = [entry for entry in model.log if not entry.startswith("end")]
    assert steps == ["learn_begin", "stream 2", "stream 0", "stream 1", "learn_end"]
    counts = [np.rint(p.astype(np.float64) * 2048).astype("<i2").tobytes() for p in parts]
    ends = [entry for entry in model.log if entry.startswith("end")]
    assert ends == [f"end {hashlib.sha256(c).hexdigest()}" for c in counts]


def test_each_training_step_is_done_once_and_in_order(line: Line, connect: Connect) -> None:
    model, faulty, clock, seed = line
    rows = np.random.default_rng(seed).integers(-128, 128, (3, INPUTS)).astype(np.int8)
    connect(faulty, clock, seed).train(rows, steps=20, lr=0.1)
    expected = [f"step {i} {zlib.crc32(rows[i % 3].tobytes())}" for i in range(20)]
    assert model.log == ["train_begin", *expected]


def test_infer_gives_the_output_of_its_own_input(line: Line, connect: Connect) -> None:
    model, faulty, clock, seed = line
    rows = np.random.default_rng(seed).integers(-128, 128, (6, INPUTS)).astype(np.int8)
    outputs = connect(faulty, clock, seed).infer(rows)
    assert np.array_equal(outputs, (rows.view(np.uint8) + np.uint8(1)).view(np.int8))
    assert model.log == ["infer"] * 6


def test_pull_gives_the_adapter_and_reset_comes_back(line: Line, connect: Connect) -> None:
    model, faulty, clock, seed = line
    model.adapter = random.Random(seed).randbytes(3000)
    device = connect(faulty, clock, seed)
    assert device.pull_bytes() == model.adapter
    device.commit()
    device.reset()
    assert model.log == ["commit", "reset"]
    assert device.pull_bytes() == model.adapter


def test_push_arrives_whole(line: Line, connect: Connect) -> None:
    model, faulty, clock, seed = line
    blob = random.Random(seed).randbytes(3000)
    device = connect(faulty, clock, seed)
    device.push(fake_adapter(blob))
    assert model.adapter == blob
    assert model.log == ["push_begin", "push_end"]


def fake_adapter(blob: bytes) -> Any:
    config = SimpleNamespace(image_hash=IMAGE_HASH.hex(), windows_seen=0, steps=0)
    return SimpleNamespace(config=config, blob=blob)


def test_push_goes_on_where_another_connection_was_cut_off(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice()
    blob = random.Random(0).randbytes(3000)
    writes = 0

    def unplug_in_the_middle(data: bytes) -> bytes:
        nonlocal writes
        writes += bool(data)
        if writes > 6:
            raise KilotuneError("device_lost", "cut off")
        return model.exchange(data)

    with pytest.raises(KilotuneError, match="cut off"):
        connect(FaultyLine(unplug_in_the_middle, clock, Faults(), 0), clock, 0).push(fake_adapter(blob))
    staged = len(model._push_data())
    assert 0 < staged < 3000
    pieces: list[int] = []
    device = connect(FaultyLine(model.exchange, clock, Faults(), 0), clock, 1)
    device.push(fake_adapter(blob), progress=lambda p: pieces.append(p.done))
    assert pieces[0] > staged
    assert model.adapter == blob
    assert model.log == ["push_begin", "push_end"]


def test_pull_begins_again_where_the_adapter_changes_on_the_way(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice()
    changed = random.Random(3).randbytes(3000)

    def change_in_the_middle(data: bytes) -> bytes:
        answers = model.exchange(data)
        if model.adapter != changed and len(seen) == 3:
            model._change(changed)
        return answers

    seen: list[int] = []
    device = connect(FaultyLine(change_in_the_middle, clock, Faults(), 0), clock, 0)
    assert device.pull_bytes(progress=lambda p: seen.append(p.done)) == changed
    assert seen.count(464) == 2


def test_an_answer_of_an_earlier_session_is_never_taken(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice(adapter=b"\7" * 3000)

    def stale_first(data: bytes) -> bytes:
        """Before each answer, one of another session with the same kind and number, and other contents."""
        answers = model.exchange(data)
        stale = b""
        for body in frames.FrameDecoder().feed(answers):
            version, kind, session, sequence = HEADER.unpack_from(body)
            payload = body[HEADER.size :].replace(b"\7" * 100, b"\x08" * 100)
            stale += frames.encode(HEADER.pack(version, kind, session ^ 1, sequence) + payload)
        return stale + answers

    assert connect(FaultyLine(stale_first, clock, Faults(), 0), clock, 6).pull_bytes() == b"\7" * 3000


def test_a_device_that_restarted_by_itself_is_noticed(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice()
    device = connect(FaultyLine(model.exchange, clock, Faults(), 0), clock, 0)
    stream = device.open_stream()
    stream.push(bytes(6 * 200))
    model._boot()
    with pytest.raises(KilotuneError) as caught:
        stream.push(bytes(6 * 2000))
    assert caught.value.code == "no_session"


def test_a_silent_device_ends_in_a_timeout_within_bounds(connect: Connect) -> None:
    clock = Clock()
    with pytest.raises(KilotuneError) as caught:
        connect(FaultyLine(lambda data: b"", clock, Faults(), 0), clock, 0)
    assert caught.value.code == "timeout"
    assert 60 <= clock.now_s < 66


def test_a_device_that_dies_in_a_stream_ends_in_a_timeout_within_bounds(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice()
    alive = True
    device = connect(FaultyLine(lambda d: model.exchange(d) if alive else b"", clock, Faults(), 0), clock, 0)
    stream = device.open_stream()
    stream.push(bytes(6000))
    alive, began = False, clock.now_s
    with pytest.raises(KilotuneError) as caught:
        stream.push(bytes(60000))
    assert caught.value.code == "timeout"
    assert clock.now_s - began < 70


def test_wrong_rate_axes_and_nan_are_refused_before_anything_is_sent(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice()
    device = connect(FaultyLine(model.exchange, clock, Faults(), 0), clock, 0)
    good = np.zeros((50, AXES), np.float32)
    bad = good.copy()
    bad[7, 1] = np.nan
    cases: list[tuple[Any, float | None, str]] = [
        (good, 1000.0, "wrong_rate"),
        (good[:, :2], 1600.0, "wrong_axes"),
        (bad, None, "not_finite"),
        (good.astype(np.int32), None, "bad_samples"),
    ]
    for samples, rate_hz, code in cases:
        with pytest.raises(KilotuneError) as caught:
            device.learn(samples, rate_hz=rate_hz)
        assert caught.value.code == code
    assert model.log == []


def test_too_few_windows_leaves_the_learn_phase(connect: Connect) -> None:
    clock, model = Clock(), ModelDevice()
    device = connect(FaultyLine(model.exchange, clock, Faults(), 0), clock, 0)
    with pytest.raises(KilotuneError) as caught:
        device.learn(np.zeros((WINDOW, AXES), np.int16), labels=0)
    assert caught.value.code == "too_few_windows"
    assert model.log[-1] == "learn_cancel"
