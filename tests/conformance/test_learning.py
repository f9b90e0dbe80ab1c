"""Calibration, scores, threshold and the choice of a candidate: the device against formulas in floating point."""

from __future__ import annotations

import struct
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune import _native
from kilotune.adapters.calibration import Calibration, reconstruction_differences
from kilotune.device.device import Device
from kilotune.image import metadata
from kilotune.link.transport import InProcess
from kilotune.terms import Scorer

from tests.support import tflite_oracle
from tests.support.learning_twin import (
    CONFIG,
    FEATURES,
    PROFILE,
    SETTINGS,
    TFLITE,
    calibrated,
    calibration_of,
    machine,
    twin,
)


def image(method: Any = "bias+head", reservoir: int = 32) -> kilotune.Image:
    return kilotune.compile(TFLITE, method=method, features=CONFIG, profile=PROFILE, reservoir=reservoir)


def split(x: npt.NDArray[Any], period: int = 8, count: int = 2) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Windows learned from and held back by the device's rule, as float log2."""
    held = np.arange(len(x)) % period >= period - count
    return x[~held] / 1024, x[held] / 1024


def shrunk(v: npt.NDArray[Any], base: npt.NDArray[Any], n: int, pseudo: int) -> npt.NDArray[Any]:
    return np.asarray((n * v + pseudo * base * v.mean() / base.mean()) / (n + pseudo))


