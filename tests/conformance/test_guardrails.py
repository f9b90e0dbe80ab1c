"""Guardrails of later learning: what they refuse, undo and leave alone; on the firmware's code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune import _native
from kilotune.adapters.config import layout
from kilotune.device.device import Device
from kilotune.device.wording import guard_in_words
from kilotune.errors import KilotuneError
from kilotune.link.messages import EARLIER_RUN, GuardStatus, Reason
from kilotune.terms import Refusal
from kilotune.tflite import model as tflite_model

from tests.support.learning_twin import CONFIG, FEATURES, PROFILE, SETTINGS, TFLITE, calibration_of, machine, twin

EARLY = 8
DISTANCE = Reason.unlike | Reason.shifted  # what any change of the early windows brings as well
CALIBRATION_ONLY: dict[str, Any] = {"passes": 0, "ready_features": True}


def image(early: int = EARLY) -> kilotune.Image:
    return kilotune.compile(TFLITE, method="bias+head", features=CONFIG, profile=PROFILE, reservoir=32, early=early)


def learned(model: kilotune.Image, **options: Any) -> Device:
    """A device that has learned from 64 windows of the machine, and committed."""
    device = twin(model, bytearray(b"\xff" * 65536))
    device.learn(machine(64, 1), **{**CALIBRATION_ONLY, **options})
    device.commit()
    return device


def refused(device: Device, x: npt.NDArray[Any], **options: Any) -> npt.NDArray[Any]:
    """Refusal bits of windows learned from with resume."""
    bits: list[int] = []
    settings = {**CALIBRATION_ONLY, "resume": True, **options}
    device.learn(x, on_result=lambda r: bits.append(r.refused), **settings)
    return np.array(bits)


def arrays(device: Device) -> dict[str, npt.NDArray[Any]]:
    adapter = device.pull()
    return {
        name: np.frombuffer(adapter.blob, dtype, int(np.prod(shape)), at).reshape(shape)
        for name, (at, dtype, shape) in layout(adapter.config).items()
    }


def test_early_windows_change_nothing_about_a_first_phase() -> None:
    """The same reservoir, calibration, parameters, scores and threshold with and without them."""
    devices = [twin(image(early)) for early in (0, EARLY)]
    for device in devices:
        device.learn(machine(200, 2), **SETTINGS)
    without, having = (arrays(d) for d in devices)
    for name in without:
        if name != "calibration.head":
            np.testing.assert_array_equal(without[name], having[name], name)
    np.testing.assert_array_equal(without["calibration.head"][:22], having["calibration.head"][:22])
    scores = [d.score(machine(50, 3, shift=1.0), ready_features=True) for d in devices]
    np.testing.assert_array_equal(scores[0].values, scores[1].values)
    np.testing.assert_array_equal(scores[0].anomalous, scores[1].anomalous)


def test_early_windows_are_held_back_ones_of_the_first_phase_and_stay() -> None:
    model = image()
    device = learned(model)
    x = machine(64, 1)
    scale, zero = model.input_quantisation
    inputs = calibration_of(device).inputs(x, input_scale=scale, zero_point=zero).astype(int)
    early = arrays(device)["calibration.early"]
    held = np.arange(len(x)) % 8 >= 6
    for row in early:
        distance = np.abs(inputs - row).max(1)
        assert distance[held].min() <= 3, "an early window is none that was held back"
    refused(device, machine(100, 5))
    device.commit()
    np.testing.assert_array_equal(arrays(device)["calibration.early"], early)
    device.reset()
    np.testing.assert_array_equal(arrays(device)["calibration.early"], early)


def tampered(
    device: Device, change: Mapping[str, bytes | npt.NDArray[Any]], head: dict[int, bytes] | None = None
) -> None:
    """Pushes the device's own adapter with some arrays and bytes of the head changed."""
    adapter = device.pull()
    blob = bytearray(adapter.blob)
    places = layout(adapter.config)
    for name, values in change.items():
        content = bytes(values) if isinstance(values, bytes) else values.tobytes()
        at = places[name][0]
        blob[at : at + len(content)] = content
    for at, content in (head or {}).items():
        blob[at : at + len(content)] = content
    device.push(dataclasses.replace(adapter, blob=bytes(blob)))


