"""A twin whose model takes features that are computed already, and a simulated machine that gives them."""

from __future__ import annotations

from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune import _native
from kilotune.adapters.calibration import Calibration, of_adapter
from kilotune.device.device import Device
from kilotune.image.base_profile import Profile
from kilotune.image.features import FeatureConfig
from kilotune.link.transport import InProcess

from tests.support import small_models

FEATURES = 32
CONFIG = FeatureConfig(rate_hz=1600.0, window=64, hop=64, fft_points=64, axes=1, bands=FEATURES, full_scale_g=16.0)
# The first random network whose input takes +-5 sigma on either side, as real base models do.
TFLITE = next(
    model
    for model in (small_models.chain(32, 24, 8, 24, 32, per_channel=True, seed=seed) for seed in range(1000))
    for scale, zero in [kilotune.compile(model, method="none").input_quantisation]
    if abs(zero) < 10 and 0.04 < scale < 0.06
)
RNG = np.random.default_rng(5)
PROFILE = Profile(
    RNG.uniform(-2, 2, FEATURES).astype(np.float32),
    RNG.uniform(0.3, 1.5, FEATURES).astype(np.float32),
    RNG.uniform(0.3, 1.0, FEATURES).astype(np.float32),
    1.0,
)
SETTINGS: dict[str, Any] = {"lr": 0.01, "passes": 20, "noise": 8, "ready_features": True}


def twin(model: kilotune.Image, flash: bytearray | None = None, slice_ms: int = 50) -> Device:
    session = _native.Session(model.content, flash)

    class Sliced:
        def exchange(self, request: bytes) -> bytes:
            return bytes(session.exchange(request, slice_ms))

    return Device(InProcess(Sliced()), image=model)


def machine(n: int, seed: int, shift: float = 0.0) -> npt.NDArray[np.int16]:
    """Features of one machine, int16 Q10 (n, features): four factors move the bands together."""
    rng = np.random.default_rng(99)
    mean, mix = rng.uniform(-1, 4, FEATURES), rng.normal(0, 0.5, (4, FEATURES))
    own = np.random.default_rng(seed)
    x = mean + own.standard_normal((n, 4)) @ mix + 0.15 * own.standard_normal((n, FEATURES))
    x[:, 5:9] += shift
    return np.asarray(np.rint(x * 1024), np.int16)


def calibration_of(device: Device) -> Calibration:
    return calibrated(device.pull())


def calibrated(adapter: kilotune.Adapter) -> Calibration:
    found = of_adapter(adapter)
    assert found is not None
    return found
