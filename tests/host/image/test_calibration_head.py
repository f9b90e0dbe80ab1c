"""The head of the calibration block: read from a device by itself, and the same as in the whole adapter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune import Image
from kilotune.adapters.calibration import of_adapter
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import Profile
from kilotune.image.calibration_block import CalibrationHead, calibration_arrays, calibration_bytes
from kilotune.image.features import FeatureConfig
from kilotune.link.transport import InProcess
from kilotune.studies.streaming import threshold
from kilotune.twin_library import twin_library

from tests.support import small_models


class CountedLine(InProcess):
    """Adds up what the device sends."""

    received = 0

    def read(self, timeout_s: float) -> bytes:
        data = super().read(timeout_s)
        self.received += len(data)
        return data


@pytest.fixture(scope="module")
def image() -> Image:
    features = FeatureConfig(rate_hz=1600.0, window=64, hop=40, fft_points=64, axes=3, bands=8)
    ones = np.ones(24, np.float32)
    profile = Profile(np.zeros(24, np.float32), ones, ones, base_threshold=1.25)
    return kilotune.compile(small_models.chain(24, 12, 24), method="bias+head", features=features, profile=profile)


def test_the_threshold_costs_one_short_message(image: Image) -> None:
    line = CountedLine(twin_library().Session(image.content))
    with Device(line, image=image) as device:
        assert threshold(device) == 1.25  # the base model's, before any learning
        device.learn(np.random.default_rng(1).normal(size=(3000, 3)).astype(np.float32) * 0.2, passes=1)
        before = line.received
        found = threshold(device)
        assert line.received - before < 100 < image.adapter_bytes
        calibration = of_adapter(device.pull())
        assert calibration is not None
        assert found == calibration.threshold_q10 / 1024
        assert found != 1.25


def test_without_features_there_is_no_threshold() -> None:
    image = kilotune.compile(small_models.chain(12, 8, 12, seed=4), method="bias")
    with Device(InProcess(twin_library().Session(image.content)), image=image) as device:
        assert device.calibration_head() is None
        assert threshold(device) is None


def test_a_head_that_is_cut_short_is_refused(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    with Device(InProcess(twin_library().Session(image.content)), image=image) as device:
        ask = device.client.ask

        def cut(cls: Any, kind: Any, *values: Any) -> Any:
            answer = ask(cls, kind, *values)
            return replace(answer, data=answer.data[:-1])

        monkeypatch.setattr(device.client, "ask", cut)
        with pytest.raises(KilotuneError) as error:
            device.calibration_head()
        assert error.value.code == "bad_message"


@pytest.mark.parametrize("room", [(24, 24, 32, 0), (24, 24, 32, 8), (7, 0, 9, 0), (1, 1, 1, 0), (5, 3, 255, 255)])
def test_arrays_fill_the_block_one_behind_the_other(room: tuple[int, int, int, int]) -> None:
    features, outputs, windows, early = room
    at = 0
    for place in calibration_arrays(*room).values():
        assert place.offset == at
        assert place.offset % place.dtype.itemsize == 0
        at = place.end
    assert calibration_arrays(*room)["feature_mean"].offset == CalibrationHead.LAYOUT.size == 32
    expected = 32 + 6 * features + 4 * outputs + windows * (1 + features) + (early + 1) * features * bool(early)
    assert at == expected
    assert calibration_bytes(*room) == -(-expected // 4) * 4
    assert calibration_bytes(0, outputs, windows, early) == 0
