"""Runs the conformance oracle in a process of its own, or skips with the reason."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "tests" / "conformance" / "oracle.py"


def run(model: bytes, inputs: npt.NDArray[Any], *, all_tensors: bool = True) -> dict[str, npt.NDArray[Any]]:
    """Outputs (`output`, `tensor_<i>`) of tflite-runtime's reference kernels for (n, ...) inputs."""
    if find_spec("tflite_runtime") is None:
        pytest.skip("tflite-runtime 2.14 is not installed: it exists for Python up to 3.11")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "model.tflite").write_bytes(model)
        np.save(base / "inputs.npy", inputs)
        arguments = [str(base / name) for name in ("model.tflite", "inputs.npy", "out.npz")]
        if all_tensors:
            arguments.append("--all-tensors")
        result = subprocess.run(
            [sys.executable, str(SCRIPT), *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if result.returncode != 0:
            raise RuntimeError(result.stderr.strip().splitlines()[-1] if result.stderr else "the oracle failed")
        with np.load(base / "out.npz") as data:
            return dict(data)
