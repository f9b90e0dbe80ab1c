"""Recordings: what a file says is what a device gets, in its unit and at its rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.errors import KilotuneError
from kilotune.recordings import ReadOptions, Recording, read
from kilotune.recordings.recording import resampling_ratio

from tests.support import shared_data
from tests.support.recordings import refused, write_text


@pytest.mark.parametrize("name", ["a.csv", "a.npy", "a.npz", "a.mat", "a.wav"])
def test_empty_files_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    refused(tmp_path / name, code="empty")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.mat", "a.wav", "a.csv"])
def test_random_bytes_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(4000))
    with pytest.raises(KilotuneError) as caught:
        read(tmp_path / name, ReadOptions(rate_hz=5))
    assert caught.value.code == "bad_file"


def test_unknown_ending_missing_file_and_folder(tmp_path: Path) -> None:
    refused(write_text(tmp_path / "a.xyz", "1"), code="bad_file")
    refused(tmp_path / "none.csv", code="no_file")
    refused(tmp_path, code="no_file")


def test_units_become_g(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((20, 1), 9.80665))
    assert read(tmp_path / "a.npy", ReadOptions(rate_hz=5, unit="ms2")).samples[0, 0] == pytest.approx(1.0)
    volts = ReadOptions(rate_hz=5, unit="volts", offset=("9.78665",), sensitivity_v_per_g=0.02)
    assert read(tmp_path / "a.npy", volts).samples[0, 0] == pytest.approx(1.0, rel=1e-4)
    refused(tmp_path / "a.npy", ReadOptions(rate_hz=5, unit="volts"), code="bad_argument")


def test_counts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((20, 1), 40000))
    refused(tmp_path / "a.npy", ReadOptions(rate_hz=5, unit="counts"), code="bad_samples")


def test_scale_by_a_value_stored_in_the_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", counts=np.full((50, 3), 2048, np.int16), g_per_count=1 / 2048, fs=200.0)
    r = read(tmp_path / "a.npz", ReadOptions(scale=("g_per_count",)))
    assert r.unit == "g"
    np.testing.assert_array_equal(r.samples, 1.0)
    refused(tmp_path / "a.npz", ReadOptions(scale=("nothing",)), code="bad_argument")


def test_start_and_seconds_choose_a_part(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(100.0)[:, None])
    r = read(tmp_path / "a.npy", ReadOptions(rate_hz=10, start_s=2, seconds=3, unit="g"))
    np.testing.assert_array_equal(r.samples[:, 0], np.arange(20, 50))
    refused(tmp_path / "a.npy", ReadOptions(rate_hz=10, start_s=10), code="bad_argument")


def test_resampling_keeps_a_tone_and_removes_what_would_fold_back() -> None:
    t = np.arange(48000) / 48000
    low, high = np.sin(2 * np.pi * 1000 * t), np.sin(2 * np.pi * 15000 * t)
    r = Recording((low + high + 3.0).astype(np.float32)[:, None], 48000, "tones").resampled(20000)
    assert r.samples.shape[0] == 20000
    spectrum = abs(np.fft.rfft(r.samples[:, 0] * np.hanning(20000))) / 5000
    assert spectrum[1000] == pytest.approx(1.0, abs=0.01)
    assert spectrum[5000] < 1e-3  # where 15 kHz would fold to
    assert r.samples.mean() == pytest.approx(3.0, abs=1e-3)
    assert "band-limited" in r.notes[-1]


def test_upsampling_says_what_is_missing() -> None:
    slow = Recording(np.zeros((200, 1), np.float32), 200, "slow")
    with pytest.raises(KilotuneError, match="made for 1600 Hz") as caught:
        slow.resampled(1600)
    assert caught.value.code == "wrong_rate"
    r = slow.resampled(1600, upsample=True)
    assert r.samples.shape[0] == 1600
    assert "it has nothing above 100 Hz" in r.notes[-1]


def test_counts_stay_counts_when_resampled() -> None:
    x = np.full((400, 1), 32767, np.int16)
    r = Recording(x, 400, "full scale", "counts").resampled(200)
    assert r.samples.dtype == np.int16
    assert r.samples.max() <= 32767


def test_rates_without_a_small_ratio_are_refused() -> None:
    with pytest.raises(KilotuneError, match="ratio"):
        resampling_ratio(20000.0, 0.001, "a")


@settings(max_examples=60, deadline=None)
@given(st.floats(50, 100_000), st.floats(50, 100_000))
def test_a_ratio_that_is_given_is_true(rate: float, wanted: float) -> None:
    try:
        ratio = resampling_ratio(rate, wanted, "a")
    except KilotuneError:
        return
    assert float(ratio) * rate == pytest.approx(wanted, rel=2e-4)


def test_synthetic_machine_is_repeatable_and_knows_its_faults() -> None:
    a = read("synthetic:inner,severity=0.5,seed=3,seconds=0.5", model_rate_hz=20000)
    b = read("synthetic:inner,severity=0.5,seed=3,seconds=0.5", model_rate_hz=20000)
    healthy = read("synthetic:healthy,seed=3,seconds=0.5", model_rate_hz=20000)
    np.testing.assert_array_equal(a.samples, b.samples)
    assert a.samples.shape == (10000, 3)
    assert a.unit == "g"
    assert not np.array_equal(a.samples, healthy.samples)
    for wrong in ("synthetic:unknown", "synthetic:inner,size=3", "synthetic:inner,severity=much"):
        with pytest.raises(KilotuneError) as caught:
            read(wrong)
        assert caught.value.code == "bad_argument"


def test_real_adi_record_in_g_as_its_source_states() -> None:
    path = shared_data.path("adi_cbm_adxl356/1200_HIR_GS_BaLo_WA_00lb.npz")
    options = ReadOptions(scale=("1e-8",), offset=("zero_g_v",), unit="volts", sensitivity_v_per_g=0.02)
    r = read(path, options)
    assert r.rate_hz == 20000
    assert r.samples.shape == (40000, 3)
    np.testing.assert_allclose(r.samples.std(0), [1.253, 0.768, 2.692], atol=6e-4)
    np.testing.assert_allclose(r.samples.mean(0), [-0.019, -0.004, -0.271], atol=6e-4)


def test_real_cwru_mat_both_sensors_resampled() -> None:
    path = shared_data.path("cwru/97_Normal_0.mat")
    options = ReadOptions(columns=("DE_time", "FE_time"), rate_hz=48000, unit="g")
    r = read(path, options)
    assert r.samples.shape == (243938, 2)
    assert float(r.samples[:, 0].std()) == pytest.approx(0.0727, abs=1e-4)
    assert abs(r.resampled(20000).samples.shape[0] - 243938 * 20 / 48) <= 1


def test_real_cwru_npz() -> None:
    r = read(shared_data.path("cwru/169_0.npz"), ReadOptions(unit="g"))
    assert r.rate_hz == 12000
    assert float(r.samples.std()) == pytest.approx(0.1948, abs=1e-4)


def test_real_ceiling_fan_counts_and_g() -> None:
    path = shared_data.path("ceiling_fan_msa301/fan_0_low_0_weight.npz")
    counts, g = read(path), read(path, ReadOptions(scale=("g_per_count",)))
    assert counts.unit == "counts"
    assert g.unit == "g"
    assert g.rate_hz == 200
    np.testing.assert_allclose(g.samples.std(0), [0.0090, 0.0071, 0.0051], atol=1e-4)
