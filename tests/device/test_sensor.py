"""A sensor beside the device, on whatever target has one: `--target native:lis2dw12=synthetic:healthy`, a board."""

from __future__ import annotations

import time

import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.image.image import Image
from kilotune.link.messages import Chip, SensorState
from kilotune.link.status import statuses


@pytest.fixture
def sensor(device: Device, target: str) -> SensorState:
    found = device.status().sensor
    if found.chip is Chip.none:
        pytest.skip(f"{target} has no sensor")
    return found


def grown(device: Device, samples: int, timeout_s: float = 20.0) -> SensorState:
    """Waits until this many samples have been sensed."""
    end = time.monotonic() + timeout_s
    while (now := device.status().sensor).samples < samples:
        assert time.monotonic() < end, now
        time.sleep(0.05)
    return now


def test_the_sensor_is_what_the_model_was_made_for_and_is_sensed(device: Device, sensor: SensorState) -> None:
    assert statuses()[sensor.sensor_state].name == "ok"
    before = grown(device, sensor.samples + 100)
    after = grown(device, before.samples + 200)
    assert after.sensing == 1


def test_windows_are_computed_from_what_it_measures(device: Device, sensor: SensorState, image: Image) -> None:
    assert image.features is not None
    windows = device.status().counters.windows
    grown(device, sensor.samples + 3 * image.features.window)
    assert device.status().counters.windows > windows
    raw = np.frombuffer(device.raw().data, "<i2").reshape(-1, image.features.axes)
    assert len(raw) > 0
    assert len(np.unique(raw)) > 1


def test_a_host_takes_the_engine_and_gives_it_back(device: Device, sensor: SensorState, image: Image) -> None:
    assert image.features is not None
    samples = np.random.default_rng(0).normal(0, 500, (2000, image.features.axes)).astype(np.int16)
    device.learn(samples, passes=1)
    assert device.status().sensor.sensing == 0
    grown(device, device.status().sensor.samples + 50)  # two seconds later
    assert device.status().sensor.alone == 0
