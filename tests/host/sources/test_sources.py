"""Readers: what a file says is what a device gets, and a bad file is refused by name, row and column."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.io.wavfile
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.errors import KilotuneError
from kilotune.sources import ReadOptions, Recording, read
from kilotune.sources.recording import resampling_ratio

from tests.support.paths import ROOT

DATA = Path(os.environ.get("KILOTUNE_DATA", ROOT.parent / "shared" / "data"))


def real(*parts: str) -> Path:
    path = DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real data is absent: {path} (set KILOTUNE_DATA)")
    return path


def refused(path: Path, options: ReadOptions | None = None, *, code: str) -> KilotuneError:
    with pytest.raises(KilotuneError) as caught:
        read(path, options)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


# --- csv ---------------------------------------------------------------------------------------


def test_csv_time_column_gives_the_rate_and_is_no_axis(tmp_path: Path) -> None:
    rows = "\n".join(f"{i / 800:.6f},{i % 7},{-i},{0.5 * i}" for i in range(100))
    r = read(write(tmp_path / "a.csv", "time_s,x,y,z\n" + rows + "\n"), ReadOptions(unit="g"))
    assert r.rate_hz == 800.0
    assert r.samples.shape == (100, 3)
    np.testing.assert_array_equal(r.samples[:, 1], -np.arange(100, dtype=np.float32))


def test_csv_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x;y;z\n1;2;3\n4;5;6\n")
    r = read(path, ReadOptions(columns=("z", "0"), rate_hz=10, unit="g"))
    np.testing.assert_array_equal(r.samples, [[3, 1], [6, 4]])


def test_csv_without_header_and_with_comments(tmp_path: Path) -> None:
    r = read(write(tmp_path / "a.csv", "# made by a logger\n1.5,2\n3,4\n"), ReadOptions(rate_hz=5, unit="g"))
    np.testing.assert_array_equal(r.samples, [[1.5, 2], [3, 4]])


def test_csv_nan_is_refused_with_row_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x,y\n1,2\n3,nan\n5,6\n")
    error = refused(path, ReadOptions(rate_hz=5), code="bad_samples")
    assert "row 3" in error.message
    assert "column y" in error.message


def test_csv_infinity_beyond_float32_is_refused(tmp_path: Path) -> None:
    with np.errstate(over="ignore"):
        refused(write(tmp_path / "a.csv", "x\n1\n1e300\n"), ReadOptions(rate_hz=5, unit="g"), code="bad_samples")


def test_csv_nan_row_is_counted_from_the_start_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "x\n" + "1\n" * 20 + "nan\n")
    error = refused(path, ReadOptions(rate_hz=10, start_s=1.0), code="bad_samples")
    assert "row 22" in error.message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x,y\n1,2\n3\n", "row 3 has 1 columns"),
        ("x,y\n1,2\n3,4,5\n", "row 3 has 3 columns"),
        ("x,y\n1,2\n3,\n", "row 3, column y is empty"),
        ("x,y\n1,2\noops,4\n", "row 3, column x holds 'oops'"),
        ("x;y\n1,5;2,5\n", "row 2, column x"),
    ],
)
def test_csv_ragged_or_wordy_rows_are_named(tmp_path: Path, text: str, part: str) -> None:
    error = refused(write(tmp_path / "a.csv", text), ReadOptions(rate_hz=5), code="bad_file")
    assert part in error.message


def test_csv_with_a_gap_in_time_is_refused(tmp_path: Path) -> None:
    times = [*range(50), *range(60, 100)]
    path = write(tmp_path / "a.csv", "time_ms,x\n" + "".join(f"{t},1\n" for t in times))
    assert "row 52" in refused(path, code="gap").message


def test_csv_of_only_a_header_is_empty(tmp_path: Path) -> None:
    refused(write(tmp_path / "a.csv", "x,y\n"), ReadOptions(rate_hz=5), code="empty")


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
    refused(write(tmp_path / "a.xyz", "1"), code="bad_file")
    refused(tmp_path / "none.csv", code="no_file")
    refused(tmp_path, code="no_file")


# --- arrays ------------------------------------------------------------------------------------


def test_npy_int16_stays_counts(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(-32768, 32767, (50, 3), dtype=np.int16)
    np.save(tmp_path / "a.npy", x)
    r = read(tmp_path / "a.npy", ReadOptions(rate_hz=100))
    assert r.unit == "counts"
    assert r.samples.dtype == np.int16
    np.testing.assert_array_equal(r.samples, x)


def test_rate_is_asked_for_where_the_file_has_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((50, 1)))
    assert "--rate" in refused(tmp_path / "a.npy", code="no_rate").hint


def test_npz_scalar_fs_is_the_rate_and_can_be_overridden_with_a_note(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", acc=np.zeros((50, 2)), fs=1600.0)
    assert read(tmp_path / "a.npz").rate_hz == 1600.0
    r = read(tmp_path / "a.npz", ReadOptions(rate_hz=800))
    assert r.rate_hz == 800
    assert any("overrides" in n for n in r.notes)


def test_npz_with_several_signals_asks_which(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros((50, 2)), b=np.ones((50, 1)), fs=10.0)
    error = refused(tmp_path / "a.npz", code="no_column")
    assert "a (50, 2)" in error.message
    assert "b (50, 1)" in error.message
    r = read(tmp_path / "a.npz", ReadOptions(columns=("b", "a:1")))
    np.testing.assert_array_equal(r.samples[0], [1, 0])


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], dtype=object))
    assert "objects" in refused(tmp_path / "a.npy", code="bad_file").message


def test_arrays_lying_on_their_side_or_with_three_dimensions_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 500)))
    assert "transpose" in refused(tmp_path / "a.npy", ReadOptions(rate_hz=5), code="bad_file").hint
    np.save(tmp_path / "b.npy", np.zeros((30, 20, 3)))
    refused(tmp_path / "b.npy", ReadOptions(rate_hz=5), code="bad_file")


def test_mat_columns_by_the_end_of_their_names(tmp_path: Path) -> None:
    de, fe = np.arange(64.0)[:, None], np.ones((64, 1))
    scipy.io.savemat(tmp_path / "a.mat", {"X097_DE_time": de, "X097_FE_time": fe, "X097RPM": 1796})
    r = read(tmp_path / "a.mat", ReadOptions(columns=("DE_time",), rate_hz=48000, unit="g"))
    np.testing.assert_array_equal(r.samples, de)


def test_wav_rate_and_counts(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(-3000, 3000, (400, 2), dtype=np.int16)
    scipy.io.wavfile.write(tmp_path / "a.wav", 16000, x)
    r = read(tmp_path / "a.wav")
    assert r.rate_hz == 16000
    assert r.unit == "counts"
    np.testing.assert_array_equal(r.samples, x)


def test_truncated_wav_is_refused(tmp_path: Path) -> None:
    scipy.io.wavfile.write(tmp_path / "a.wav", 16000, np.zeros(4000, np.int16))
    whole = (tmp_path / "a.wav").read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "a.wav", code="bad_file")


# --- units, cutting, resampling ----------------------------------------------------------------


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


# --- a simulated machine -----------------------------------------------------------------------


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


# --- real files --------------------------------------------------------------------------------


def test_real_adi_record_in_g_as_its_source_states() -> None:
    path = real("adi_cbm_adxl356", "1200_HIR_GS_BaLo_WA_00lb.npz")
    options = ReadOptions(scale=("1e-8",), offset=("zero_g_v",), unit="volts", sensitivity_v_per_g=0.02)
    r = read(path, options)
    assert r.rate_hz == 20000
    assert r.samples.shape == (40000, 3)
    np.testing.assert_allclose(r.samples.std(0), [1.253, 0.768, 2.692], atol=6e-4)
    np.testing.assert_allclose(r.samples.mean(0), [-0.019, -0.004, -0.271], atol=6e-4)


def test_real_cwru_mat_both_sensors_resampled() -> None:
    path = real("cwru", "97_Normal_0.mat")
    options = ReadOptions(columns=("DE_time", "FE_time"), rate_hz=48000, unit="g")
    r = read(path, options)
    assert r.samples.shape == (243938, 2)
    assert float(r.samples[:, 0].std()) == pytest.approx(0.0727, abs=1e-4)
    assert abs(r.resampled(20000).samples.shape[0] - 243938 * 20 / 48) <= 1


def test_real_cwru_npz() -> None:
    r = read(real("cwru", "169_0.npz"), ReadOptions(unit="g"))
    assert r.rate_hz == 12000
    assert float(r.samples.std()) == pytest.approx(0.1948, abs=1e-4)


def test_real_ceiling_fan_counts_and_g() -> None:
    path = real("ceiling_fan_msa301", "fan_0_low_0_weight.npz")
    counts, g = read(path), read(path, ReadOptions(scale=("g_per_count",)))
    assert counts.unit == "counts"
    assert g.unit == "g"
    assert g.rate_hz == 200
    np.testing.assert_allclose(g.samples.std(0), [0.0090, 0.0071, 0.0051], atol=1e-4)
