"""A base model from own recordings: what is refused before anything is trained, and how parts are held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kilotune.base import own
from kilotune.base.features import band_energies, compute_features
from kilotune.base.own import base_from_recordings
from kilotune.base.training import widths_for
from kilotune.errors import KilotuneError
from kilotune.recordings import Recording

RATE = 1600.0


def recording(seconds: float, axes: int = 1, seed: int = 1, rate: float = RATE) -> Recording:
    noise = np.random.default_rng(seed).normal(0, 0.1, (round(seconds * rate), axes)).astype(np.float32)
    return Recording(noise, rate, f"r{seed}.csv")


@pytest.mark.parametrize(
    ("given", "code", "hint"),
    [
        ([], "bad_argument", "at least one file"),
        ([recording(60), replace(recording(60, seed=2), unit="counts")], "bad_argument", "--scale"),
        ([recording(60), recording(60, axes=2, seed=2)], "wrong_axes", "--columns"),
        ([recording(60), recording(60, seed=2, rate=3200)], "wrong_rate", "--model-rate"),
        ([recording(10)], "too_few_windows", "27 s"),
        ([recording(0.2, seed=s) for s in range(9)], "too_few_windows", "within each file"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(given: list[Recording], code: str, hint: str) -> None:
    with pytest.raises(KilotuneError) as caught:
        base_from_recordings(given)
    assert caught.value.code == code
    assert hint in caught.value.hint


@pytest.mark.parametrize("files", [1, 4, 5, 12])
def test_no_sample_is_both_trained_on_and_held_out(files: int) -> None:
    """Every window is found again in one share only, and the held-out share is about a fifth."""
    features = band_energies(RATE, 1, 4.0)
    given = [recording(30, seed=s) for s in range(files)]
    learned, held = own._split(features, given)
    whole = np.concatenate([compute_features(features, r.samples) for r in given])
    assert {row.tobytes() for row in learned}.isdisjoint(row.tobytes() for row in held)
    assert 0.1 < len(held) / (len(held) + len(learned)) < 0.25
    lost_at_cuts = len(whole) - len(learned) - len(held)
    assert 0 <= lost_at_cuts <= (2 * files if files < 5 else 0)


def test_windows_never_cross_a_gap() -> None:
    features = band_energies(RATE, 1, 4.0)
    n = round(1.5 * features.window)
    apart = replace(recording(3 * n / RATE), starts=(0, n, 2 * n), times_s=(0.0, 10.0, 20.0))
    learned, _ = own._split(features, [apart] + [recording(30, seed=s) for s in range(2, 6)])
    expected = compute_features(features, apart.samples[:n])
    assert (learned[: len(expected)] == expected).all()
    assert len(own._split(features, [apart])[0]) == 3  # one of each stretch, and no room to hold one out


def test_layers_shrink_with_the_inputs() -> None:
    assert widths_for(96) == (96, 64, 16, 64, 96)
    assert widths_for(32) == (32, 20, 8, 20, 32)


def test_the_full_scale_has_room_above_the_peak() -> None:
    loud = replace(recording(60), samples=np.full((10, 1), -11.0, np.float32))
    assert own._full_scale([loud]) == 32.0
    assert own._full_scale([recording(60)]) == 2.0
