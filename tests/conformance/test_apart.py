"""Windows of a first phase that lie apart from the rest are counted, and left out where that was asked for."""

from __future__ import annotations

from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune.errors import KilotuneError

from tests.support.learning_twin import CONFIG, FEATURES, PROFILE, TFLITE, calibration_of, machine, twin
from tests.support.learning_twin import SETTINGS as TRAINING

IMAGE = kilotune.compile(TFLITE, method="bias+head", features=CONFIG, profile=PROFILE, reservoir=64)
SETTINGS: dict[str, Any] = {**TRAINING, "hold_period": 4, "hold_count": 1}


def phase(healthy: int, faulty: int, seed: int, shift: float = 4.0) -> npt.NDArray[np.int16]:
    """Windows of a machine, in random order, some of them of a fault in half of the bands."""
    fault = machine(faulty, seed + 1).astype(np.int32)
    fault[:, ::2] += round(1024 * shift)
    order = np.random.default_rng(seed).permutation(healthy + faulty)
    return np.asarray(np.concatenate([machine(healthy, seed), fault])[order], np.int16)


def apart_by_model(x: npt.NDArray[np.int16]) -> int:
    """Float reference: the direction of most spread, the best cut in two, 6 spreads between the groups' means."""
    z = (x - x.mean(0)) / x.std(0)
    along = np.sort(z @ np.linalg.svd(z, full_matrices=False)[2][0])
    n = len(along)
    parts = [(((along[:k] - along[:k].mean()) ** 2).sum() + ((along[k:] - along[k:].mean()) ** 2).sum(), k)
             for k in range(1, n)]  # fmt: skip
    within, k = min(parts)
    gap = (along[k:].mean() - along[:k].mean()) / np.sqrt(within / (n - 2))
    smaller = min(k, n - k)
    return smaller if gap > 6 and smaller >= 2 else 0


@pytest.mark.parametrize("faulty", [2, 4, 8, 12])
@pytest.mark.parametrize("seed", [10, 20, 30])
def test_faulty_windows_are_counted(faulty: int, seed: int) -> None:
    windows = phase(32 - faulty, faulty, seed)
    report = twin(IMAGE).learn(windows, **SETTINGS)
    assert report.apart == apart_by_model(windows) == faulty


@pytest.mark.parametrize("seed", range(40, 52))
def test_clean_phases_are_not_flagged(seed: int) -> None:
    assert twin(IMAGE).learn(machine(32, seed), **SETTINGS).apart == 0


def test_two_states_of_equal_weight_are_counted_and_neither_is_left_out() -> None:
    report = twin(IMAGE).learn(phase(16, 16, 10), **SETTINGS, apart="leave_out")
    assert report.apart == 16
    assert (report.learned, report.held, report.dropped) == (24, 8, 0)


def test_a_single_odd_window_is_dropped_and_not_called_a_group() -> None:
    windows = phase(31, 1, 10, shift=6.0)
    report = twin(IMAGE).learn(windows, **SETTINGS)
    assert report.apart == 0


@pytest.mark.parametrize("seed", [10, 20, 30])
def test_left_out_they_leave_the_detector_of_a_clean_phase(seed: int) -> None:
    windows = phase(24, 8, seed)
    fault = phase(0, 40, seed + 5)
    detected = {}
    for apart in ("report", "leave_out"):
        device = twin(IMAGE)
        report = device.learn(windows, **SETTINGS, apart=apart)
        assert report.apart == 8
        assert report.learned + report.held == 32 - report.dropped
        assert (report.dropped >= 8) == (apart == "leave_out")
        detected[apart] = float(device.score(fault, ready_features=True).anomalous.mean())
        calibration = calibration_of(device)
    assert detected["report"] < 0.2 < 0.95 < detected["leave_out"]
    clean = twin(IMAGE)
    level = windows[:, ::2].mean(1)
    clean.learn(windows[level < np.sort(level)[24]], **SETTINGS)
    # Other windows of the same machine were held back; a mean is known to a third of a spread.
    difference = np.abs(calibration.feature_mean - calibration_of(clean).feature_mean) / calibration.feature_scale
    assert difference.max() < 0.5


def test_ignored_they_are_not_looked_for() -> None:
    assert twin(IMAGE).learn(phase(24, 8, 10), **SETTINGS, apart="ignore").apart == 0


def test_a_later_phase_does_not_look() -> None:
    device = twin(IMAGE, bytearray(b"\xff" * (1 << 17)))
    device.learn(machine(32, 10), **SETTINGS)
    device.commit()
    assert device.learn(phase(24, 8, 10), **SETTINGS, resume=True, guard="none").apart == 0


def test_no_share_is_emptied() -> None:
    """All held-back windows are of the fault: dropping them would leave nothing to judge by."""
    windows = np.concatenate([machine(24, 3).reshape(8, 3, FEATURES), phase(0, 8, 5).reshape(8, 1, FEATURES)], 1)
    report = twin(IMAGE).learn(windows.reshape(32, FEATURES), **SETTINGS, apart="leave_out")
    assert report.apart == 8
    assert report.held == 8


def test_words_are_checked() -> None:
    with pytest.raises(KilotuneError) as info:
        twin(IMAGE).learn(machine(32, 10), **SETTINGS, apart="drop")
    assert info.value.code == "bad_argument"
