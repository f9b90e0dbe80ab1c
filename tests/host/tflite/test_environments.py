"""Converters in environments of their own: nothing is installed unasked, and a refusal says what to type."""

from __future__ import annotations

import shlex
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from kilotune.errors import KilotuneError
from kilotune.tflite.convert import quantize
from kilotune.tflite.environments import Environment, run

from tests.support.processes import ended, wait_until


def test_nothing_is_installed_where_that_is_forbidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KILOTUNE_NO_INSTALL", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KilotuneError, match="forbids") as caught:
        Environment("converter", ("a-package>=1,<2",)).python()
    assert shlex.split(caught.value.hint).count("a-package>=1,<2") == 1  # not a redirection of the shell
    assert list(tmp_path.iterdir()) == []


def test_a_converters_error_becomes_one_sentence() -> None:
    script = "import sys; print('much'); sys.exit('ValueError: the graph has a loop')"
    with pytest.raises(KilotuneError, match="cannot convert: ValueError: the graph has a loop"):
        run([sys.executable, "-c", script], 60, "cannot convert", "export it again")
    with pytest.raises(KilotuneError, match="not done after"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], 0.5, "cannot convert", "export it again")


def test_a_converter_that_takes_too_long_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time; "
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
        "open('pid', 'w').write(str(child.pid)); time.sleep(60)"
    )
    with pytest.raises(KilotuneError, match="not done after"):
        run([sys.executable, "-c", script], 3, "cannot convert", "export it again", folder=tmp_path)
    pid = int((tmp_path / "pid").read_text())
    assert wait_until(lambda: ended(pid))


def test_two_that_install_at_once_end_with_one_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An interrupted installation is there before, too."""
    monkeypatch.delenv("KILOTUNE_NO_INSTALL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wanted, both = Environment("converter", ("a", "b")), threading.Barrier(2)
    (wanted.folder / "left").mkdir(parents=True)

    def install(command: list[str], *_: object) -> None:
        if "venv" in command:
            Path(command[-1]).mkdir()
            both.wait(20)
        else:
            time.sleep(0.1)

    monkeypatch.setattr("kilotune.tflite.environments.run", install)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(wanted.python())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(found)) == 1
    assert len(found) == 2
    assert list(wanted.folder.parent.iterdir()) == [wanted.folder]
    assert [p.name for p in wanted.folder.iterdir()] == ["complete"]
    assert Environment("converter", ("a", "c")).folder != wanted.folder


def test_weights_of_pytorch_are_told_how_to_become_a_model(tmp_path: Path) -> None:
    (tmp_path / "m.PT").write_bytes(b"PK")
    with pytest.raises(KilotuneError, match="without the model's code") as caught:
        quantize(tmp_path / "m.PT", np.zeros((4, 3), np.float32))
    assert "torch.onnx.export" in caught.value.hint
