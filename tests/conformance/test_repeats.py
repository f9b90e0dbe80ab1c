"""Windows that the device has stored are not learned a second time; on the firmware's code."""

from __future__ import annotations

from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune.device.device import Device
from kilotune.device.wording import guard_in_words
from kilotune.image.base_profile import Profile
from kilotune.link.messages import Reason
from kilotune.terms import Refusal, WindowFlag

from tests.conformance.test_guardrails import CALIBRATION_ONLY, arrays, image, learned, refused
from tests.support import rig, small_models
from tests.support.learning_twin import CONFIG, SETTINGS, calibration_of, machine, twin

KNOWN = Refusal.known
STORED = 32  # windows that the reservoir holds


def all_stored(model: kilotune.Image) -> Device:
    """A device that has learned exactly the windows that its reservoir holds: those of machine(32, 1)."""
    device = twin(model, bytearray(b"\xff" * 65536))
    device.learn(machine(STORED, 1), **CALIBRATION_ONLY)
    device.commit()
    return device


def known(device: Device, model: kilotune.Image, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Which windows lie in the reservoir or among the early windows, up to rounding."""
    scale, zero = model.input_quantisation
    inputs = calibration_of(device).inputs(x, input_scale=scale, zero_point=zero).astype(int)
    stored = np.concatenate([arrays(device)[f"calibration.{name}"] for name in ("reservoir", "early")])
    return np.array([np.abs(stored - row).max(1).min() <= 3 for row in inputs])


def test_windows_learned_before_are_refused_counted_and_change_nothing() -> None:
    device = all_stored(image())
    before = device.pull().blob
    for phase in range(1, 4):
        assert (refused(device, machine(STORED, 1), **{**SETTINGS, "seed": phase}) == KNOWN).all()
        status = device.status()
        assert status.known == phase * STORED
        assert (status.guard.reasons, status.guard.returned) == (Reason.unlike, 1)
        assert "known" in guard_in_words(status.guard)
        assert device.pull().blob == before


@pytest.mark.parametrize("early", [0, 8])
def test_learning_the_same_windows_again_and_again_raises_no_false_alarms(early: int) -> None:
    """Held back, they would lie at distance 0 of what was learned: the threshold would close in on them."""
    device = learned(image(early))
    healthy = machine(400, 2)
    alarms = int(device.score(healthy, ready_features=True).anomalous.sum())
    for phase in range(1, 4):
        device.learn(machine(64, 1), resume=True, seed=phase, **CALIBRATION_ONLY)
        device.commit()
    assert int(device.score(healthy, ready_features=True).anomalous.sum()) <= alarms + 4


def test_of_a_longer_stream_what_is_stored_is_refused_and_the_rest_is_not_trusted() -> None:
    """Windows that were learned from and not kept cannot be recognised; a third of the phase gives them away."""
    model = image()
    device = learned(model)
    expected = known(device, model, machine(64, 1))
    assert STORED <= expected.sum() <= STORED + 8
    before = device.pull().blob
    bits = refused(device, machine(64, 1))
    found = (bits & KNOWN) != 0
    assert not (found & ~expected).any()
    assert found.sum() >= 0.9 * expected.sum()  # windows of the phase itself have replaced a few
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
    assert (refused(device, first)[is_early] & KNOWN).all()


def test_a_few_known_windows_among_fresh_ones_are_left_out() -> None:
    device = all_stored(image())
    mixed = np.concatenate([machine(STORED, 1)[:3], machine(57, 21)])
    before = device.status().known
    bits = refused(device, mixed)
    assert (bits[:3] == KNOWN).all()
    status = device.status()
    assert status.known - before == 3
    assert status.guard.returned == 0


def test_fresh_windows_of_the_machine_are_never_taken_for_stored_ones() -> None:
    device = learned(image())
    for seed in range(40, 50):
        assert ((refused(device, machine(100, seed)) & KNOWN) != 0).mean() <= 0.02
        device.commit()


def test_who_vouches_for_every_window_may_repeat_them() -> None:
    device = all_stored(image())
    assert not refused(device, machine(STORED, 1), guard="none").any()


def test_a_classifier_may_be_shown_its_examples_again() -> None:
    """It has no threshold that would close in."""
    model = kilotune.compile(
        small_models.chain(32, 16, 4, softmax=True), method="bias", features=CONFIG, reservoir=16,
        profile=Profile(np.zeros(32, np.float32), np.ones(32, np.float32)),
    )  # fmt: skip
    device = twin(model, bytearray(b"\xff" * 65536))
    settings: dict[str, Any] = {"passes": 2, "lr": 0.01, "hold_period": 1, "hold_count": 0, "ready_features": True}
    device.learn(machine(16, 1), 1, **settings)
    device.commit()
    flags: list[int] = []
    device.learn(machine(16, 1), 1, resume=True, on_result=lambda r: flags.append(r.flags), **settings)
    assert all(f & WindowFlag.learned for f in flags)


def rig_windows(skip: int, first: int, n: int) -> npt.NDArray[Any]:
    """`n` windows of each speed and load from the first-th on, of recordings cut `skip` samples later."""
    records = [rig.healthy(speed, load, skip) for speed in rig.SPEEDS for load in ("00lb", "11lb")]
    return np.concatenate([r[first : first + n] for r in records])


@pytest.mark.parametrize("early", [0, 8])
@pytest.mark.parametrize("skip", [0, 64, 128, 256])
def test_a_recording_learned_again_and_again_raises_no_false_alarms(skip: int, early: int) -> None:
    """Also where it is cut at another place, by less than a hop (512 samples)."""
    device = twin(rig.image(early=early, reservoir=32), bytearray(b"\xff" * (1 << 19)))
    device.learn(rig_windows(0, 0, 8), seed=1, ready_features=True)
    device.commit()
    fresh = rig_windows(0, 20, 16)
    alarms = device.score(fresh, ready_features=True).anomalous.mean()
    for phase in range(3):
        device.learn(rig_windows(skip, 0, 8), resume=True, seed=2 + phase, ready_features=True)
        device.commit()
    assert device.score(fresh, ready_features=True).anomalous.mean() <= alarms + 0.05
    assert skip > 128 or device.status().guard.reasons & Reason.unlike


def test_half_of_a_phase_known_is_reported_and_raises_no_false_alarms() -> None:
    device = twin(rig.image(early=0, reservoir=32), bytearray(b"\xff" * (1 << 19)))
    device.learn(rig_windows(0, 0, 8), seed=1, ready_features=True)
    device.commit()
    fresh = rig_windows(0, 20, 16)
    alarms = device.score(fresh, ready_features=True).anomalous.mean()
    device.learn(rig_windows(0, 4, 8), resume=True, seed=2, ready_features=True)
    status = device.status()
    assert status.known > 0
    assert status.guard.reasons & Reason.unlike
    assert "known" in guard_in_words(status.guard)
    assert device.score(fresh, ready_features=True).anomalous.mean() <= alarms + 0.05
