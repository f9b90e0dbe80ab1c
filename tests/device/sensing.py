"""What the tests of emulated sensors share."""

from __future__ import annotations

import time
from collections.abc import Callable

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune.device.device import Device
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.messages import DeviceStatus

from tests.support import small_models

FULL_SCALE_G = 8.0  # of noise_model
WINDOWS = 16  # that a device learns alone from


def noise_model(rate_hz: float, seconds: float) -> tuple[Image, npt.NDArray[np.float32]]:
    """A model that a device learns alone from WINDOWS windows, and samples (n, 3) in g for its sensor."""
    features = FeatureConfig(
        rate_hz=rate_hz, window=64, hop=64, fft_points=64, axes=3, bands=8, full_scale_g=FULL_SCALE_G
    )
    image = kilotune.compile(small_models.chain(24, 8, 24, seed=3), features=features, alone_windows=WINDOWS)
    life = np.random.default_rng(1).normal(0, 0.5, (int(seconds * rate_hz), 3)).astype(np.float32)
    return image, life


def wait_until(device: Device, reached: Callable[[DeviceStatus], bool], timeout_s: float = 500.0) -> DeviceStatus:
    """Asks only for the status."""
    end = time.monotonic() + timeout_s
    while not reached(status := device.status()):
        assert time.monotonic() < end, status
        time.sleep(0.2)
    return status


def off_by_g(raw: npt.NDArray[np.int16], life: npt.NDArray[np.float32], full_scale_g: float) -> float:
    """The largest difference to what was recorded, at the best alignment."""
    measured = raw * full_scale_g / 32768
    stretches = np.lib.stride_tricks.sliding_window_view(life, len(raw), axis=0)
    return float(min(np.abs(np.moveaxis(s, -1, 0) - measured).max() for s in stretches))
