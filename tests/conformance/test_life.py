"""A device that goes on learning: what it decides is what a model in Python decides from its own scores."""

from __future__ import annotations

import hashlib

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune.adapters.calibration import Calibration
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import LifeSettings
from kilotune.terms import AlarmCause, Phase, Scorer

from tests.support.learning_twin import CONFIG, PROFILE, TFLITE, calibration_of, machine, twin

FIRST, WINDOWS, RESERVOIR = 10, 4, 32


def image(life: LifeSettings | None) -> kilotune.Image:
    return kilotune.compile(
        TFLITE, method="bias+head", features=CONFIG, profile=PROFILE, reservoir=RESERVOIR, life=life
    )


LIVING = image(LifeSettings(first=FIRST, record=WINDOWS))


def wait(device: Device) -> None:
    while device.status().phase is Phase.train:
        pass


def born(flash: bytearray, seed: int = 1, slice_ms: int = 50) -> Device:
    device = twin(LIVING, flash, slice_ms)
    device.learn(list(machine(FIRST * WINDOWS, 1).reshape(FIRST, WINDOWS, -1)), lives=True, passes=0,
                 ready_features=True, seed=seed)  # fmt: skip
    device.commit()
    return device


def blank() -> bytearray:
    return bytearray(b"\xff" * (1 << 17))


def record(t: int, shift: float = 0.0) -> npt.NDArray[np.int16]:
    return machine(WINDOWS, 1000 + t, shift)


def live(device: Device, ages: range, shift: float = 0.0) -> None:
    for t in ages:
        wait(device)
        device.score(record(t, shift), ready_features=True)
    wait(device)


def level_of(c: Calibration) -> int:
    levels = {Scorer.residual: c.residual_level_q10, Scorer.nearest: c.nearest_level_q10}
    return levels.get(c.scorer, 0) if c.scorer is not None else 0


def median(scores: npt.NDArray[np.float64]) -> int:
    middle = np.sort(scores)[1:3]
    return int(middle.sum() / 2)  # towards 0, as C++ divides


