"""Commands that run a model on a fake device: what is passed to it, printed and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command_line import RATE_HZ, calls, run


def test_infer_writes_exactly_the_named_file(image: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(-128, 128, (5, 12)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    run("infer", image, "--target", "twin", "-i", tmp_path / "x.npy", "-o", tmp_path / "y")
    y = np.load(tmp_path / "y")
    assert y.dtype == np.int8
    np.testing.assert_array_equal(y, np.repeat(x[:, :1], 12, axis=1))


@pytest.mark.parametrize("bad", [np.zeros((5, 12)), np.zeros((5, 11), np.int8), np.zeros((0, 12), np.int8)])
def test_infer_refuses_wrong_inputs(image: Path, tmp_path: Path, bad: Any) -> None:
    np.save(tmp_path / "x.npy", bad)
    error = run("infer", image, "-t", "twin", "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npy", code=1)["error"]
    assert error["code"] in ("bad_samples", "empty")
    assert not (tmp_path / "y.npy").exists()


def test_train_passes_everything_on(image: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5, 12), np.int8))
    np.save(tmp_path / "y.npy", np.arange(5))
    log = tmp_path / "log"
    run(
        "train",
        image,
        "-t",
        "twin",
        "-i",
        tmp_path / "x.npy",
        "--labels",
        tmp_path / "y.npy",
        "--steps",
        7,
        "--lr",
        0.25,
        "--seed",
        9,
        "-o",
        tmp_path / "a",
        log=log,
    )
    call = calls(log)[0]
    assert (call["steps"], call["lr"], call["seed"], call["labels"]) == (7, 0.25, 9, [0, 1, 2, 3, 4])
    assert (tmp_path / "a" / "adapter_model.safetensors").exists()


def test_bench_prints_the_promised_names(image: Path) -> None:
    told = run("bench", image, "--target", "twin")
    assert told["instructions"] == {"inference": 84_000, "step": 151_000}
    assert told["macs"] == 12 * 8 * 2
    assert set(told["ram_bytes"]) == {"arena", "adapter", "static", "stack_peak"}
    assert "flash_bytes" in told


def test_stream_learns_from_the_first_and_detects_in_the_others(
    image: Path, recordings: tuple[Path, Path], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    ok, bad = recordings
    lines = run(
        "stream",
        ok,
        bad,
        "-t",
        "twin",
        "--image",
        image,
        "--rate",
        RATE_HZ,
        "--unit",
        "g",
        "--learn",
        "--detect",
        "--commit",
        "--passes",
        3,
        "--seed",
        4,
        log=log,
    )
    assert [c["call"] for c in calls(log)] == ["learn", "commit", "score", "close"]
    assert calls(log)[0]["passes"] == 3
    windows = [line for line in lines if line["event"] == "window"]
    assert len(windows) == 10
    assert all(w["anomaly"] for w in windows)
    assert windows[1]["t_s"] == pytest.approx(0.128)
    assert lines[-1]["event"] == "summary"
    assert lines[-1]["learned"]["held"] == 5


def test_stream_splits_by_seconds_and_resamples(image: Path, recordings: tuple[Path, Path], tmp_path: Path) -> None:
    log = tmp_path / "log"
    run(
        "stream",
        recordings[0],
        "-t",
        "twin",
        "--image",
        image,
        "--rate",
        2 * RATE_HZ,
        "--unit",
        "g",
        "--learn",
        "--detect",
        "--learn-seconds",
        0.2,
        log=log,
    )
    assert calls(log)[0]["rows"] == [200]
    assert calls(log)[1] == {"call": "score", "rows": 120, "rate_hz": RATE_HZ}


def test_stream_of_a_damaged_file_touches_no_learning(image: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n1,nan,3\n", encoding="utf-8")
    log = tmp_path / "log"
    error = run(
        "stream",
        tmp_path / "a.csv",
        "-t",
        "twin",
        "--image",
        image,
        "--rate",
        RATE_HZ,
        "--learn",
        log=log,
        code=1,
    )
    assert "row 3, column y" in error["error"]["message"]
    assert [c["call"] for c in calls(log)] == ["close"]


def test_report_is_written(image: Path, recordings: tuple[Path, Path], tmp_path: Path) -> None:
    ok, bad = recordings
    page = tmp_path / "pages" / "r.html"
    told = run(
        "report",
        "-t",
        "twin",
        "--image",
        image,
        "--healthy",
        ok,
        "--fault",
        bad,
        "--rate",
        RATE_HZ,
        "--unit",
        "g",
        "-o",
        page,
    )
    assert told["after"]["auc"] == 1.0
    assert "<svg" in page.read_text(encoding="utf-8")


def streamed(*sources: object, options: tuple[str, ...], image: Path) -> list[dict[str, Any]]:
    found = run("stream", *sources, "--target", "twin", "--image", image, *options, fake=False)
    assert isinstance(found, list)
    return found


@pytest.fixture(scope="module")
def vibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import kilotune
    from kilotune.studies.base_models import base_model

    path = tmp_path_factory.mktemp("vibration") / "ae.ktm"
    kilotune.compile(base_model(), method="bias+head").save(path)
    return path


def test_stream_says_that_an_untaught_device_knows_nothing(
    vibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # a twin that nobody has used
    *windows, summary = streamed("synthetic:looseness,seconds=1", options=(), image=vibration)
    assert not any(w["taught"] for w in windows)
    assert [v["state"] for v in summary["verdicts"]] == ["untaught"]
    assert "learned nothing" in summary["verdict"]


def test_stream_says_that_a_sensor_is_dead(vibration: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "dead.npz", g=np.zeros((20_000, 3), np.float32), fs=20_000.0)
    sources = ("synthetic:healthy,seconds=2", tmp_path / "dead.npz")
    *windows, summary = streamed(*sources, options=("--learn", "--detect", "--passes", "2"), image=vibration)
    assert all(w["dead"] and not w["anomaly"] for w in windows)
    assert summary["verdicts"][0]["state"] == "dead"
    assert summary["anomalies"] == 0


def test_stream_ends_with_a_verdict_on_a_defect(vibration: Path) -> None:
    sources = [f"synthetic:{kind},seconds=4" for kind in ("healthy", "healthy,seed=2", "inner,severity=1,seed=3")]
    found = streamed(*sources, options=("--learn", "--detect", "--passes", "10"), image=vibration)
    healthy, fault = found[-1]["verdicts"]
    assert healthy["state"] == "healthy"
    assert healthy["anomalous"] <= 0.02 * healthy["windows"]
    if fault["state"] == "anomalous":
        assert fault["anomalous"] >= 0.9 * fault["windows"]
    else:
        assert "below what this model tells" in fault["text"]
