"""Names that somebody else has given, of a device or of a model's tensors, reach the terminal as text.

Whole commands, as processes: what each prints has to go through the one filter that tests/host/test_printable.py tries.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import locked, meddler
from tests.support.locked import LAYOUT, TwinLine
from tests.support.meddler import Meddler
from tests.support.paths import ROOT
from tests.support.small_models import chain

DEVICE_NAME = "\x1b]0;owned\x07\x1b[2J\rforged"
TENSOR_NAME = "\x1b[2J\x07\rowned"  # as long as those of the tests' models
STEERING = set("\x1b\x07\r")


def printed(folder: Path, *command: str) -> str:
    """What a command prints as text, byte for byte."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host"), "XDG_CONFIG_HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "kilotune", *command], capture_output=True, timeout=60, env=environment, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).decode()


def test_of_a_device(tmp_path: Path) -> None:
    line = TwinLine(locked.make_image(), b"\xff" * LAYOUT.used_bytes)
    device = Meddler(line, meddler.greeted(firmware=DEVICE_NAME, board=DEVICE_NAME))
    with meddler.listening(device) as port:
        text = printed(tmp_path, "info", "-p", port)
    assert text.count(r"\x1b]0;owned\x07\x1b[2J\rforged") == 2
    assert not STEERING & set(text)


@pytest.mark.parametrize("command", ["compile", "inspect"])
def test_of_a_models_tensors(command: str, tmp_path: Path) -> None:
    model = chain(12, 8, 12, seed=3)
    named = model.replace(b"activation_", TENSOR_NAME.encode())
    assert named != model
    (tmp_path / "m.tflite").write_bytes(named)
    text = printed(tmp_path, "compile", "m.tflite", "-o", "m.ktm")
    if command == "inspect":
        text = printed(tmp_path, "inspect", "m.ktm")
    assert r"\x1b[2J\x07\rowned" in text
    assert not STEERING & set(text)
