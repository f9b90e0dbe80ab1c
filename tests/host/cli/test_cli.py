"""The command line against a fake device: what is parsed, what is printed where, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.cli.main import Kilotune
from kilotune.image import metadata

from tests.support import small_models
from tests.support.command_line import FAKE, RATE_HZ, ROOT, calls, commands, features, run


@pytest.fixture(scope="session")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "ae.tflite"
    plain = small_models.chain(12, 8, 12, seed=3)
    path.write_bytes(metadata.write(plain, metadata.ModelMetadata(features=features(), loss="reconstruction")))
    return path


@pytest.fixture(scope="session")
def image(tflite: Path) -> Path:
    path = tflite.with_suffix(".ktm")
    kilotune.compile(tflite, method="bias+head").save(path)
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> tuple[Path, Path]:
    r = np.random.default_rng(0)
    for name, level in (("ok.csv", 0.1), ("bad.csv", 3.0)):
        rows = r.normal(0, level, (640, 3))
        text = "x,y,z\n" + "\n".join(",".join(f"{v:.5f}" for v in row) for row in rows)
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
    return tmp_path / "ok.csv", tmp_path / "bad.csv"


# --- the commands as a whole -------------------------------------------------------------------


def test_every_command_loads_and_has_help_an_example_and_json() -> None:
    assert set(commands()) == set(Kilotune.homes)
    assert len(Kilotune.homes) == 27
    for name, command in commands().items():
        assert command.help, name
        assert command.example.startswith(f"kilotune {name}"), name
        assert any("--json" in p.opts for p in command.params), name
        assert all(getattr(p, "help", None) for p in command.params if p.param_type_name == "option"), name


@pytest.mark.parametrize("name", sorted(Kilotune.homes))
def test_no_two_flags_of_a_command_clash(name: str) -> None:
    command = commands()[name]
    flags = [flag for p in command.params if p.param_type_name == "option" for flag in (*p.opts, *p.secondary_opts)]
    flags += ["-h", "--help"]
    assert len(flags) == len(set(flags)), flags
    names = [p.name for p in command.params]
    assert len(names) == len(set(names))


def test_a_flag_means_the_same_in_every_command() -> None:
    short: dict[str, set[str]] = {}
    for command in commands().values():
        for p in command.params:
            long = [o for o in p.opts if o.startswith("--")]
            for flag in p.opts:
                if long and flag.startswith("-") and not flag.startswith("--"):
                    short.setdefault(flag, set()).add(long[0])
    assert {flag: names for flag, names in short.items() if len(names) > 1} == {}


def test_examples_parse() -> None:
    import shlex

    for name, command in commands().items():
        for line in command.example.splitlines():
            words = shlex.split(line)
            assert words[:2] == ["kilotune", name]
            known = {o for p in command.params for o in p.opts}
            assert {w for w in words if w.startswith("-")} <= known, line


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom kilotune.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('numpy', 'scipy', 'tensorflow', 'serial', 'safetensors') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    took = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        after = os.times()  # processor time, which a busy machine changes little
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.stdout.splitlines()[-1] == "[]"
    assert min(took) < 0.5


def test_unknown_command_is_wrong_usage_with_a_suggestion() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    command = [sys.executable, "-m", "kilotune", "comit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "commit" in done.stderr
    assert done.stdout == ""


def test_importing_a_submodule_does_not_hide_the_public_function() -> None:
    script = (
        "import kilotune, kilotune.adapters.merge, kilotune.compiler.compile\n"
        "assert callable(kilotune.merge) and callable(kilotune.compile)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


# --- models ------------------------------------------------------------------------------------


def test_compile_and_inspect(tflite: Path, tmp_path: Path) -> None:
    made = run("compile", tflite, "-o", tmp_path / "deep" / "m.ktm", "--method", "bias", fake=False)
    assert made["method"] == "bias"
    assert [layer["ways"][:1] for layer in made["trainable"]] == [["bias"], ["bias"]]
    assert made["image_bytes"] == (tmp_path / "deep" / "m.ktm").stat().st_size
    seen = run("inspect", tmp_path / "deep" / "m.ktm", fake=False)
    assert seen["image_hash"] == made["image_hash"]
    assert seen["ram_bytes"]["arena"] == made["arena_bytes"]
    assert {b["board"] for b in seen["boards"]} >= {"mps2-an386", "native"}
    assert len(seen["layers"]) == 2


def test_damaged_image_is_an_error_with_advice(image: Path, tmp_path: Path) -> None:
    whole = image.read_bytes()
    for damaged in (whole[:100], whole[:-1], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], b""):
        (tmp_path / "m.ktm").write_bytes(damaged)
        error = run("inspect", tmp_path / "m.ktm", fake=False, code=1)["error"]
        assert error["code"] == "bad_image"
        assert error["hint"]


def test_quantize_without_tensorflow_says_what_to_install(tflite: Path, tmp_path: Path) -> None:
    if find_spec("tensorflow") is not None:
        pytest.skip("tensorflow is installed here")
    np.save(tmp_path / "x.npy", np.zeros((4, 12), np.float32))
    error = run("quantize", tflite, "--samples", tmp_path / "x.npy", "-o", tmp_path / "q.tflite", fake=False, code=1)
    assert "tensorflow" in error["error"]["hint"]


# --- devices -----------------------------------------------------------------------------------


def test_info_commit_reset(image: Path, tmp_path: Path) -> None:
    told = run("info", "--target", "twin", "--image", image)
    assert told["window"] == 64
    assert told["status"]["report"]["scorer"] == "residual"
    log = tmp_path / "log"
    run("commit", "-t", "twin", "--image", image, log=log)
    run("reset", "-t", "twin", "--image", image, log=log)
    assert [c["call"] for c in calls(log)] == ["commit", "close", "reset", "close"]


def test_refusal_of_the_device_is_exit_4(image: Path) -> None:
    error = run("rollback", "-t", "twin", "--image", image, code=4)["error"]
    assert error["code"] == "no_checkpoint"
    assert error["exit_code"] == 4


def test_target_and_port_together_or_a_nonsense_target_are_wrong_usage() -> None:
    assert run("info", "-t", "twin", "-p", "/dev/null", code=2)["error"]["code"] == "usage"
    assert run("info", "-t", "nonsense", code=2)["error"]["hint"]


def test_no_board_at_all_is_exit_3() -> None:
    from kilotune.targets.ports import list_ports

    if any(p.usb for p in list_ports()):
        pytest.skip("a USB serial port is connected here")
    assert run("info", code=3)["error"]["code"] == "no_device"


def test_several_boards_are_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    from kilotune.targets import ports

    boards = [ports.Port(f"/dev/ttyACM{i}", "board", "1366:1015", "") for i in range(2)]
    monkeypatch.setattr(ports, "list_ports", lambda: boards)
    with pytest.raises(kilotune.KilotuneError) as caught:
        ports.sole_port()
    assert caught.value.exit_code == 3
    assert "/dev/ttyACM1" in caught.value.message


def test_pull_push_merge(tflite: Path, image: Path, tmp_path: Path) -> None:
    pulled = run("pull", "-t", "twin", "--image", image, "-o", tmp_path / "a")
    assert pulled["files"] == ["adapter_config.json", "adapter_model.safetensors"]
    log = tmp_path / "log"
    run("push", tmp_path / "a", "-t", "twin", "--image", image, log=log)
    assert calls(log)[0]["sha256"] == kilotune.Adapter.load(tmp_path / "a").sha256
    run("merge", tflite, tmp_path / "a", "-o", tmp_path / "merged.tflite", fake=False)
    assert (tmp_path / "merged.tflite").stat().st_size > 0


def test_ports_and_doctor_are_json() -> None:
    assert isinstance(run("ports", fake=False)["ports"], list)
    checks = {c["name"]: c for c in run("doctor", fake=False)["checks"]}
    assert checks["Python"]["ok"] is True
    for check in checks.values():
        assert check["ok"] or check["install"], check


# --- running -----------------------------------------------------------------------------------


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


def test_errors_for_people_say_what_to_do(image: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    command = [sys.executable, str(FAKE), "rollback", "-t", "twin", "--image", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "what to do: " in done.stderr


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


def test_usage_errors_of_the_parser_are_json_too(image: Path) -> None:
    error = run("stream", code=2)["error"]
    assert error["exit_code"] == 2
    assert "FILES" in error["message"]
    assert run("bench", image, "--count", "0", code=2)["error"]["code"] == "usage"


# --- studying ----------------------------------------------------------------------------------


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
    assert "What was verified" in page
    assert (tmp_path / "demo" / "merged.tflite").exists()
    assert story["ok"] is not noticed
    assert held.get("the merged .tflite computes what the device computes") is (False if noticed else None)


def test_demo_leaves_other_peoples_files_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x", encoding="utf-8")
    assert run("demo", "--target", "native", "-o", tmp_path, code=2)["error"]["code"] == "usage"
    assert (tmp_path / "mine.txt").exists()