def test_windows_far_from_the_first_healthy_ones_are_refused_though_the_score_lets_them_pass() -> None:
    """The score is deceived on purpose: a threshold under which nothing is anomalous."""
    device = learned(image())
    tampered(device, {}, {6: (32000).to_bytes(2, "little")})
    far = machine(40, 6, shift=6.0)
    assert not device.score(far, ready_features=True).anomalous.any()
    bits = refused(device, np.concatenate([machine(40, 7), far]))
    assert (bits[40:] & Refusal.drifted).all()
    assert not (bits & Refusal.anomalous).any()
    assert (bits[:40] == 0).mean() > 0.9
    assert device.status().guard.drifted == np.count_nonzero(bits & Refusal.drifted)


def test_a_window_that_was_let_in_does_not_vouch_for_the_next_one() -> None:
    """The same window again and again: its score stays, though it is in the reservoir by now."""

    def scores(guard: str) -> list[int]:
        device = learned(image(), scorer="nearest")
        found: list[int] = []
        border = np.repeat(machine(1, 9, shift=0.5), 120, axis=0)
        device.learn(border, resume=True, scorer="nearest", guard=guard,
                     on_result=lambda r: found.append(r.score), **CALIBRATION_ONLY)  # fmt: skip
        return found

    assert len(set(scores("all"))) == 1
    unguarded = scores("none")
    assert unguarded[-1] < unguarded[0] - 1024


@pytest.mark.parametrize(
    ("reason", "arrays_changed", "head"),
    [
        (Reason.tolerant, {}, {28: (-8000).to_bytes(2, "little", signed=True)}),
        (Reason.insensitive, {}, {30: (1000).to_bytes(2, "little")}),
        (Reason.early_alarms, {"calibration.early": np.full((EARLY, FEATURES), 127, np.int8)}, {}),
    ],
)
def test_a_phase_that_blunts_the_device_is_undone_and_says_why(
    reason: Reason, arrays_changed: dict[str, npt.NDArray[Any]], head: dict[int, bytes]
) -> None:
    """Changes what the first phase measured, so that the same healthy windows look like a loss."""
    device = learned(image())
    tampered(device, arrays_changed, head)
    checkpoint = device.pull().blob
    refused(device, machine(60, 11))
    guard = device.status().guard
    assert (guard.reasons & ~DISTANCE, guard.returned, guard.last_reasons) == (reason, 1, guard.reasons)
    assert guard.last_window == device.status().counters.windows
    device.reset()
    after = device.status()
    assert (after.guard.last_reasons, after.guard.last_window) == (guard.last_reasons, EARLIER_RUN)
    assert (after.objected, after.last_returned, after.guard.reasons) == (1, 1, 0)
    assert "before this run: returned to the checkpoint" in guard_in_words(after.guard)
    assert device.pull().blob == checkpoint
    counted = {
        Reason.tolerant: guard.tolerant, Reason.insensitive: guard.insensitive, Reason.early_alarms: guard.alarms
    }  # fmt: skip
    assert counted.pop(reason) == 1
    assert not any(counted.values())
    assert device.pull().blob == checkpoint
    assert "returned to the checkpoint" in guard_in_words(guard)
    # What is vouched for is kept.
    refused(device, machine(60, 11), guard="none")
    assert device.status().guard.returned == 0
    assert device.pull().blob != checkpoint


def test_a_phase_whose_windows_all_lie_near_the_limits_is_undone() -> None:
    """Each would pass on its own: every one has a fault of medium size."""
    device = learned(image())
    checkpoint = device.pull().blob
    bits = refused(device, machine(60, 50, shift=2.2))
    guard = device.status().guard
    assert (bits == 0).mean() > 0.5
    assert guard.reasons & Reason.shifted
    assert guard.shift > 512
    assert device.pull().blob == checkpoint


def test_a_phase_of_which_more_is_refused_than_let_in_is_undone() -> None:
    device = learned(image(0))
    checkpoint = device.pull().blob
    mixed = np.concatenate([machine(20, 51), machine(30, 52, shift=9.0)])
    bits = refused(device, mixed)
    assert (bits == 0).sum() > 15
    assert device.status().guard.reasons == Reason.unlike
    assert device.pull().blob == checkpoint


