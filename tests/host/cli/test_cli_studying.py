"""`evaluate` and `demo` against a fake device: what they compare, recommend and check."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.command_line import RATE_HZ, calls, run


def test_evaluate_compares_and_recommends(tflite: Path, recordings: tuple[Path, Path], tmp_path: Path) -> None:
    ok, bad = recordings
    log = tmp_path / "log"
    arguments = ("--healthy", ok, "--healthy", ok, "--healthy", ok, "--healthy", ok, "--fault", bad)
    told = run("evaluate", *arguments, "--model", tflite, "--rate", RATE_HZ, "--unit", "g", log=log)
    rows = {r["name"]: r for r in told["rows"]}
    assert {"nothing", "calibration", "bias", "head", "bias+head", "z-score of the features"} <= set(rows)
    for row in rows.values():
        assert row["auc"] == 1.0, row
        assert row["detection"] == 1.0 or row["name"] == "isolation forest", row
    assert rows["z-score of the features"]["ram_bytes"] is None
    assert rows["bias+head"]["ram_bytes"] > rows["bias"]["ram_bytes"] > 0
    assert told["recommended"] == "nothing"  # of equals the one that costs least
    assert told["reason"]
    learned = [c for c in calls(log) if c["call"] == "learn"]
    # Half of the 640 samples of each file; the window behind it belongs to neither part.
    assert all(c["rows"] == [320] * 4 for c in learned)
    assert {c["rows"] for c in calls(log) if c["call"] == "score"} == {256, 640}
    assert [c["scorer"] for c in learned].count("nearest") == 1
    assert [c["passes"] for c in learned if c["scorer"] == "nearest"] == [0]


def test_evaluate_refuses_recordings_that_are_too_short(tflite: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n" + "1,2,3\n" * 100, encoding="utf-8")
    arguments = ("--healthy", tmp_path / "a.csv", "--fault", tmp_path / "a.csv", "--model", tflite)
    assert run("evaluate", *arguments, "--rate", RATE_HZ, code=1)["error"]["code"] == "too_few_windows"


def test_demo_tells_its_story_and_checks_itself(tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILOTUNE_BASE_MODEL", str(tflite))
    # A fake device does not compute: where tflite-runtime is there, the demo must notice.
    noticed = find_spec("tflite_runtime") is not None
    story = run("demo", "--target", "native", "-o", tmp_path / "demo", code=5 if noticed else 0)
    held = {c["name"]: c["ok"] for c in story["checks"]}
    assert held["adapter_model.safetensors is the twin's, byte for byte"] is True
    assert held["reset loses nothing that was committed"] is True
    page = Path(story["report"]).read_text(encoding="utf-8")
    assert "Checks" in page
    assert (tmp_path / "demo" / "merged.tflite").exists()
    assert story["ok"] is not noticed
    assert held.get("the merged .tflite computes what the device computes") is (False if noticed else None)


def test_demo_leaves_other_peoples_files_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    assert run("demo", "--target", "native", "-o", tmp_path, code=2)["error"]["code"] == "bad_argument"
    assert (tmp_path / "mine.txt").exists()
