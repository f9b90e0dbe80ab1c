"""`kilotune base` as a process: recordings in, a base model out that compiles and tells a fault."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.base.training import STEPS
from kilotune.cli import training
from kilotune.recordings.simulator import Fault, Machine

from tests.support.command_line import run

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="needs the tensorflow extra: pip install .[tensorflow]"
)
RATE = 3200.0


def write(path: Path, load: float, *, fault: Fault | None = None, seconds: float = 10) -> Path:
    g = Machine.random(3).record(
        seconds, RATE, rpm=1500, load=load, fault=fault, severity=0.5, seed=round(10 * load), axes=2
    )
    rows = np.column_stack([np.arange(len(g)) / RATE, g])
    np.savetxt(path, rows, delimiter=",", header="time_s,x [g],y [g]", comments="", fmt="%.6f")
    return path


def test_the_default_is_the_recipes() -> None:
    assert training.DEFAULT_STEPS == STEPS


def test_too_little_is_refused_with_what_it_takes(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("without tensorflow that is said first")
    short = write(tmp_path / "short.csv", 0.5, seconds=3)
    error = run("base", "--healthy", short, "-o", tmp_path / "b.tflite", fake=False, code=1)["error"]
    assert error["code"] == "too_few_windows"
    assert "14 s" in error["hint"]
    assert not (tmp_path / "b.tflite").exists()


def test_without_tensorflow_it_says_what_to_install(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("tensorflow is installed here")
    path = write(tmp_path / "ok.csv", 0.5)
    error = run("base", "--healthy", path, "-o", tmp_path / "b.tflite", fake=False, code=1)["error"]
    assert error["code"] == "no_tensorflow"


def test_the_output_never_replaces_a_recording(tmp_path: Path) -> None:
    path = write(tmp_path / "ok.csv", 0.5, seconds=1)
    before = path.read_bytes()
    assert run("base", "--healthy", tmp_path, "-o", path, fake=False, code=2)["error"]["code"] == "bad_argument"
    assert path.read_bytes() == before


@needs_tensorflow
@pytest.mark.slow
def test_a_base_model_of_own_recordings_tells_a_fault(tmp_path: Path) -> None:
    for load in (0.2, 0.4, 0.6, 0.8, 1.0):
        write(tmp_path / f"ok{round(10 * load)}.csv", load)
    healthy, fault = write(tmp_path / "later.csv", 0.5), write(tmp_path / "bad.csv", 0.5, fault="looseness")
    target = tmp_path / "base.tflite"
    made = run("base", "--healthy", tmp_path / "ok*.csv", "--steps", 600, "-o", target, fake=False)
    assert made["bytes"] == target.stat().st_size
    assert (made["axes"], made["rate_hz"], made["full_scale_g"]) == (2, RATE, 2.0)
    assert made["windows"] == 4 * made["held_out"]  # every fifth file is held out
    assert 0 < made["residual_variance"] < made["held_out_residual_variance"] < 1

    image = kilotune.compile(target.read_bytes(), method="bias+head")
    assert image.features is not None
    assert (image.features.axes, image.features.rate_hz) == (2, RATE)
    rows = run("evaluate", "--model", target, "--healthy", healthy, "--fault", fault, fake=False)["rows"]
    assert max(row["auc"] for row in rows if row["where"] == "device") > 0.99
