"""A model for the firmware's session, and a client on a line and a clock that the test controls."""

from __future__ import annotations

import random
from collections.abc import Callable

import kilotune
import pytest
from kilotune.device.device import Device
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image

from tests.support.faulty_line import Clock, FaultyLine
from tests.support.small_models import chain


@pytest.fixture(scope="module")
def image() -> Image:
    features = FeatureConfig(rate_hz=1600.0, window=64, hop=40, fft_points=64, axes=3, bands=8)
    return kilotune.compile(chain(24, 12, 24), method="bias+head", features=features)


@pytest.fixture
def connect() -> Callable[[FaultyLine, Clock, int], Device]:
    def open_device(line: FaultyLine, clock: Clock, seed: int) -> Device:
        return Device(line, timeout_s=60.0, clock=clock, rng=random.Random(seed))

    return open_device
