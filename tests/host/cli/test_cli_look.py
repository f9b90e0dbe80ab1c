"""`look` as a process: what it says of files, folders and patterns, and how it refuses what is in doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.command_line import failed, run
from tests.support.tables import RATE_HZ, ROWS, noise, seconds, table, write


def tone() -> npt.NDArray[np.float64]:
    wave: npt.NDArray[np.float64] = np.sin(2 * np.pi * 100 * seconds())
    return wave.round(9)


def test_a_file_is_described_axis_by_axis(tmp_path: Path) -> None:
    path = write(
        tmp_path, table((seconds(), tone() * 9.80665, noise()[:, 0]), "time_s,x (m/s^2),y (m/s²)", form="%.9f")
    )
    (found,) = run("look", path, fake=False)["files"]
    assert (found["file"], found["rate_hz"], found["samples"], found["stretches"]) == (str(path), RATE_HZ, ROWS, 1)
    assert "time_s" in found["rate_from"]
    x = found["axes"][0]
    assert (x["name"], x["unit"]) == ("x", "m/s^2")
    assert x["rms_g"] == pytest.approx(np.sqrt(0.5), rel=1e-4)
    assert x["peak_g"] == pytest.approx(1.0, rel=1e-4)
    assert x["dc_g"] == pytest.approx(0.0, abs=1e-6)
    assert x["kurtosis"] == pytest.approx(1.5, rel=1e-3)
    assert x["crest"] == pytest.approx(np.sqrt(2), rel=1e-3)


def test_clipped_and_constant_stretches_and_gaps_are_counted(tmp_path: Path) -> None:
    x, t = np.clip(tone(), -0.5, 0.5), seconds()
    t[200:] += 1.0
    dead = np.concatenate([noise()[:200, 0], np.zeros(ROWS - 200)])
    path = write(tmp_path, table((t, x, dead), "time_s,x (g),y (g)"))
    (found,) = run("look", path, fake=False)["files"]
    assert found["stretches"] == 2
    assert found["gaps"] == 1
    assert found["axes"][0]["clipped"] > 100
    assert found["axes"][1]["constant"] == 1


def test_counts_have_no_figures_in_g(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", (noise() * 100).astype(np.int16))
    (found,) = run("look", tmp_path / "a.npy", "--rate", RATE_HZ, fake=False)["files"]
    assert found["unit"] == "counts"
    assert found["axes"][0]["rms_g"] is None
    assert found["axes"][0]["rms"] == pytest.approx(100, rel=0.1)


def test_folders_and_patterns_mean_their_files_in_natural_order(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for k in (1, 2, 10):
        write(folder, table((seconds(), tone()), "time_s,x (g)"), f"r{k}.csv")
    write(folder, "About these.", "README.md")
    names = [str(folder / f"r{k}.csv") for k in (1, 2, 10)]
    for source in (folder, folder / "*.csv", folder / "r?*.csv"):
        assert [f["file"] for f in run("look", source, fake=False)["files"]] == names


def test_doubts_end_the_command_with_the_option_that_decides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, table((seconds(), tone() + 9.81), "time_s,x"))
    error = failed(capsys, "look", path)
    assert (error["code"], error["exit_code"]) == ("ambiguous", 1)
    assert "--unit" in error["hint"]
    assert failed(capsys, "look", tmp_path / "*.wav")["code"] == "no_file"
    assert failed(capsys, "look", tmp_path / "none")["code"] == "no_file"


def test_a_page_is_written_that_refers_to_nothing_and_runs_nothing(tmp_path: Path) -> None:
    name = "<script>alert(1)<&'.csv"
    path = write(
        tmp_path, table((seconds(), tone(), noise()[:, 0]), "time_s,<img src=q onerror=alert(2)> x (g),y (g)"), name
    )
    page = tmp_path / "look.html"
    run("look", path, "--plot", page, fake=False)
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<img" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<svg") == 2 * 2 * 3  # for two axes in two widths: waveform, spectrum, envelope spectrum


def test_a_page_never_overwrites_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, table((seconds(), tone()), "time_s,x (g)"))
    assert failed(capsys, "look", path, "--plot", path)["code"] == "bad_argument"


def test_the_envelope_spectrum_shows_what_knocks_and_not_only_what_rings() -> None:
    from kilotune.report.recording_page import _envelope, _spectrum

    rate_hz, knocks_hz = 20_000.0, 87.0
    t = np.arange(40_000) / rate_hz
    ringing = np.sin(2 * np.pi * 6000 * t) * np.exp(-600 * (t % (1 / knocks_hz)))
    frequency, amplitude = _spectrum(_envelope(ringing), rate_hz)
    assert frequency[np.argmax(amplitude)] == pytest.approx(knocks_hz, abs=5)
    frequency, amplitude = _spectrum(ringing, rate_hz)
    assert frequency[np.argmax(amplitude)] == pytest.approx(6000, abs=100)
