"""Converters in environments of their own: nothing is installed unasked, and a refusal says what to type."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from kilotune.errors import KilotuneError
from kilotune.tflite.convert import quantize
from kilotune.tflite.environments import Environment, run


def test_nothing_is_installed_where_that_is_forbidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KILOTUNE_NO_INSTALL", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KilotuneError, match="forbids") as caught:
        Environment("converter", ("a-package==1",)).python()
    assert "pip install a-package==1" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_converters_error_becomes_one_sentence() -> None:
    script = "import sys; print('much'); sys.exit('ValueError: the graph has a loop')"
    with pytest.raises(KilotuneError, match="cannot convert: ValueError: the graph has a loop"):
        run([sys.executable, "-c", script], 60, "cannot convert", "export it again")
    with pytest.raises(KilotuneError, match="not done after"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], 0.5, "cannot convert", "export it again")


def test_weights_of_pytorch_are_told_how_to_become_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"PK")
    with pytest.raises(KilotuneError, match="without the model's code") as caught:
        quantize(tmp_path / "m.pt", np.zeros((4, 3), np.float32))
    assert "torch.onnx.export" in caught.value.hint
