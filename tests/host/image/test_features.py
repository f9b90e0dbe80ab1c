"""The device's features, through the section that the host writes, against float64 numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from kilotune import _native
from kilotune.image.features import FeatureConfig

from tests.support import shared_data
from tests.support.arrays import Floats

SECTION_AT = 4
Counts = npt.NDArray[np.int16]  # (n, axes)


def device(config: FeatureConfig, counts: Counts) -> Floats:
    """int16 counts (n, axes) to log2 features (windows, inputs)."""
    found: Floats = _native.features(bytes(SECTION_AT) + config.section(SECTION_AT), SECTION_AT, counts) / 1024
    return found


def band_weights(config: FeatureConfig) -> Floats:
    """(bands, bins), each row adding up to 1; written from SPEC 1.6, not from the code under test."""
    bins = np.arange(config.fft_points // 2 + 1)
    if config.shape == "flat":
        rows = [(bins >= first) & (bins < end) for first, end in config.bins()]
        weights = np.array(rows, float)
    else:
        edges = np.array(config.edges()) * config.fft_points / config.rate_hz
        centres = np.sqrt(edges[:-1] * edges[1:])
        half = np.maximum(np.gradient(centres), 1.5)
        # Centre and half width are kept in 1/32 bin.
        centres, half = np.round(32 * centres) / 32, np.round(32 * half) / 32
        weights = np.maximum(0, 1 - np.abs(bins - centres[:, None]) / half[:, None])
        weights[:, 0] = 0
    return np.asarray(weights / weights.sum(1, keepdims=True))


def reference(config: FeatureConfig, counts: Counts) -> Floats:
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window) / config.window)
    scale = 2.0 ** (config.reference_q10 / 1024)
    floor = scale * 2.0 ** (config.floor_q10 / 1024)
    weights, rows = band_weights(config), []
    for start in range(0, len(counts) - config.window + 1, config.hop):
        row = []
        for axis in range(config.axes):
            x = counts[start : start + config.window, axis].astype(float)
            x -= x.mean()
            energy = np.abs(np.fft.rfft(x * window, config.fft_points)) ** 2 / config.window
            row += list(np.log2((weights @ energy + floor) / scale))
            rms, peak = (
                np.log2(((x**2).mean() + floor) / scale),
                np.log2((np.abs(x).max() ** 2 + floor) / scale),
            )
            kurtosis = np.log2((x**4).mean() + floor**2) - 2 * np.log2((x**2).mean() + floor)
            values = {"rms": rms, "peak": peak, "crest": peak - rms, "kurtosis": kurtosis}
            row += [v for name, v in values.items() if name in config.statistics]
        rows.append(row)
    return np.array(rows)


CONFIGS = {
    "flat": FeatureConfig(20_000, 1024, 512, 1024, 3),
    "triangle": FeatureConfig(20_000, 1024, 512, 1024, 3, low_hz=0.75 * 20_000 / 1024, shape="triangle"),
    "padded": FeatureConfig(200, 200, 100, 256, 3, low_hz=0.75 * 200 / 256, shape="triangle"),
    "longest": FeatureConfig(1_600, 2048, 2048, 2048, 1, statistics=("rms", "kurtosis")),
    "shortest": FeatureConfig(1_000, 16, 5, 64, 2, bands=4, statistics=("peak", "crest")),
    "mel": FeatureConfig(16_000, 512, 256, 512, 1, scale="mel"),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("level", [3, 300, 8_000])
def test_features_agree_with_float64(name: str, level: int) -> None:
    config = CONFIGS[name]
    noise = np.random.default_rng(level).normal(1000, level, (4 * config.window, config.axes))
    counts = np.clip(np.round(noise), -32768, 32767).astype(np.int16)
    error = np.abs(device(config, counts) - reference(config, counts))
    assert np.median(error) < 0.0005
    assert error.max() < 0.01


def test_a_gain_moves_every_band_by_its_square() -> None:
    config = CONFIGS["triangle"]
    counts = np.random.default_rng(1).integers(-2000, 2000, (1024, 3)).astype(np.int16)
    assert device(config, counts * 8) - device(config, counts) == pytest.approx(6, abs=0.002)


def test_features_of_real_vibration_agree_with_float64() -> None:
    config = CONFIGS["triangle"]
    for path in sorted(shared_data.path("adi_cbm_adxl356").glob("*.npz"))[::20]:
        d = np.load(path)
        g = d["g_per_v"] * (d["v_1e8"] / 1e8 - d["zero_g_v"])
        counts = np.clip(np.round(g / config.full_scale_g * 32768), -32768, 32767).astype(np.int16)
        error = np.abs(device(config, counts) - reference(config, counts))
        assert np.median(error) < 0.0005
        assert error.max() < 0.01
