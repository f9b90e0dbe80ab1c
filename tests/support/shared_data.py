"""Finds the real data that some tests need, or skips with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.paths import ROOT


def path(name: str) -> Path:
    root = Path(os.environ.get("KILOTUNE_DATA") or ROOT.parent / "shared" / "data")
    file = root / name
    if not file.exists():
        pytest.skip(f"{name} is not in {root}: set KILOTUNE_DATA to the data folder")
    return file


def ad01() -> bytes:
    return path("tflite_models/mlperf_tiny/ad01_int8.tflite").read_bytes()


def hello_world() -> bytes:
    return path("tflite_models/tflm/hello_world_int8.tflite").read_bytes()


def keyword_spotting() -> bytes:
    return path("tflite_models/mlperf_tiny/kws_ref_model.tflite").read_bytes()


def ad01_windows() -> npt.NDArray[np.int8]:
    """(196, 640): five consecutive frames of 128 log-mel values per window, quantised for the model."""
    file = path("tflite_models/mlperf_tiny/vectors/normal_id_01_00000000_hist_librosa.bin")
    frames = np.fromfile(file, "<f4").reshape(-1, 128)
    windows = np.stack([frames[i : i + 5].reshape(-1) for i in range(len(frames) - 4)])
    quantised: npt.NDArray[np.int8] = np.clip(np.rint(windows / np.float32(0.39101523)) + 89, -128, 127).astype(np.int8)
    return quantised


def kws_inputs() -> npt.NDArray[np.int8]:
    """(1, 49, 10, 1): the sample that comes with the keyword-spotting model."""
    inputs: npt.NDArray[np.int8] = np.load(path("tflite_models/mlperf_tiny/vectors/kws_inputs_int8.npy"))
    return inputs.reshape(-1, 1, 49, 10, 1)