def loss_differences(model: kilotune.Image, adapter: bytes, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """d of SPEC 1.5 from the kernel's own outputs."""
    kernel = _native.Kernel(model.content)
    kernel.adapter = adapter
    return differences(model, kernel.infer(x), x)


def differences(model: kilotune.Image, y: npt.NDArray[Any], x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    training = struct.unpack_from("<I", model.content, 96)[0]
    found = reconstruction_differences(y, x, output=model.output_quantisation, source=model.input_quantisation)
    a, b = struct.unpack_from("<ii", model.content, training + 8)
    zero_y, zero_x = model.output_quantisation[1], model.input_quantisation[1]
    np.testing.assert_array_equal(found, (y.astype(np.int64) - zero_y) * a - (x.astype(np.int64) - zero_x) * b)
    return found


def test_calibration_is_the_shrunk_statistics_of_the_learned_windows() -> None:
    model, x = image(), machine(32, 1)
    device = twin(model)
    device.learn(x, passes=0, ready_features=True)
    found = calibration_of(device)
    learn, _ = split(x)
    np.testing.assert_allclose(found.feature_mean / 1024, learn.mean(0), atol=0.01)
    expected = np.sqrt(shrunk(learn.var(0), PROFILE.feature_std.astype(float) ** 2, len(learn), 20))
    np.testing.assert_allclose(found.feature_scale / 4096, expected, rtol=0.02)
    assert (found.learned, found.held) == (24, 8)
    # The reservoir holds what these windows are as model inputs, up to the rounding of its raw form.
    inputs = found.inputs(np.rint(learn * 1024).astype(np.int16), input_scale=model.input_quantisation[0],
                          zero_point=model.input_quantisation[1])  # fmt: skip
    assert np.abs(inputs.astype(int) - found.windows[:24]).max() <= 3


def test_residuals_are_measured_on_the_learned_windows() -> None:
    model = image()
    device = twin(model)
    device.learn(machine(32, 2), scorer="residual", force=True, **SETTINGS)
    adapter = device.pull()
    found = calibrated(adapter)
    r = loss_differences(model, adapter.blob, found.windows[: found.learned]) >> 8
    np.testing.assert_allclose(found.residual_mean, r.mean(0), atol=0.51)
    unit = max(model.input_quantisation[0], model.output_quantisation[0]) / 64
    base = (PROFILE.residual_std / unit) ** 2
    np.testing.assert_allclose(found.residual_scale, np.sqrt(shrunk(r.var(0), base, found.learned, 10)), rtol=0.02)


def test_weights_of_the_nearest_windows_are_inverse_local_variances() -> None:
    device = twin(image())
    device.learn(machine(32, 3), passes=0, ready_features=True)
    found = calibration_of(device)
    stored = found.windows[: found.learned].astype(float)
    distance = ((stored[:, None] - stored[None]) ** 2).sum(2)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, 1, kind="stable")[:, :2]
    v = ((stored - stored[near].mean(1)) ** 2).mean(0)
    v = (len(stored) * v + 20 * v.mean()) / (len(stored) + 20)
    np.testing.assert_allclose(found.near_weight / 65535, v.min() / v, rtol=0.01)


@pytest.mark.parametrize("scorer", ["residual", "nearest", "combined"])
def test_the_host_reproduces_the_devices_scores_bit_for_bit(scorer: str) -> None:
    model = image()
    device = twin(model)
    device.learn(machine(40, 4), scorer=scorer, force=True, **SETTINGS)
    test = np.concatenate([machine(30, 5), machine(30, 6, shift=2.0)])
    scores = device.score(test, ready_features=True)
    adapter = device.pull()
    found = calibrated(adapter)
    assert found.scorer is Scorer[scorer]
    scale, zero = model.input_quantisation
    x = found.inputs(test, input_scale=scale, zero_point=zero)
    host = found.score(x, loss_differences(model, adapter.blob, x), neighbours=2)
    np.testing.assert_array_equal(scores.values * 1024, host)
    np.testing.assert_array_equal(scores.anomalous, host > found.threshold_q10)
    assert Calibration.from_json(found.to_json()).to_json() == found.to_json()


def test_a_merged_model_scores_on_the_host_as_the_device_did() -> None:
    """From int8 input to the score: the merged file runs in the oracle, its own metadata does the rest."""
    model = image()
    device = twin(model)
    device.learn(machine(40, 4), scorer="combined", force=True, **SETTINGS)
    test = np.concatenate([machine(20, 5), machine(20, 6, shift=2.0)])
    scores = device.score(test, ready_features=True)
    merged = kilotune.merge(TFLITE, device.pull())
    found = Calibration.from_json(metadata.read(merged).calibration or {})
    scale, zero = model.input_quantisation
    x = found.inputs(test, input_scale=scale, zero_point=zero)
    y = tflite_oracle.run(merged, x, all_tensors=False)["output"].reshape(len(x), -1)
    np.testing.assert_array_equal(found.score(x, differences(model, y, x), neighbours=2), scores.values * 1024)


def test_the_threshold_is_students_on_the_held_back_scores() -> None:
    device = twin(image())
    device.learn(machine(64, 7), scorer="residual", passes=0, ready_features=True)
    found = calibration_of(device)
    model = image()
    held = found.windows[found.learned :]
    h = found.residual_score(loss_differences(model, device.pull().blob, held)) / 1024
    n, nu = len(h), len(h) - 1 + 16
    s = np.sqrt((((h - h.mean()) ** 2).sum() + 16 * 0.25) / nu)
    expected = h.mean() + (2.326 + 3.95 / nu) * np.sqrt(1 + 1 / n) * s
    assert found.threshold_q10 / 1024 == pytest.approx(expected, abs=0.01)


def test_the_reservoir_keeps_every_window_with_equal_probability() -> None:
    """400 windows into 8 slots, 400 seeds: each quarter of the stream has its share of what is kept."""
    model = image("bias", reservoir=8)
    stream = np.zeros((400, FEATURES), np.int16)
    for quarter in range(4):
        stream[100 * quarter : 100 * (quarter + 1), quarter] = 1024
    device = twin(model)
    shares = np.zeros(4)
    for seed in range(400):
        device.learn(stream, passes=0, hold_period=4, hold_count=1, seed=seed + 1, ready_features=True)
        found = calibration_of(device)
        assert (found.learned, found.held, found.windows_seen) == (6, 2, 400)
        shares += found.feature_mean[:4] / 1024 / 400
    # 2400 draws: a share of 1/4 has a standard error of 0.009.
    np.testing.assert_allclose(shares, 0.25, atol=0.03)


def test_an_isolated_window_is_not_learned_from() -> None:
    x = machine(40, 8)
    x[10] += 6000
    device = twin(image(reservoir=40))
    report = device.learn(x, passes=0, ready_features=True)
    assert report.dropped == 1
    assert report.learned == 29


def test_a_candidate_that_is_worse_on_held_back_windows_is_dropped() -> None:
    model = image()
    device = twin(model)
    report = device.learn(machine(32, 9), lr=300.0, passes=3, ready_features=True)
    assert not report.kept_candidate
    base = twin(model).pull()
    adapter = device.pull()
    for layer in adapter.config.layers:
        np.testing.assert_array_equal(adapter.bias_delta(layer), base.bias_delta(layer))
    forced = twin(model)
    assert forced.learn(machine(32, 9), lr=300.0, passes=3, force=True, ready_features=True).kept_candidate


def test_training_lowers_the_loss_on_windows_it_has_not_seen() -> None:
    device = twin(image())
    report = device.learn(machine(32, 10), **SETTINGS)
    assert report.kept_candidate
    assert report.loss_candidate_held < report.loss_calibration_held


@pytest.mark.parametrize("augmentation", [{}, {"gain": 4}, {"jitter": True}, {"gain": 2, "jitter": True, "noise": 0}])
def test_learning_does_not_depend_on_when_its_steps_run(augmentation: dict[str, Any]) -> None:
    model, x = image(), machine(32, 11)

    def adapter(slice_ms: int) -> bytes:
        device = twin(model, slice_ms=slice_ms)
        device.learn(x, **{**SETTINGS, **augmentation})
        return device.pull().blob

    assert adapter(0) == adapter(1000)


def test_the_best_state_comes_back_when_training_gets_worse() -> None:
    """A rate at which training overshoots: what is kept is the pass with the lowest held-back loss."""
    model = image()
    found = None
    for lr in (0.5, 1.0, 2.0, 4.0, 8.0):
        device = twin(model)
        report = device.learn(machine(32, 12), lr=lr, passes=30, patience=5, force=True, noise=0, ready_features=True)
        if report.passes_kept < report.passes_done:
            found = device, report
            break
    assert found is not None, "no rate of the list overshoots"
    device, report = found
    adapter = device.pull()
    c = calibrated(adapter)
    d = loss_differences(model, adapter.blob, c.windows[c.learned :])
    loss = np.log2((d.astype(float) ** 2 * 32 / 65536).sum(1).mean())
    assert loss == pytest.approx(report.loss_candidate_held / 1024, abs=0.01)


def test_resuming_goes_on_from_the_checkpoint_and_refuses_anomalies() -> None:
    model = image()
    device = twin(model, bytearray(b"\xff" * 65536))
    device.learn(machine(32, 13), **SETTINGS)
    device.commit()
    before = calibration_of(device)
    refused: list[int] = []
    broken = machine(8, 15)
    broken[:, ::2] += 4096
    mixed = np.concatenate([machine(16, 14), broken])
    device.learn(mixed, resume=True, on_result=lambda r: refused.append(r.refused), **SETTINGS)
    after = calibration_of(device)
    np.testing.assert_array_equal(before.feature_mean, after.feature_mean)
    assert all(flags & 4 for flags in refused[16:]), "anomalous windows were learned from"
    assert after.windows_seen > before.windows_seen


def test_the_gate_refuses_clipped_constant_and_repeated_windows() -> None:
    device = twin(image())
    rng = np.random.default_rng(3)
    good = rng.normal(0, 1000, (64, 1)).astype(np.int16)
    clipped = good.copy()
    clipped[::3] = 32767
    stream = np.concatenate([good, clipped, np.full((64, 1), 7, np.int16), good[::-1], good[::-1]])
    results = list(device.score(np.ascontiguousarray(stream)))
    assert [r.refused & 11 for r in results] == [0, 1, 2, 0, 8]


def test_no_answer_of_the_device_carries_raw_samples() -> None:
    """Searches everything that a device says, in learning, scoring, commits and pulls, for raw samples."""
    model = image()
    session = _native.Session(model.content, bytearray(b"\xff" * 65536))
    said = bytearray()

    class Listening:
        def exchange(self, request: bytes) -> bytes:
            answer = bytes(session.exchange(request))
            said.extend(answer)
            return answer

    samples = np.random.default_rng(8).integers(-30000, 30000, (64 * 40, 1)).astype(np.int16)
    with Device(InProcess(Listening()), image=model) as device:
        device.learn(samples, passes=2)
        device.score(samples)
        device.commit()
        device.pull()
        device.info()
        device.status()
    heard = samples.tobytes()
    assert len(said) > 5000
    # Eight bytes of random samples turn up by chance with a probability of about 1e-12.
    assert not any(heard[i : i + 8] in said for i in range(0, len(heard) - 8, 2))


@pytest.mark.parametrize(("windows", "seed", "by"), [(8, 3, 93), (12, 9, 21), (16, 9, 39), (64, 0, None)])
def test_of_few_windows_the_network_alone_is_not_picked(windows: int, seed: int, by: int | None) -> None:
    """The rule of DESIGN on the device's own figures; in the first cases 0.02 of AUC were enough for the network."""
    x = np.rint(1024 * np.random.default_rng(seed).normal(0, 0.7, (windows, FEATURES))).astype(np.int16)
    settings: dict[str, Any] = {**SETTINGS, "hold_period": 4, "hold_count": 1}
    report = twin(image(reservoir=64)).learn(x, **settings)
    margin = max(20, 20 * 16 // report.held)
    rivals = {
        Scorer.residual: max(report.auc_calibration, report.auc_candidate) - margin,
        Scorer.nearest: report.auc_nearest - 20,
        Scorer.combined: report.auc_combined,
    }
    assert report.scorer is max(rivals, key=lambda s: (rivals[s], s is Scorer.combined))
    if by is not None:
        assert max(report.auc_calibration, report.auc_candidate) - report.auc_combined >= by
        assert report.scorer is not Scorer.residual
