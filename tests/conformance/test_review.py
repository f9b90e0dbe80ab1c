"""Situations that went wrong once: adapters out of range, sessions that die while learning, odd arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune import _native
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import Profile
from kilotune.image.features import FeatureConfig
from kilotune.link.messages import Phase
from kilotune.link.transport import InProcess

from tests.support import small_models

FEATURES = 16
CONFIG = FeatureConfig(rate_hz=1600.0, window=64, hop=64, fft_points=64, axes=1, bands=FEATURES, full_scale_g=16.0)
RNG = np.random.default_rng(2)
ZEROS, ONES = np.zeros(FEATURES, np.float32), np.ones(FEATURES, np.float32)


def windows(n: int, seed: int = 0) -> npt.NDArray[Any]:
    return np.random.default_rng(seed).integers(-800, 800, (n, FEATURES)).astype(np.int16)


def autoencoder() -> kilotune.Image:
    ones = np.ones(FEATURES, np.float32)
    profile = Profile(np.zeros(FEATURES, np.float32), ones, ones)
    tflite = small_models.chain(FEATURES, 8, FEATURES, seed=3)
    return kilotune.compile(tflite, method="bias", features=CONFIG, profile=profile)


def classifier() -> kilotune.Image:
    return kilotune.compile(
        small_models.chain(FEATURES, 8, 3, softmax=True, seed=4),
        method="bias",
        features=CONFIG,
        profile=Profile(ZEROS, ONES),
    )


def session(image: kilotune.Image) -> InProcess:
    return InProcess(_native.Session(image.content, bytearray(b"\xff" * 65536)))


def test_an_adapter_with_a_label_that_is_no_class_is_refused() -> None:
    image = classifier()
    device = Device(session(image), image=image)
    segments = [windows(6, k) for k in range(3)]
    device.learn(segments, [0, 1, 2], ready_features=True)
    adapter = device.pull()
    arrays = adapter.arrays()
    arrays["calibration.labels"] = np.full_like(arrays["calibration.labels"], 255)
    before = device.status().checkpoint
    with pytest.raises(KilotuneError) as caught:
        device.push(kilotune.Adapter.from_arrays(adapter.config, arrays))
    assert caught.value.exit_code == 4
    assert device.status().checkpoint == before
    assert device.push(adapter).sequence > 0


def test_a_host_that_dies_while_learning_leaves_nothing_that_learns() -> None:
    image = autoencoder()
    line = session(image)
    first = Device(line, image=image)
    first.learn(windows(32), ready_features=True)
    first.commit()
    known = first.pull_bytes()
    # A learn phase that nobody ends: the last thing heard of this host.
    with pytest.raises(RuntimeError):
        first.learn(windows(64, 1), ready_features=True, on_result=lambda _: (_ for _ in ()).throw(RuntimeError()))
    second = Device(line, image=image)
    assert second.status().phase is Phase.detect
    assert second.pull_bytes() == known
    flags = [r.flags for r in second.score(windows(8, 2), ready_features=True)]
    assert all(f & 1 for f in flags)
    assert not any(f & 4 for f in flags)


def test_resuming_without_a_calibration_starts_afresh() -> None:
    image = autoencoder()
    device = Device(session(image), image=image)
    device.commit()
    assert device.learn(windows(32), resume=True, ready_features=True).learned > 0


def test_steps_of_an_adapter_survive_commit_reset_and_push() -> None:
    image = kilotune.compile(small_models.chain(12, 6, 12, seed=5), method="bias")
    device = Device(session(image), image=image)
    device.train(RNG.integers(-100, 100, (4, 12)).astype(np.int8), steps=37, lr=0.01)
    assert device.pull().config.steps == 37
    device.commit()
    device.reset()
    adapter = device.pull()
    assert adapter.config.steps == 37
    assert device.push(adapter).steps == 37


def test_patience_needs_windows_held_back() -> None:
    image = autoencoder()
    device = Device(session(image), image=image)
    report = device.learn(
        windows(16), hold_period=1, hold_count=0, passes=9, patience=2, force=True, ready_features=True
    )
    assert (report.passes_done, report.passes_kept) == (9, 9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"momentum": 0.5}, "momentum"),
        ({"accumulate": 4}, "accumulation"),
        ({"hold_period": 4, "hold_count": 4}, "held back"),
        ({"labels": 0}, "not a classifier"),
    ],
)
def test_impossible_wishes_are_named(options: dict[str, Any], words: str) -> None:
    image = autoencoder()
    device = Device(session(image), image=image)
    with pytest.raises(KilotuneError, match=words) as caught:
        device.learn(windows(16), ready_features=True, **options)
    assert caught.value.exit_code == 2
    assert device.status().phase is Phase.idle


def test_a_regression_is_trained_and_measured() -> None:
    image = kilotune.compile(small_models.chain(8, 6, 2, seed=6), method="bias")
    assert image.loss == "regression"
    device = Device(session(image), image=image)
    x = RNG.integers(-100, 100, (4, 8)).astype(np.int8)
    device.train(x, RNG.integers(-50, 50, (4, 2)).astype(np.int8), steps=8, lr=0.01)
    trained = device.pull_bytes()
    assert any(trained)
    device.bench()
    assert not any(device.pull_bytes()), "bench must leave the last checkpoint, here the base model"


def test_a_model_that_does_not_fit_is_refused_before_anything_is_written() -> None:
    from kilotune.targets.fit import fits, require_fit

    image = kilotune.compile(small_models.chain(8, 1500, 1500), method="head")
    assert not next(f for f in fits(image) if f.board == "mps2-an386").fits
    with pytest.raises(KilotuneError, match="bytes of RAM") as caught:
        require_fit(image, "mps2-an386")
    assert caught.value.code == "too_large"
    require_fit(autoencoder(), "mps2-an386")


def test_the_last_value_of_a_pushed_adapter_is_judged_too() -> None:
    """A value out of range in the very last word is refused, and nothing becomes a checkpoint."""
    image = autoencoder()
    device = Device(session(image), image=image)
    adapter = device.pull()
    config = replace(adapter.config, windows_seen=5)
    bad = bytearray(adapter.blob)
    bad[-4:] = b"\xff\xff\xff\x7f"  # a bias delta beyond its range
    with pytest.raises(KilotuneError):
        device.push(kilotune.Adapter(config, bytes(bad)))
    assert device.status().checkpoint.sequence == 0
