"""Every format, written as its instrument writes it: the values, rate, unit and axes that went in come out."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from kilotune.recordings import ReadOptions, read
from scipy.io import savemat

from tests.support.recording_examples import EXAMPLES, FULL_SCALE_G, PAGE, Example, examples_table
from tests.support.recordings import refused


def written(example: Example, folder: Path) -> Path:
    if example.package:
        pytest.importorskip(example.package)
    path = folder / example.name
    example.write(path)
    return path


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.what)
def test_what_went_in_comes_out(example: Example, tmp_path: Path) -> None:
    r = read(written(example, tmp_path), example.options)
    assert r.unit == "g"
    assert r.rate_hz == pytest.approx(example.rate_hz, rel=2e-4)
    assert r.starts == (0,)
    assert r.samples.shape == example.g.shape
    np.testing.assert_allclose(r.samples, example.g, atol=example.tolerance * FULL_SCALE_G)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.what)
def test_a_part_is_that_part(example: Example, tmp_path: Path) -> None:
    from dataclasses import replace

    path = written(example, tmp_path)
    first, count = 160, 320
    options = replace(example.options, start_s=first / example.rate_hz, seconds=count / example.rate_hz)
    r = read(path, options)
    np.testing.assert_allclose(r.samples, example.g[first : first + count], atol=example.tolerance * FULL_SCALE_G)


def test_the_table_of_the_docs_is_what_is_read() -> None:
    if not all(find_spec(e.package) for e in EXAMPLES if e.package):
        pytest.skip("a package of the extra `formats` is not installed")
    assert examples_table() in PAGE.read_text(encoding="utf-8")


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = next(e for e in EXAMPLES if e.package == "h5py")
    path = written(example, tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    error = refused(path, code="missing_package")
    assert "h5py" in error.message
    assert "pip install 'kilotune[formats]'" in error.hint


def test_several_signals_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    one, two = np.random.default_rng(0).normal(size=(2, 400))
    savemat(path, {"run": {"left": {"y": one}, "right": {"y": two}, "fs": 1000.0}})
    told = refused(path, code="no_column").message
    assert "run.left.y" in told
    assert "run.right.y" in told
    for wanted in ("run.right.y", "run.right", "right"):
        r = read(path, ReadOptions(variable=wanted))
        np.testing.assert_allclose(r.samples[:, 0], two, rtol=1e-6)
        assert r.rate_hz == 1000
    assert "run.left.y" in refused(path, ReadOptions(variable="nothing"), code="no_column").message


def test_of_the_signals_of_a_test_rig_the_vibration_is_read(tmp_path: Path) -> None:
    example = next(e for e in EXAMPLES if "Paderborn" in e.what)
    r = read(written(example, tmp_path))  # beside it are force and phase current
    np.testing.assert_allclose(r.samples, example.g, atol=1e-6)


def test_a_wav_without_a_scale_is_counts_of_16_bits_with_a_note(tmp_path: Path) -> None:
    example = next(e for e in EXAMPLES if "24 bits" in e.what)
    r = read(written(example, tmp_path))
    assert r.unit == "counts"
    assert r.samples.dtype == np.int16
    np.testing.assert_allclose(r.samples, example.g / FULL_SCALE_G * 32768, atol=0.51)
    assert any("16 bits" in n for n in r.notes)
    assert any("--scale" in n for n in r.notes)


def test_a_float_wav_beyond_its_full_scale_is_asked_about(tmp_path: Path) -> None:
    from scipy.io import wavfile

    wavfile.write(tmp_path / "a.wav", 1600, np.linspace(-3, 3, 400, dtype=np.float32))
    refused(tmp_path / "a.wav", code="ambiguous")
    assert read(tmp_path / "a.wav", ReadOptions(unit="g")).samples.max() == 3.0


def test_lost_packets_and_gaps_of_a_datalog_are_seen(tmp_path: Path) -> None:
    example = next(e for e in EXAMPLES if "second form" in e.what)
    folder = written(example, tmp_path)
    data = folder / "iis3dwb_acc.dat"
    content = data.read_bytes()
    data.write_bytes(content[:1024] + content[2048:])
    assert "packets" in refused(folder, code="bad_file").message
    first = written(next(e for e in EXAMPLES if "first form" in e.what), tmp_path)
    data = first / "IIS3DWB_ACC.dat"
    content = data.read_bytes()
    frame = 100 * 3 * 2 + 8
    data.write_bytes(content[: 3 * frame] + content[5 * frame :])
    assert read(first).starts == (0, 300)
