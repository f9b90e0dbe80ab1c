"""Asks the conformance oracle, a separate process that runs as long as the tests, or skips with the reason."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import tempfile
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.support.paths import ROOT

SCRIPT = ROOT / "tests" / "conformance" / "oracle.py"
_ANSWER_S = 120.0


def run(model: bytes, inputs: npt.NDArray[Any], *, all_tensors: bool = True) -> dict[str, npt.NDArray[Any]]:
    """Outputs (`output`, `tensor_<i>`) of tflite-runtime's reference kernels for (n, ...) inputs.

    Raises RuntimeError if the runtime refuses the model, or crashes.
    """
    if find_spec("tflite_runtime") is None:
        pytest.skip("tflite-runtime 2.14 is not installed: it exists for Python up to 3.11")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "model.tflite").write_bytes(model)
        np.save(base / "inputs.npy", inputs)
        _oracle().ask({"folder": folder, "all_tensors": all_tensors})
        with np.load(base / "out.npz") as data:
            return dict(data)


class _Oracle:
    """One process for many questions, as starting it takes most of the time."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [sys.executable, SCRIPT, "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, question: dict[str, object]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(_ANSWER_S, self._process.kill)
        late.start()
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            late.cancel()
        if not answer:
            self._process.wait(_ANSWER_S)
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()
            raise RuntimeError(said[-1] if said else f"the oracle ended with {self._process.returncode}")
        error = json.loads(answer)["error"]
        if error:
            raise RuntimeError(error)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(_ANSWER_S)


_running: list[_Oracle] = []


def _oracle() -> _Oracle:
    """The running process, or a new one if that has died."""
    if not _running or not _running[0].alive:
        _running[:] = [_Oracle()]
        atexit.register(_running[0].close)
    return _running[0]