def test_healthy_windows_of_the_same_machine_are_learned_without_objection() -> None:
    device = learned(image())
    accepted = []
    for seed in range(20, 26):
        bits = refused(device, machine(40, seed), **{**SETTINGS, "recalibrate": True})
        assert device.status().guard.returned == 0
        accepted.append((bits == 0).mean())
        device.commit()
    assert np.mean(accepted) > 0.9


def test_parameters_worse_on_early_windows_are_dropped() -> None:
    """Early windows that the base model reconstructs nearly perfectly: any training is a loss on them."""
    model = image()
    device = learned(model)
    kernel = _native.Kernel(model.content)
    fixed = np.random.default_rng(4).integers(-60, 60, (EARLY, FEATURES)).astype(np.int8)
    (scale, zero), (scale_y, zero_y) = model.input_quantisation, model.output_quantisation
    for _ in range(30):
        real = (kernel.infer(fixed).astype(float) - zero_y) * scale_y
        fixed = np.clip(np.rint(real / scale) + zero, -128, 127).astype(np.int8)
    tampered(device, {"calibration.early": fixed}, {26: (32000).to_bytes(2, "little")})
    before = arrays(device)
    report = device.learn(machine(60, 12), resume=True, **SETTINGS)
    guard = device.status().guard
    assert guard.reasons & Reason.early_loss
    assert guard.early_loss == 1
    assert guard.loss_early_after > guard.loss_early_before
    assert not report.candidate_allowed
    after = arrays(device)
    for name in (n for n in before if n.startswith("layers.")):
        np.testing.assert_array_equal(before[name], after[name])


def test_parameters_that_moved_too_far_are_dropped() -> None:
    device = learned(image())
    name = [n for n in arrays(device) if n.endswith("bias_delta")][1]
    far = arrays(device)[name].copy()
    far[::3] = 1 << 27  # a third of the layer at the end of its range; the others learn to live with it
    tampered(device, {name: far})
    device.learn(machine(60, 13), resume=True, **SETTINGS)
    guard = device.status().guard
    assert guard.parameters == 1
    assert guard.drift_biases > 500


def test_drift_is_that_of_the_adapter() -> None:
    model = image()
    device = learned(model, passes=20, lr=0.01, noise=8)
    guard = device.status().guard
    base, now = kilotune.Adapter.base(model), device.pull()
    ratios = []
    for layer in now.config.layers:
        if layer.weights_trained:
            a, b = (np.frombuffer(x.blob, "<i2", layer.inputs * layer.outputs, layer.weight_offset).astype(float)
                    for x in (now, base))  # fmt: skip
            ratios.append(np.sqrt(((a - b) ** 2).sum() / ((b - 128) ** 2).sum()))
    assert guard.drift_weights > 0
    assert guard.drift_weights == pytest.approx(1000 * max(ratios), abs=1)


def learned_drift(method: str) -> tuple[int, kilotune.Adapter, kilotune.Adapter]:
    """Reported drift of weights, and the adapter before and after."""
    model = kilotune.compile(TFLITE, method=method, features=CONFIG, profile=PROFILE, reservoir=32, early=EARLY)
    device = learned(model, passes=40, lr=0.5, noise=8)
    drift = device.status().guard.drift_weights
    assert drift > 0
    return drift, kilotune.Adapter.base(model), device.pull()


def test_drift_of_a_low_rank_layer_is_that_of_its_merged_weights() -> None:
    drift, _, now = learned_drift("lora")
    ratios = []
    before, after = (tflite_model.read(m) for m in (TFLITE, kilotune.merge(TFLITE, now)))
    for old, new in zip(before.tensors, after.tensors, strict=True):
        if old.dtype == "int8" and len(old.data) and (old.data != new.data).any():
            a, b = (t.data.view(np.int8).astype(float) for t in (old, new))
            ratios.append(np.sqrt(((a - b) ** 2).sum() / (a**2).sum()))
    assert drift == pytest.approx(1000 * max(ratios), abs=1)


def test_drift_of_channels_is_that_of_the_trained_ones() -> None:
    drift, base, now = learned_drift("channels")
    ratios = []
    for layer in now.config.layers:
        count = layer.weight_count
        a, b = (np.frombuffer(x.blob, "<i2", count, layer.weight_offset).astype(float) for x in (now, base))
        ratios.append(np.sqrt(((a - b) ** 2).sum() / ((b - 128) ** 2).sum()))
    assert drift == pytest.approx(1000 * max(ratios), abs=1)


