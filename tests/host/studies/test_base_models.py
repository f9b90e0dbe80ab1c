"""The base models that ship: which one fits which recordings, and that each is what its name says."""

from __future__ import annotations

import re
from pathlib import Path

import kilotune
import pytest
from kilotune.errors import KilotuneError
from kilotune.image.metadata import read
from kilotune.studies.base_models import anomaly_model_for, base_model, shipped
from kilotune.targets.fit import fits
from kilotune.terms import Loss


@pytest.mark.parametrize(
    ("rate_hz", "axes", "name"),
    [
        (1_600, 1, "vibration_ae_1k6_1axis"),
        (1_570, 3, "vibration_ae_1k6"),
        (3_300, 2, "vibration_ae_3k2_2axes"),
        (12_000, 1, "vibration_ae_12k_1axis"),
        (20_000, 3, "vibration_ae_20k"),
        (20_000, 1, "vibration_ae_12k_1axis"),
        (48_000, 1, "vibration_ae_25k6_1axis"),
        (97_656, 2, "vibration_ae_25k6_2axes"),
    ],
)
def test_recordings_get_the_fastest_model_that_they_can_feed(rate_hz: float, axes: int, name: str) -> None:
    assert anomaly_model_for(rate_hz, axes).stem == name


def test_recordings_that_feed_none_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for rate_hz, axes, code in ((200, 3, "wrong_rate"), (20_000, 4, "wrong_axes")):
        with pytest.raises(KilotuneError) as caught:
            anomaly_model_for(rate_hz, axes)
        assert caught.value.code == code
        assert "kilotune base --healthy" in caught.value.hint
    monkeypatch.setenv("KILOTUNE_BASE_MODEL", "mine.tflite")
    assert anomaly_model_for(200, 9) == Path("mine.tflite")


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.stem)
def test_a_shipped_model_is_what_its_name_says(path: Path) -> None:
    features = read(path.read_bytes()).features
    assert features is not None
    named = re.search(r"_(\d+)k(\d?)(?:_(\d)ax[ie]s)?$", path.stem)
    if named:
        assert features.rate_hz == 1000 * int(named[1]) + 100 * int(named[2] or 0)
        assert features.axes == int(named[3] or 3)
    image = kilotune.compile(path.read_bytes(), method="bias+head")
    assert image.loss in (Loss.reconstruction, Loss.classification)
    assert {"mps2-an386", "nrf52840dk", "rpi_pico"} <= {fit.board for fit in fits(image) if fit.fits}


@pytest.mark.parametrize(
    ("name", "method"), [("vibration_ae_1k6_1axis", "bias+head"), ("vibration_ae_1k6_2axes", "bias")]
)
def test_there_is_a_model_for_a_board_of_16_kilobytes(name: str, method: str) -> None:
    image = kilotune.compile(base_model(name).read_bytes(), method=method)
    assert {"microbit"} <= {fit.board for fit in fits(image) if fit.fits}
