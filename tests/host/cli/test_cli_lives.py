"""`kilotune status`, `acknowledge` and `alarm-rule` as processes, on a twin whose flash is a file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command_line import calls, ended, failed, run

if find_spec("kilotune._native") is None:
    pytest.skip("the twin is not built: pip install .", allow_module_level=True)

RATE_HZ, WINDOW = 1000, 64


def recording(path: Path, seconds: float, seed: int, level: float = 0.1) -> Path:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, level, (round(seconds * RATE_HZ), 3)).astype(np.float32)
    np.savez(path, samples=samples, rate_hz=RATE_HZ)
    return path


@pytest.fixture(scope="module")
def alarmed(tmp_path_factory: pytest.TempPathFactory, tflite: Path) -> tuple[Path, Path]:
    """(image, state): a device that has settled on a machine, and then heard a louder one; not committed since."""
    folder = tmp_path_factory.mktemp("lives")
    image = folder / "m.ktm"
    run("compile", tflite, "-o", image, "--first", 4, fake=False)
    files = [recording(folder / f"{k:02}.npz", 4 * WINDOW / RATE_HZ, k) for k in range(24)]
    first = recording(folder / "first.npz", 16 * WINDOW / RATE_HZ, 99)
    lines = run(
        "stream", first, *files, "-t", "twin", "--image", image, "--state", folder / "state", "--learn", "--lives",
        "--detect", "--passes", 0, "--commit", fake=False,
    )  # fmt: skip
    assert lines[-1]["life"]["state"] == "watching"
    assert lines[-1]["verdict"].splitlines()[-1].startswith("the device: watching since record")
    return image, folder / "state"


def ask(where: tuple[Path, Path], *arguments: object, **options: Any) -> Any:
    image, state = where
    return run(*arguments, "-t", "twin", "--image", image, "--state", state, fake=False, **options)


def test_status_says_what_the_device_makes_of_its_machine(alarmed: tuple[Path, Path]) -> None:
    told = ask(alarmed, "status")
    assert told["state"] == "watching"
    assert told["verdict"].startswith("watching since record")
    assert told["rule"] == [3, 5]
    assert told["checkpoint"] > 1


def test_a_loud_machine_is_an_alarm_that_can_be_called_normal(alarmed: tuple[Path, Path], tmp_path: Path) -> None:
    image, _ = alarmed
    loud = [recording(tmp_path / f"{k}.npz", 4 * WINDOW / RATE_HZ, 200 + k, 0.3) for k in range(4)]
    lines = ask(alarmed, "stream", *loud, "--detect")
    life = lines[-1]["life"]
    assert life["state"] == "alarm"
    assert any("Hz (more)" in band for band in life["bands"])
    assert image.exists()


def test_without_an_alarm_there_is_nothing_to_accept(
    alarmed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image, state = alarmed
    where = ("-t", "twin", "--image", image, "--state", state)
    error = failed(capsys, "acknowledge", "--normal", *where)
    assert (error["code"], error["exit_code"]) == ("wrong_state", 4)
    assert "there is no alarm" in error["message"]


def test_a_fault_is_counted_and_a_rollback_undoes_it(alarmed: tuple[Path, Path]) -> None:
    told = ask(alarmed, "acknowledge", "--fault")
    assert (told["done"], told["faults"]) == ("fault", 1)
    ask(alarmed, "rollback")
    assert ask(alarmed, "status")["faults"] == 0


def test_an_alarm_rule_stays(alarmed: tuple[Path, Path]) -> None:
    assert ask(alarmed, "alarm-rule", "--alarm", "2/4")["rule"] == [2, 4]
    assert ask(alarmed, "status")["rule"] == [2, 4]


def test_commands_reach_the_device(image: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    where = ("-t", "twin", "--image", image)
    run("acknowledge", "--normal", *where, log=log)
    run("alarm-rule", "--alarm", "1/2", *where, log=log)
    told = [call for call in calls(log) if call["call"] != "close"]
    assert told == [
        {"call": "acknowledge", "what": "normal"},
        {"call": "set_alarm_rule", "alarmed": 1, "of": 2},
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        ("acknowledge",),
        ("acknowledge", "--normal", "--fault"),
        ("alarm-rule",),
        *(("alarm-rule", "--alarm", rule) for rule in ("3", "5/3", "0/2", "3/9", "a/b")),
    ],
)
def test_what_is_not_said_clearly_is_refused(
    wrong: tuple[str, ...], image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failed(capsys, *wrong, "-t", "twin", "--image", image)["exit_code"] == 2


@pytest.mark.parametrize("option", [("--alarm", "2/3"), ("--record", "8"), ("--first", "12"), ("--anchor", "1")])
def test_a_device_that_learns_once_has_no_records(
    option: tuple[str, str], tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(capsys, "compile", tflite, "-o", tmp_path / "m.ktm", "--once", *option)
    assert "would be ignored" in error["message"]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("history")
    levels = [0.1] * 24 + [0.8] * 6
    return [recording(folder / f"{k:02}.npz", 4 * WINDOW / RATE_HZ, k, level) for k, level in enumerate(levels)]


LIFE = ("--first", 4, "--record", 4, "--passes", 0)


def test_evaluate_prints_the_table_of_a_life(history: list[Path], tflite: Path) -> None:
    told = run(
        "evaluate", "--life", *history, "--model", tflite, "--every", 3600, "--healthy-files", 24, *LIFE, fake=False
    )
    device = told["rows"][0]
    assert (device["name"], device["false_alarms"], device["false_per_month"]) == ("the device", 0, 0.0)
    assert device["first_alarm"] == 26
    assert device["lead_s"] == 4 * 3600
    assert {"RMS", "z-score of the features", "nearest stored windows"} < {row["name"] for row in told["rows"]}
    assert len(told["life"]) == told["records"] == 30


def test_report_draws_a_life(history: list[Path], tflite: Path, tmp_path: Path) -> None:
    image, page = tmp_path / "m.ktm", tmp_path / "life.html"
    run("compile", tflite, "-o", image, "--first", 4, fake=False)
    told = run(
        "report", "-t", "twin", "--image", image, "--life", history[0].parent / "*.npz", "--passes", 0, "-o", page,
        fake=False,
    )  # fmt: skip
    assert told["records"] == 30
    assert told["rows"][0]["lead_s"] is None  # nobody said how much time lies between the files
    assert "<svg" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("evaluate", "--life"), "no file"),
        (("evaluate", "a.csv", "--healthy", "a.csv", "--fault", "b.csv"), "would be ignored"),
        (("evaluate", "--life", "a.csv", "--fault", "b.csv"), "would be ignored"),
        (("evaluate", "--every", "5", "--healthy", "a.csv", "--fault", "b.csv"), "would be ignored"),
        (("evaluate", "--alarm", "3/5", "--healthy", "a.csv", "--fault", "b.csv"), "would be ignored"),
        (("evaluate", "--healthy", "a.csv"), "--fault is missing"),
        (("report", "-o", "x.html", "--fault", "b.csv"), "--healthy is missing"),
    ],
)
def test_a_history_and_a_comparison_are_not_mixed(
    wrong: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(capsys, *wrong)
    assert said in error["message"]
    assert error["exit_code"] == 2


@pytest.mark.parametrize(("board", "told"), [("microbit", True), ("mps2-an386", False)])
def test_a_board_whose_firmware_learns_once_is_told(
    board: str, told: bool, tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended("compile", tflite, "-o", tmp_path / "m.ktm", "--board", board) == 0
    assert ("it learns once" in capsys.readouterr().err) is told
    assert ended("compile", tflite, "-o", tmp_path / "m.ktm", "--board", board, "--once") == 0
    assert "it learns once" not in capsys.readouterr().err
