"""The domain's statistics against their formulas, and the baselines' thresholds against the device's rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from kilotune.studies import baselines
from kilotune.studies.alarms import episodes, longest_run, sustained
from kilotune.studies.baselines import Measured, fitted, held_back, statistics, student_threshold
from scipy import signal, stats

Floats = npt.NDArray[Any]
RATE_HZ, WINDOW, HOP = 20_000.0, 1024, 512


def figures(g: Floats, name: str) -> Floats:
    found = statistics(g, window=WINDOW, hop=HOP)
    return 2.0 ** found[:, :, baselines.STATISTICS.index(name)]


def noise(seconds: float = 1.0, seed: int = 0, axes: int = 2) -> Floats:
    return np.random.default_rng(seed).normal(0.3, 0.1, (round(seconds * RATE_HZ), axes))


def test_statistics_are_those_of_the_textbook() -> None:
    g = noise()
    for k in (0, 5):
        w = g[k * HOP : k * HOP + WINDOW, 1]
        assert figures(g, "RMS")[k, 1] == pytest.approx(w.std())
        assert figures(g, "peak")[k, 1] == pytest.approx(np.abs(w - w.mean()).max())
        assert figures(g, "crest factor")[k, 1] == pytest.approx(np.abs(w - w.mean()).max() / w.std())
        assert figures(g, "kurtosis")[k, 1] == pytest.approx(stats.kurtosis(w, fisher=False))


def test_strikes_raise_the_envelope_and_a_tone_does_not() -> None:
    t = np.arange(20_000) / RATE_HZ
    tone = noise() + 0.1 * np.sin(2 * np.pi * 50 * t)[:, None]
    struck = noise()
    for at in range(100, 19_000, 200):  # 100 a second, ringing at 5 kHz
        struck[at : at + 60] += (np.sin(2 * np.pi * 5000 * t[:60]) * np.exp(-np.arange(60) / 15))[:, None]
    plain = np.median(figures(noise(), "envelope energy"))
    assert np.median(figures(struck, "envelope energy")) > 5 * plain
    assert np.median(figures(tone, "envelope energy")) < 1.5 * plain
    assert np.median(figures(struck, "envelope kurtosis")) > 1.5 * np.median(figures(noise(), "envelope kurtosis"))


@pytest.mark.parametrize("share", [0.03, 0.1, 0.25, 0.4, 0.47])
def test_the_envelope_of_a_tone_is_its_amplitude_times_the_gain_of_the_filter(share: float) -> None:
    tone = 3 * np.sin(2 * np.pi * share * np.arange(20_011))[:, None]
    _, gain = signal.sosfreqz(signal.butter(4, [0.2, 0.8], "band", output="sos"), [2 * np.pi * share])
    found = baselines.envelope(tone)[2000:-2000]
    assert found.shape == (16_011, 1)
    assert found == pytest.approx(3 * abs(gain[0]), abs=0.01)


def test_a_dead_axis_gives_finite_numbers() -> None:
    g = noise()
    g[:, 0] = 0
    assert np.isfinite(statistics(g, window=WINDOW, hop=HOP)).all()


def test_a_recording_shorter_than_a_window_has_none() -> None:
    assert statistics(noise()[:100], window=WINDOW, hop=HOP).shape == (0, 2, 6)


def test_windows_held_back_are_those_of_the_device() -> None:
    assert np.flatnonzero(held_back(18, 8, 2)).tolist() == [6, 7, 14, 15]
    assert not held_back(5, 1, 0).any()


def test_the_threshold_is_where_one_more_window_would_lie() -> None:
    """Of 1,000 healthy windows 1 % is above, with few windows or many."""
    r = np.random.default_rng(4)
    for n in (8, 60, 250):
        above = [float((r.normal(3, 0.5, 1000) > student_threshold(r.normal(3, 0.5, n))).mean()) for _ in range(200)]
        assert 0.004 < np.mean(above) < 0.016


def measured(g: Floats) -> Measured:
    found = statistics(g, window=WINDOW, hop=HOP)
    cut = np.lib.stride_tricks.sliding_window_view(g, WINDOW, axis=0)[::HOP]
    power = np.abs(np.fft.rfft(cut * np.hanning(WINDOW), axis=-1))[..., 1:513] ** 2
    bands = np.log2(power.reshape(*power.shape[:2], 16, 32).mean(-1))
    return Measured(found, bands.reshape(len(bands), -1))


def test_every_baseline_stays_quiet_on_healthy_windows_and_finds_a_change() -> None:
    learn, test = measured(noise(4, 1)), measured(noise(4, 2))
    held = held_back(len(learn), 8, 2)
    made = fitted(learn[~held], learn[held], seed=1)
    assert [b.name for b in made][:8] == [*baselines.STATISTICS, baselines.Z_SCORE, baselines.MAHALANOBIS]
    loud = measured(3 * noise(1, 3))
    for one in made:
        assert (one.score(test) > one.threshold).mean() <= 0.05, one.name
        if one.name not in ("crest factor", "kurtosis", "envelope kurtosis"):  # these do not know the level
            assert (one.score(loud) > one.threshold).mean() > 0.9, one.name


def test_alarms_are_sustained_by_three_of_five_windows() -> None:
    above = [bool(int(c)) for c in "0110001101001110000"]
    assert "".join(str(int(s)) for s in sustained(above)) == "0000000001100111100"
    assert episodes(above) == 2
    assert longest_run(above) == 3
