"""Files of arrays and sound: counts stay counts, and nothing is guessed or unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.io
import scipy.io.wavfile
from kilotune.recordings import ReadOptions, read

from tests.support.recordings import refused


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
