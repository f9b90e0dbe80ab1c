"""Windows that the device has stored are not learned a second time; on the firmware's code."""

from __future__ import annotations

import kilotune
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.link.messages import LEARNED, STUCK, Reason
from test_guardrails import CALIBRATION_ONLY, arrays, calibration_of, image, learned, refused
from test_learning import SETTINGS, machine, twin

import models

STORED = 32  # windows that the reservoir holds


def all_stored(model: kilotune.Image) -> Device:
    """A device that has learned exactly the windows that its reservoir holds: those of machine(32, 1)."""
    device = twin(model, bytearray(b"\xff" * 65536))
    device.learn(machine(STORED, 1), **CALIBRATION_ONLY)
    device.commit()
    return device


def known(device: Device, model: kilotune.Image, x: np.ndarray) -> np.ndarray:
    """Which windows lie in the reservoir or among the early windows, up to rounding."""
    scale, zero = model.input_quantisation
    inputs = calibration_of(device).inputs(x, input_scale=scale, zero_point=zero).astype(int)
    stored = np.concatenate([arrays(device)[f"calibration.{name}"] for name in ("reservoir", "early")])
    return np.array([np.abs(stored - row).max(1).min() <= 3 for row in inputs])


def test_windows_learned_before_are_refused_counted_and_change_nothing() -> None:
    device = all_stored(image())
    before = device.pull().blob
    for phase in range(1, 4):
        assert (refused(device, machine(STORED, 1), **{**SETTINGS, "seed": phase}) == STUCK).all()
        status = device.status()
        assert status.counters.stuck == phase * STORED
        assert (status.guard.reasons, status.guard.returned) == (Reason.unlike, 1)
        assert device.pull().blob == before


@pytest.mark.parametrize("early", [0, 8])
def test_learning_the_same_windows_again_and_again_raises_no_false_alarms(early: int) -> None:
    """Held back, they would lie at distance 0 of what was learned: the threshold would close in on them."""
    device = learned(image(early))
    healthy = machine(400, 2)
    alarms = int(device.score(healthy, ready_features=True).anomalous.sum())
    threshold = device.status().report.threshold
    for phase in range(1, 4):
        device.learn(machine(64, 1), resume=True, seed=phase, **CALIBRATION_ONLY)
        device.commit()
    assert device.status().report.threshold >= threshold - 50
    assert int(device.score(healthy, ready_features=True).anomalous.sum()) <= alarms + 4


def test_of_a_longer_stream_what_is_stored_is_refused_and_the_rest_is_not_trusted() -> None:
    """Windows that were learned from and not kept cannot be recognised; a third of the phase gives them away."""
    model = image()
    device = learned(model)
    expected = known(device, model, machine(64, 1))
    assert STORED <= expected.sum() <= STORED + 8
    before = device.pull().blob
    bits = refused(device, machine(64, 1))
    np.testing.assert_array_equal((bits & STUCK) != 0, expected)
    assert device.status().guard.reasons & Reason.unlike
    assert device.pull().blob == before


def test_early_windows_stay_out_of_training_though_the_reservoir_has_lost_them() -> None:
    model = image()
    device = learned(model)
    for seed in range(20, 30):  # until later windows have taken the places that they may take
        refused(device, machine(64, seed), guard="none")
        device.commit()
    first = machine(64, 1)
    scale, zero = model.input_quantisation
    inputs = calibration_of(device).inputs(first, input_scale=scale, zero_point=zero).astype(int)
    early = arrays(device)["calibration.early"]
    is_early = np.array([np.abs(early - row).max(1).min() <= 3 for row in inputs])
    assert is_early.sum() == len(early)
    assert (refused(device, first)[is_early] & STUCK).all()


def test_a_few_known_windows_among_fresh_ones_are_left_out() -> None:
    device = all_stored(image())
    mixed = np.concatenate([machine(30, 21), machine(STORED, 1)[:3], machine(27, 22)])
    before = device.status().counters.stuck
    bits = refused(device, mixed)
    assert (bits[30:33] == STUCK).all()
    status = device.status()
    assert status.counters.stuck - before == 3
    assert status.guard.returned == 0


def test_fresh_windows_of_the_machine_are_never_taken_for_stored_ones() -> None:
    device = learned(image())
    for seed in range(40, 50):
        assert not (refused(device, machine(100, seed)) & STUCK).any()
        device.commit()


def test_who_vouches_for_every_window_may_repeat_them() -> None:
    device = all_stored(image())
    assert not refused(device, machine(STORED, 1), guard="none").any()


def test_a_classifier_may_be_shown_its_examples_again() -> None:
    """It has no threshold that would close in."""
    from kilotune.image.base_profile import Profile
    from test_learning import CONFIG

    model = kilotune.compile(
        models.chain(32, 16, 4, softmax=True), method="bias", features=CONFIG, reservoir=16,
        profile=Profile(np.zeros(32), np.ones(32)),
    )  # fmt: skip
    device = twin(model, bytearray(b"\xff" * 65536))
    settings = {"passes": 2, "lr": 0.01, "hold_period": 1, "hold_count": 0, "ready_features": True}
    device.learn(machine(16, 1), 1, **settings)
    device.commit()
    flags: list[int] = []
    device.learn(machine(16, 1), 1, resume=True, on_result=lambda r: flags.append(r.flags), **settings)
    assert all(f & LEARNED for f in flags)
