"""What the tests of emulated sensors share."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from kilotune.link.device import Device
from kilotune.link.messages import DeviceStatus


def wait_until(device: Device, reached: Callable[[DeviceStatus], bool], timeout_s: float = 500.0) -> DeviceStatus:
    """Asks for nothing but the status."""
    end = time.monotonic() + timeout_s
    while not reached(status := device.status()):
        assert time.monotonic() < end, status
        time.sleep(0.2)
    return status


def off_by_g(raw: npt.NDArray[np.int16], life: npt.NDArray[np.float32], full_scale_g: float) -> float:
    """The largest difference to what was recorded, where it fits best."""
    measured = raw * full_scale_g / 32768
    stretches = np.lib.stride_tricks.sliding_window_view(life, len(raw), axis=0)
    return float(min(np.abs(np.moveaxis(s, -1, 0) - measured).max() for s in stretches))
