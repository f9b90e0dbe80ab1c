"""Feature settings: bands, tables and limits as SPEC 1.6 says."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.errors import KilotuneError
from kilotune.image.features import FEATURE_SECTION_BYTES, FeatureConfig

CONFIG = FeatureConfig(rate_hz=20000, window=1000, hop=500, fft_points=1024, bands=16, statistics=("rms", "crest"))


@given(
    st.sampled_from(["log", "mel"]),
    st.sampled_from([64, 256, 1024, 2048]),
    st.integers(1, 48),
    st.floats(1.0, 300.0),
)
@settings(deadline=None)
def test_bands_cover_without_gaps_and_none_is_empty(scale: str, points: int, bands: int, low: float) -> None:
    config = FeatureConfig(
        rate_hz=1600, window=min(64, points), hop=32, fft_points=points, bands=bands, scale=scale, low_hz=low
    )
    bins = config.bins()
    assert len(bins) == bands
    assert all(0 <= first < end <= points // 2 + 1 for first, end in bins)
    assert bins[-1][1] == points // 2 + 1
    width = 1600 / points
    for (first, end), a, b in zip(bins, config.edges()[:-1], config.edges()[1:], strict=True):
        inside = [k for k in range(points // 2) if a + 1e-6 <= k * width < b - 1e-6]
        assert set(inside) <= set(range(first, end))
        if not inside:
            assert end - first <= 2


def test_the_section_holds_what_was_set() -> None:
    section = CONFIG.section(400)
    fields = struct.unpack_from("<HHHBBIIHHIIhh", section)
    assert fields[:9] == (1000, 500, 1024, 3, 1 | 4, 20_000_000, 16_000_000, 16, 18)
    bands_at, tables_at, reference, floor = fields[9:]
    assert bands_at == 400 + FEATURE_SECTION_BYTES
    assert reference == round(1024 * math.log2(1e-4 * (32768 / 16) ** 2))
    assert floor == round(1024 * math.log2(1e-6))
    assert len(section) == tables_at - 400 + 4 * (1024 // 4 + 1) + 4 * (1000 // 2 + 1)
    sines = np.frombuffer(section, "<i4", 257, tables_at - 400)
    assert (sines[0], sines[256]) == (0, 2**31 - 1)
    assert abs(sines[128] / 2**31 - math.sqrt(0.5)) < 1e-9
    hann = np.frombuffer(section, "<i4", 501, tables_at - 400 + 4 * 257)
    assert (hann[0], hann[500]) == (0, 2**31 - 1)


def test_without_padding_the_window_comes_from_the_sines() -> None:
    config = FeatureConfig(rate_hz=1600, window=256, hop=128, fft_points=256, bands=4)
    tables_at = struct.unpack_from("<I", config.section(0), 24)[0]
    assert len(config.section(0)) == tables_at + 4 * 65


def test_json_round_trip() -> None:
    import json

    assert FeatureConfig.from_json(json.loads(json.dumps(CONFIG.to_json()))) == CONFIG
    custom = FeatureConfig(rate_hz=1600, bands=2, scale="custom", edges_hz=(5.0, 80.0, 400.0))
    assert FeatureConfig.from_json(custom.to_json()) == custom


def test_names_are_one_an_input() -> None:
    assert len(CONFIG.names()) == CONFIG.inputs == 54
    assert CONFIG.names()[0].startswith("x ")
    assert CONFIG.names()[-1] == "z crest"


@pytest.mark.parametrize(
    "change",
    [
        {"window": 8},
        {"window": 4096},
        {"hop": 0},
        {"hop": 2000},
        {"fft_points": 512},
        {"fft_points": 1000},
        {"axes": 0},
        {"axes": 5},
        {"rate_hz": 0.0},
        {"rate_hz": float("nan")},
        {"bands": 0},
        {"scale": "linear"},
        {"shape": "square"},
        {"low_hz": 0.0},
        {"low_hz": 9999999.0},
        {"high_hz": 10001.0},
        {"scale": "custom", "edges_hz": (1.0, 2.0)},
        {"statistics": ("mean",)},
        {"full_scale_g": 0.0},
        {"reference_g2": 1e-30},
        {"floor_g2": 0.0},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    data = CONFIG.to_json() | change
    with pytest.raises(KilotuneError) as caught:
        FeatureConfig.from_json(data)
    assert caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("data", [None, [], {"rate": 1}, {}, {"rate_hz": "fast"}, {"rate_hz": 1600, "window": "x"}])
def test_settings_of_a_wrong_type_are_refused(data: object) -> None:
    with pytest.raises(KilotuneError):
        FeatureConfig.from_json(data)