def test_phases_drifts_and_alarms_follow_from_the_scores() -> None:
    device = born(blank())
    due, settled = FIRST + 3, 0
    drifts: list[int] = []
    near: list[int] = []
    for t in range(FIRST, 60):
        wait(device)
        life, head = device.life(), calibration_of(device)
        assert (life.age, life.next_phase, life.settled) == (t, due, settled)
        known = [max(drifts[-3:])] if len(drifts) > 1 else [1024]
        assert life.allowance == known[0] * 3 // 2
        scores = np.rint(device.score(record(t), ready_features=True).values * 1024)
        near.append(median(scores - level_of(head)))
        assert (device.life().alarmed & 1) == (settled > 0 and near[-1] > head.threshold_q10 - level_of(head))
        if t + 1 == due:
            place = 6 * (len(near) - 1)
            ordered = [*sorted(near), max(near)]
            low, high = ordered[place // 10], ordered[place // 10 + 1]
            drifts.append(max(0, low + int((high - low) * (place % 10) / 10)))
            settled = settled or (due if due >= 2 * FIRST and drifts[-1] < 1024 else 0)
            due, near = due + max(2, (due + 2) // 4), []
    assert device.life().phases == 8
    assert device.life().anchored


def test_the_same_life_has_the_same_bits_however_long_a_request_may_take() -> None:
    blobs = set()
    for slice_ms in (0, 50):
        device = born(blank(), slice_ms=slice_ms)
        live(device, range(FIRST, 40))
        blobs.add(hashlib.sha256(device.pull_bytes()).hexdigest())
    assert len(blobs) == 1


def test_a_life_goes_on_after_a_restart_from_its_last_phase() -> None:
    flash = blank()
    device = born(flash)
    live(device, range(FIRST, 22))
    assert device.life().age == 22
    device.reset()
    life = device.life()
    assert (life.lives, life.age, life.settled, life.phases) == (1, 20, 20, 4)
    live(device, range(20, 26))
    assert device.life().phases == 5
    assert device.status().phase is Phase.detect


def test_a_machine_that_moves_is_followed_and_a_fault_is_alarmed() -> None:
    device = born(blank())

    def moved(t: int, shift: float = 0.0) -> npt.NDArray[np.int16]:
        return record(t, shift) + np.int16(10 * (t - FIRST))  # 10 units are a fifteenth of what factors leave

    for t in range(FIRST, 80):
        wait(device)
        device.score(moved(t), ready_features=True)
    wait(device)
    life = device.life()
    assert life.settled
    assert not life.alarm
    for t in range(80, 85):
        device.score(moved(t, shift=12.0), ready_features=True)
    assert device.life().alarm
    assert device.life().causes


def settled_device(flash: bytearray | None = None, until: int = 60) -> Device:
    device = born(flash if flash is not None else blank())
    live(device, range(FIRST, until))
    assert device.life().settled
    assert not device.life().alarm
    return device


def alarmed_device(flash: bytearray | None = None, shift: float = 8.0) -> Device:
    device = settled_device(flash)
    live(device, range(60, 65), shift)
    assert device.life().alarm
    return device


def test_an_alarm_tells_the_bands_that_are_more_than_what_was_learned() -> None:
    life = alarmed_device().life()
    told = {life.band_1, life.band_2, life.band_3}
    assert told < {6, 7, 8, 9}  # machine() shifts the features 5 to 8
    assert life.score > life.limit


def test_what_an_operator_calls_normal_is_learned_and_the_same_again_is_no_alarm() -> None:
    device = alarmed_device()
    assert device.acknowledge("normal").sequence
    life = device.life()
    assert (life.alarm, life.alarmed, life.normals, life.told) == (0, 0, 1, 65)
    assert life.accepting == life.next_phase == 65 + FIRST
    live(device, range(65, 120), shift=8.0)
    life = device.life()
    assert (life.alarm, life.accepting, life.anchored) == (0, 0, 1)
    live(device, range(120, 125), shift=25.0)
    assert device.life().alarm


def test_what_is_much_worse_than_what_was_called_normal_is_an_alarm_at_once() -> None:
    device = alarmed_device(shift=5.0)
    device.acknowledge("normal")
    live(device, range(65, 70), shift=20.0)
    life = device.life()
    assert life.age < life.accepting
    assert life.alarm


def test_only_an_alarm_can_be_normal() -> None:
    device = settled_device()
    before = device.pull_bytes()
    with pytest.raises(KilotuneError) as refused:
        device.acknowledge("normal")
    assert refused.value.code == "wrong_state"
    assert device.pull_bytes() == before


def test_what_was_a_fault_leaves_the_stored_windows() -> None:
    device = settled_device(until=62)
    live(device, range(62, 72), shift=1.0)
    assert not device.life().alarm
    waiting = calibration_of(device)
    assert (waiting.labels >= 8).any()
    device.acknowledge("fault")
    after = calibration_of(device)
    assert not (after.labels[: after.learned] >= 8).any()
    assert device.life().faults == 1
    live(device, range(72, 110))
    assert not device.life().alarm


@pytest.mark.parametrize("what", ["normal", "fault"])
def test_a_rollback_undoes_what_an_operator_said(what: str) -> None:
    flash = blank()
    device = alarmed_device(flash)
    device.commit()
    before = device.pull_bytes()
    device.acknowledge(what)
    device.reset()
    life = device.life()
    assert (life.normals, life.faults) == ((1, 0) if what == "normal" else (0, 1))
    device.rollback()
    assert device.pull_bytes() == before


def test_an_alarm_rule_counts_at_once_and_after_a_restart() -> None:
    flash = blank()
    device = settled_device(flash)
    device.set_alarm_rule(1, 1)
    device.reset()
    assert (device.life().rule_alarmed, device.life().rule_of) == (1, 1)
    live(device, range(60, 61), shift=8.0)
    assert device.life().alarm
    device.set_alarm_rule(2, 4)
    live(device, range(61, 62))
    assert not device.life().alarm


def test_without_a_life_there_is_nothing_to_say() -> None:
    device = twin(image(None))
    with pytest.raises(KilotuneError) as refused:
        device.acknowledge("fault")
    assert refused.value.code == "wrong_state"
    with pytest.raises(KilotuneError) as refused:
        device.set_alarm_rule(1, 1)
    assert refused.value.code == "wrong_state"


def test_what_is_not_settled_is_not_anomalous() -> None:
    device = born(blank())
    result = device.score(record(10, shift=6.0), ready_features=True)
    assert not result.anomalous.any()
    assert not device.life().settled


def test_an_image_that_learns_once_has_no_life() -> None:
    device = twin(image(None))
    assert not device.life().lives
    with pytest.raises(KilotuneError) as refused:
        device.learn(machine(40, 1), lives=True, passes=0, ready_features=True)
    assert refused.value.code == "bad_argument"


def test_a_living_image_may_learn_once() -> None:
    """With the same bits as an image that cannot do otherwise."""
    scores = []
    for model in (LIVING, image(None)):
        device = twin(model)
        device.learn(machine(64, 1), passes=5, lr=0.01, ready_features=True)
        scores.append(device.score(machine(64, 2), ready_features=True).values)
        assert not device.life().lives
    np.testing.assert_array_equal(scores[0], scores[1])


def first_anchor_alarm(limit: float, records: int = 90, end: float = 9.0) -> int | None:
    """Of a fault that grows by the same step with each record, once the device has settled."""
    model = image(LifeSettings(first=FIRST, record=WINDOWS, anchor=limit))
    device = twin(model, blank(), 50)
    device.learn(list(machine(FIRST * WINDOWS, 1).reshape(FIRST, WINDOWS, -1)), lives=True, passes=0,
                 ready_features=True, seed=1)  # fmt: skip
    live(device, range(FIRST, 30))
    assert device.life().anchored
    for k in range(records):
        live(device, range(30 + k, 31 + k), end * k / records)
        if device.life().causes & AlarmCause.anchor:
            return k
    return None


def test_a_slow_fault_is_alarmed_by_the_anchor_at_the_limit_of_the_image() -> None:
    near, far = first_anchor_alarm(1.0), first_anchor_alarm(3.0)
    assert near is not None
    assert far is not None
    assert 0 < near < far


@pytest.mark.parametrize("limit", [0.0, 15.5, float("nan")])
def test_limits_of_the_anchor_are_checked(limit: float) -> None:
    with pytest.raises(KilotuneError) as info:
        LifeSettings(anchor=limit)
    assert info.value.code == "bad_profile"
