"""A life at its limits: foreign adapters, streams without end, phases that cannot begin, records that are cut short."""

from __future__ import annotations

from collections.abc import Callable

import kilotune
import numpy as np
import pytest
from kilotune.adapters.adapter import Adapter
from kilotune.device.device import Device
from kilotune.device.learning import LearnOptions
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import LifeSettings
from kilotune.image.calibration_block import calibration_arrays
from kilotune.link.messages import Kind
from kilotune.terms import Phase

from tests.support.learning_twin import CONFIG, FEATURES, PROFILE, TFLITE, calibration_of, machine, twin

FIRST, WINDOWS, RESERVOIR, WAITING = 10, 4, 32, 8
IMAGE = kilotune.compile(
    TFLITE, method="bias+head", features=CONFIG, profile=PROFILE, reservoir=RESERVOIR,
    life=LifeSettings(first=FIRST, record=WINDOWS),
)  # fmt: skip


def wait(device: Device) -> None:
    while device.status().phase is Phase.train:
        pass


def record(t: int, windows: int = WINDOWS) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return machine(windows, 1000 + t)


def born(until: int = FIRST, **options: int) -> Device:
    device = twin(IMAGE, bytearray(b"\xff" * (1 << 17)))
    device.learn([record(t) for t in range(FIRST)], lives=True, passes=0, ready_features=True, seed=1, **options)  # type: ignore[arg-type]
    device.commit()
    for t in range(FIRST, until):
        wait(device)
        device.score(record(t), ready_features=True)
    wait(device)
    return device


def stream(device: Device, windows: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> None:
    begun = device.open_stream(ready_features=True)
    begun.push(windows.astype("<i2").tobytes())
    begun.drain()
    begun.finish()


def forged(device: Device, change: Callable[[bytearray], None]) -> Adapter:
    content = bytearray(device.pull_bytes())
    change(content)
    status = device.status()
    return Adapter.from_blob(
        IMAGE, bytes(content), windows_seen=status.windows_learned, steps=status.steps_trained, device="", firmware=""
    )


def no_anchor_scale(content: bytearray) -> None:
    place = calibration_arrays(FEATURES, FEATURES, RESERVOIR, 0, True)["anchor_scale"]
    content[place.offset : place.offset + 2 * FEATURES] = bytes(2 * FEATURES)


def too_old(content: bytearray) -> None:
    place = calibration_arrays(FEATURES, FEATURES, RESERVOIR, 0, True)["life"]
    content[place.offset : place.offset + 4] = (0xA0000001).to_bytes(4, "little")


@pytest.mark.parametrize("change", [no_anchor_scale, too_old])
def test_an_adapter_that_no_device_leaves_is_refused(change: Callable[[bytearray], None]) -> None:
    device = born(30)
    assert device.life().anchored
    with pytest.raises(KilotuneError):
        device.push(forged(device, change))
    device.score(record(40), ready_features=True)


def test_a_stream_without_end_leaves_half_of_the_stored_windows_to_compare_with() -> None:
    device = born(22)
    begun = device.open_stream(ready_features=True)
    for k in range(4):
        begun.push(np.ascontiguousarray(machine(WINDOWS * 200, 5000 + k).astype("<i2")).tobytes())
        begun.drain()
    c = calibration_of(device)
    assert (c.labels >= WAITING).any()
    assert 2 * (c.labels[: c.learned] < WAITING).sum() >= c.learned
    assert 2 * (c.labels[c.learned :] < WAITING).sum() >= c.held


def test_a_phase_that_cannot_begin_is_none() -> None:
    device = twin(IMAGE, bytearray(b"\xff" * (1 << 17)))
    device.client.tell(Kind.learn_begin, LearnOptions(lives=True, passes=0, seed=1).learn_config(classifies=False))
    stream(device, record(0))
    for _ in range(3):
        with pytest.raises(KilotuneError) as info:
            device.client.tell(Kind.learn_end)
        assert info.value.code == "too_few_windows"
    for t in range(1, FIRST):
        stream(device, record(t))
    device.client.tell(Kind.learn_end)
    wait(device)
    assert device.life().phases == 1
    assert device.status().checkpoint.sequence == 0  # the first phase is for whoever began it to keep


def test_a_life_without_held_back_windows_keeps_what_it_has_until_there_are_some() -> None:
    device = twin(IMAGE, bytearray(b"\xff" * (1 << 17)))
    device.learn([record(0)], lives=True, passes=4, lr=0.01, ready_features=True, seed=1, hold_count=0)
    before = device.score(record(50), ready_features=True).values
    phases = device.life().phases
    for t in (1, 2):
        device.score(record(t), ready_features=True)
        wait(device)
    if device.life().phases == phases:
        np.testing.assert_array_equal(device.score(record(50), ready_features=True).values, before)


def test_what_waits_is_not_taken_over_by_a_phase_that_resumes() -> None:
    device = born(60)
    for t in range(60, 66):
        device.score(record(t), ready_features=True)
    wait(device)
    c = calibration_of(device)
    waiting = c.windows[c.labels >= WAITING]
    assert len(waiting)
    device.commit()
    device.learn(machine(16, 3), resume=True, guard="none", passes=0, ready_features=True)
    kept = calibration_of(device).windows
    assert not any((x == y).all() for x in waiting for y in kept)


def test_a_record_that_ends_with_its_stream_is_pulled_with_the_right_checksum() -> None:
    device = born(12)
    begun = device.open_stream(ready_features=True)
    begun.push(record(12, 2).astype("<i2").tobytes())
    begun.drain()
    device.pull_bytes()
    begun.finish()
    device.pull_bytes()


def test_half_a_record_is_ended_by_a_commit() -> None:
    device = born(12)
    begun = device.open_stream(ready_features=True)
    begun.push(record(12, 2).astype("<i2").tobytes())
    begun.drain()
    age = device.life().age
    device.commit()
    assert device.life().age == age + 1


def test_an_alarm_that_nobody_answers_outlives_the_phases_after_it() -> None:
    """What the alarm is about is not measured as drift, which would raise the threshold above it."""
    device = born(40)
    for t in range(40, 48):
        wait(device)
        device.score(machine(WINDOWS, 1000 + t, 12.0), ready_features=True)
    since = device.life().alarm
    assert since
    phases = device.life().phases
    t = 48
    while device.life().phases < phases + 2:
        wait(device)
        device.score(machine(WINDOWS, 1000 + t, 12.0), ready_features=True)
        t += 1
    wait(device)
    assert device.life().alarm == since
