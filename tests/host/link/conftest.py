"""A model for the firmware's session, and a client on a line and in a time of the test's own."""

from __future__ import annotations

import random
from collections.abc import Callable

import kilotune
import pytest
from kilotune.device import device as device_module
from kilotune.device.device import Device
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.client import Client

from tests.support.link_doubles import Clock, FaultyLine
from tests.support.small_models import chain


@pytest.fixture(scope="module")
def image() -> Image:
    features = FeatureConfig(rate_hz=1600.0, window=64, hop=40, fft_points=64, axes=3, bands=8)
    return kilotune.compile(chain(24, 12, 24), method="bias+head", features=features)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[[FaultyLine, Clock, int], Device]:
    def open_device(line: FaultyLine, clock: Clock, seed: int) -> Device:
        def make(transport: FaultyLine, timeout_s: float) -> Client:
            return Client(transport, timeout_s=timeout_s, clock=clock, rng=random.Random(seed))

        monkeypatch.setattr(device_module, "Client", make)
        return Device(line, timeout_s=60.0)

    return open_device
