"""Recordings that are damaged, endless or huge: an error with their name, in bounded time and memory."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from kilotune.common.arrays import load_array
from kilotune.errors import KilotuneError
from kilotune.recordings import ReadOptions, read
from scipy.io import savemat


def damaged(folder: Path) -> dict[str, Path]:
    """Recordings that their readers trip over in ways of their own."""
    made = {name: folder / name for name in ("zip.npy", "flipped.mat", "header.wav", "endless.csv", "huge.npz")}
    made["zip.npy"].write_bytes(b"PK\x03\x04" + bytes(200))
    noise = np.random.default_rng(0).normal(size=(3000, 3))
    savemat(made["flipped.mat"], {"x": noise, "fs": 100.0}, do_compression=True)
    content = bytearray(made["flipped.mat"].read_bytes())
    content[1000:1200] = bytes(200)
    made["flipped.mat"].write_bytes(content)
    made["header.wav"].write_bytes(b"RIFF" + bytes([36, 0, 0, 0]) + b"WAVEfmt " + bytes([16, 0, 0, 0, 1, 0]))
    made["endless.csv"].write_text("x" * 300_000 + "\n1,2,3\n")
    shape = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }".ljust(117) + b"\n"
    with zipfile.ZipFile(made["huge.npz"], "w") as archive:
        archive.writestr("samples.npy", b"\x93NUMPY\x01\x00\x76\x00" + shape)
    return made


@pytest.mark.parametrize("name", ["zip.npy", "flipped.mat", "header.wav", "endless.csv", "huge.npz"])
def test_a_damaged_recording_is_an_error_with_its_name(name: str, tmp_path: Path) -> None:
    path = damaged(tmp_path)[name]
    with pytest.raises(KilotuneError, match=name) as error:
        read(path, ReadOptions(rate_hz=100.0))
    assert error.value.code == "bad_file"
    assert len(error.value.message) < 500
    if path.suffix == ".npy":
        with pytest.raises(KilotuneError):
            load_array(path)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0, 1e308])
def test_a_start_that_is_no_place_in_a_recording_is_refused(wrong: float, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100, 3), np.float32))
    with pytest.raises(KilotuneError) as error:
        read(tmp_path / "x.npy", ReadOptions(rate_hz=100.0, start_s=wrong))
    assert error.value.code == "bad_argument"
    assert len(read(tmp_path / "x.npy", ReadOptions(rate_hz=100.0, seconds=1e308)).samples) == 100


@pytest.mark.parametrize(
    ("spec", "code"),
    [("synthetic:healthy,seed=nan", "bad_argument"), ("synthetic:healthy,seconds=1e12", "too_large")],
)
def test_a_machine_cannot_be_simulated_without_bounds(spec: str, code: str) -> None:
    with pytest.raises(KilotuneError) as error:
        read(spec)
    assert error.value.code == code
