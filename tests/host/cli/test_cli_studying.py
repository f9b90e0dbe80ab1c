"""`evaluate` and `demo` against a fake device: what they compare, recommend and check."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.support.command_line import RATE_HZ, calls, run


@pytest.fixture
def files(tmp_path: Path) -> tuple[list[Path], list[Path]]:
    """Four healthy and two faulty ones, of 40 windows each."""

    def write(name: str, louder: float, seed: int) -> Path:
        # A fault is heard on one axis: what raises all of them alike is a unit or a gain.
        rows = np.random.default_rng(seed).normal(0, 0.1, (64 * 40, 3)) * (1, 1.5, 0.7 * louder)
        np.savez(tmp_path / name, g=rows.astype(np.float32), fs=float(RATE_HZ))
        return tmp_path / name

    return [write(f"ok{k}.npz", 1, k) for k in range(4)], [write(f"bad{k}.npz", 100 + k, 9 + k) for k in range(2)]


def sides(healthy: list[Path], fault: list[Path]) -> list[object]:
    return [part for name, paths in (("--healthy", healthy), ("--fault", fault)) for p in paths for part in (name, p)]


def test_evaluate_compares_and_recommends(tflite: Path, files: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    log = tmp_path / "log"
    told = run("evaluate", *sides(*files), "--model", tflite, log=log)
    rows = {r["name"]: r for r in told["rows"]}
    plain = {"RMS", "peak", "crest factor", "kurtosis", "envelope kurtosis", "envelope energy"}
    learned = {"z-score of the features", "Mahalanobis of the statistics"}
    device = {"nothing", "calibration", "bias", "head", "bias+head", "nearest windows"}
    assert plain | learned | device <= set(rows)
    for row in rows.values():
        assert row["where"] == ("device" if row["ram_bytes"] else "host")
        for name, (low, high) in row["intervals"].items():
            assert 0 <= low <= row[name] <= high <= 1
        assert [f["name"] for f in row["files"] if f["truth"] == "fault"] == ["bad0.npz", "bad1.npz"]
        hourly = 3600 * RATE_HZ / 64 * row["false_alarms"]
        assert row["alarms_per_hour"] == pytest.approx(hourly)
    assert rows["bias+head"]["ram_bytes"] > rows["bias"]["ram_bytes"] > 0
    assert rows["RMS"]["auc"] == 1.0
    # Of equals the one that costs least: a threshold on the level is enough here.
    assert told["recommended"] == "RMS"
    assert told["recommended_on_device"] == "nothing"
    assert told["learned"] == {"offered": 80, "refused": 0, "stored": 20, "held": 5}
    learned_from = [c["rows"] for c in calls(log) if c["call"] == "learn"]
    assert learned_from == [[40, 40]] * 7  # whole files, and none of the two that are the test
    assert {tuple(c["rows"]) for c in calls(log) if c["call"] == "score features"} == {(40, 40)}


def test_evaluate_tests_on_the_files_given_for_that(tflite: Path, files: tuple[list[Path], list[Path]]) -> None:
    (first, *rest), fault = files
    told = run("evaluate", *sides(rest, fault), "--healthy-test", first, "--model", tflite)
    assert {f["name"] for r in told["rows"] for f in r["files"] if f["truth"] == "healthy"} == {"ok0.npz"}
    assert told["learned"]["offered"] == 120
    again = run("evaluate", *sides(files[0], fault), "--healthy-test", first, "--model", tflite, code=2)
    assert again["error"]["code"] == "bad_argument"


def test_evaluate_with_blocks_learns_a_part_of_each_file(
    tflite: Path, files: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    run("evaluate", *sides(*files), "--model", tflite, "--hold-out", "blocks", "--reservoir", 16, log=log)
    assert [c["rows"] for c in calls(log) if c["call"] == "learn"] == [[20] * 4] * 7
    assert {tuple(c["rows"]) for c in calls(log) if c["call"] == "score features"} == {(19,) * 4, (40, 40)}


@pytest.mark.parametrize("change", ["ms2", "axes"])
def test_evaluate_recommends_nothing_where_the_recordings_differ(
    tflite: Path, files: tuple[list[Path], list[Path]], change: str
) -> None:
    healthy, (fault, _) = files
    with np.load(healthy[0]) as d:
        g = d["g"][::-1]
    np.savez(fault, g=g * np.float32(9.80665) if change == "ms2" else g[:, [1, 2, 0]], fs=float(RATE_HZ))
    told = run("evaluate", *sides(healthy[1:], [fault]), "--model", tflite)
    word = "m/s^2" if change == "ms2" else "another order"
    assert any(word in w for w in told["warnings"])
    if change == "ms2":
        assert told["recommended"] == "none"
        assert "do not trust this" in told["reason"]


def test_evaluate_says_that_a_sensor_is_dead(tflite: Path, files: tuple[list[Path], list[Path]]) -> None:
    healthy, (fault, _) = files
    np.savez(fault, g=np.zeros((64 * 40, 3), np.float32), fs=float(RATE_HZ))
    told = run("evaluate", *sides(healthy, [fault]), "--model", tflite, code=1, fake=False)
    assert told["error"]["code"] == "too_few_windows"
    assert "dead sensor" in told["error"]["message"]


def test_evaluate_refuses_recordings_that_are_too_short(tflite: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n" + "1,2,3\n" * 100, encoding="utf-8")
    (tmp_path / "b.csv").write_text("x,y,z\n" + "3,2,1\n" * 100, encoding="utf-8")
    arguments = ("--healthy", tmp_path / "a.csv", "--fault", tmp_path / "b.csv", "--model", tflite)
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