def test_an_ageing_machine_is_followed_within_a_budget_and_no_further() -> None:
    """All bands move by 0.06 sigma per phase: the mean follows up to a quarter of a sigma, then the device refuses."""
    device = learned(image())
    start = calibration_of(device)
    sigma_q10 = start.feature_scale / 4
    reasons = []
    for phase in range(1, 13):
        x = machine(64, 30 + phase).astype(np.int64)
        x += np.rint(0.06 * phase * sigma_q10).astype(np.int64)
        device.learn(x.astype(np.int16), resume=True, recalibrate=True, **CALIBRATION_ONLY)
        guard = device.status().guard
        reasons.append(guard.reasons)
        assert guard.aged <= 250
        if not guard.returned:
            device.commit()
    moved = (calibration_of(device).feature_mean - start.feature_mean) / sigma_q10
    assert 0.12 < np.sqrt((moved**2).mean()) < 0.28
    assert reasons[0] == 0
    assert any(r & Reason.aged for r in reasons)
    fixed = learned(image())
    fixed.learn(machine(64, 31), resume=True, **CALIBRATION_ONLY)
    np.testing.assert_array_equal(calibration_of(fixed).feature_mean, start.feature_mean)


def test_a_machine_that_changes_while_it_is_learned_is_called_unsteady() -> None:
    def unsteady(x: npt.NDArray[Any]) -> int:
        device = twin(image())
        device.learn(x, **CALIBRATION_ONLY)
        return device.status().guard.unsteady

    still = machine(100, 40)
    creeping = still + (1024 * 0.02 * np.arange(100)[:, None] * np.ones(FEATURES)).astype(np.int16)
    assert unsteady(still) < 500
    assert unsteady(creeping) > 700


def test_features_beyond_a_model_input_are_counted() -> None:
    device = learned(image())
    before = device.status().guard.inputs_saturated
    x = machine(3, 41)
    x[1, 7] = 30000
    x[2, :4] = -30000
    device.score(x, ready_features=True)
    assert device.status().guard.inputs_saturated == before + 5


def test_samples_of_a_sensor_that_hangs_or_is_cut_off_are_refused() -> None:
    device = twin(image())
    rng = np.random.default_rng(3)
    good = rng.normal(0, 1000, (64, 1)).round()
    hangs, cut = good[::-1].copy(), np.clip(good[rng.permutation(64)], -900, 900)
    hangs[20:40] = hangs[20]
    stream = np.concatenate([good, hangs, cut]).astype(np.int16)
    assert [r.refused for r in device.score(np.ascontiguousarray(stream))] == [0, 8, 1]


@pytest.mark.parametrize("early", [2, 33, 300])
def test_impossible_numbers_of_early_windows_are_refused(early: int) -> None:
    with pytest.raises(KilotuneError) as caught:
        image(early)
    assert caught.value.code == "bad_profile"


def test_without_early_windows_the_distance_from_the_first_calibration_still_counts() -> None:
    device = learned(image(0))
    tampered(device, {}, {6: (32000).to_bytes(2, "little")})
    assert (refused(device, machine(40, 6, shift=8.0)) & Refusal.drifted).all()
    assert device.status().guard.early == 0


def test_nothing_is_told_where_nothing_happened() -> None:
    quiet = GuardStatus(**{f.name: 0 for f in dataclasses.fields(GuardStatus)})
    assert guard_in_words(quiet) == ""
    for reason in Reason:
        assert guard_in_words(dataclasses.replace(quiet, reasons=reason))


def test_a_buffer_given_again_and_again_is_refused_though_windows_overlap() -> None:
    half = dataclasses.replace(CONFIG, hop=32)
    model = kilotune.compile(TFLITE, method="bias", features=half, profile=PROFILE)
    buffer = np.random.default_rng(6).normal(0, 1000, (64, 1)).round().astype(np.int16)
    results = list(twin(model).score(np.tile(buffer, (4, 1))))
    assert [r.refused for r in results] == [0, 0, 8, 8, 8, 8, 8]
