"""Wrong options and arguments are refused before anything is done."""

from __future__ import annotations

from pathlib import Path

import kilotune
import numpy as np
import pytest
import rich_click as click
from click.types import FloatParamType
from kilotune.cli.options import learn_options
from kilotune.errors import EXIT_USAGE, exit_code
from kilotune.targets import ports

from tests.support.command_line import commands, ended, failed


def test_no_command_replaces_its_own_input(
    own_tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, rows, table = tmp_path / "ae.ktm", tmp_path / "x.npy", tmp_path / "x.csv"
    kilotune.compile(own_tflite, method="bias").save(image)
    np.save(rows, np.zeros((4, 12), np.int8))
    table.write_text("x\n1\n2\n")
    adapter = tmp_path / "adapter"
    assert ended("train", image, "-t", "twin", "-i", rows, "--steps", 1, "--lr", 0.1, "--seed", 1, "-o", adapter) == 0
    before = {path: path.read_bytes() for path in (own_tflite, image, rows, table)}
    for command in (
        ("compile", own_tflite, "-o", own_tflite),
        ("compile", own_tflite, "-o", tmp_path / "n", "--c-array", tmp_path / "n"),
        ("inspect", image, "--plan", image),
        ("merge", own_tflite, adapter, "-o", own_tflite),
        ("quantize", own_tflite, "--samples", rows, "-o", rows),
        ("infer", image, "-t", "twin", "-i", rows, "-o", rows),
        ("record-to-resd", table, "--rate", 100, "-o", table),
        ("report", "--image", image, "--healthy", table, "--fault", "synthetic:inner", "-t", "twin", "-o", table),
    ):
        capsys.readouterr()
        error = failed(capsys, *command)
        assert error["exit_code"] == EXIT_USAGE, command
        assert "would overwrite" in error["message"]
    assert {path: path.read_bytes() for path in before} == before


def test_part_of_a_group_of_options_is_in_the_order_of_the_group() -> None:
    """`--help` would differ from run to run otherwise."""
    order = [p.name for p in commands()["stream"].params if p.name in learn_options.names]
    assert [p.name for p in commands()["report"].params if p.name in learn_options.names] == [
        name for name in order if name != "lives"
    ]


def test_no_option_takes_a_number_that_is_none() -> None:
    found = 0
    for name, command in commands().items():
        for p in command.params:
            if isinstance(p.type, (click.FloatRange, FloatParamType)):
                found += 1
                for text in ("nan", "inf", "-inf"):
                    with pytest.raises(click.BadParameter):
                        print(name, p.opts, p.type(text, p, None))
    assert found > 20


@pytest.mark.parametrize(
    "options",
    [
        ("--passes", "3"),
        ("--resume",),
        ("--learn", "--recalibrate"),
        ("--learn", "--guard", "none"),
        ("--learn", "--detect", "--learn-files", "1", "--learn-seconds", "1"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(capsys, "stream", "synthetic:healthy", "-t", "twin", *options)
    assert (error["code"], error["exit_code"]) == ("bad_argument", EXIT_USAGE)


def test_an_empty_target_is_not_the_one_board_that_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ports, "list_ports", lambda: [ports.Port("/dev/board", "", "0d28:0204", "")])
    assert failed(capsys, "rollback", "-t", "")["code"] == "bad_argument"


def test_digits_that_are_no_numbers_and_boards_that_are_none_are_wrong_usage(
    own_tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compile", own_tflite, "-o", own_tflite.with_suffix(".ktm"), "--method", "channels")
    for channels in ("²", "0:²"):
        assert failed(capsys, *arguments, "--channels", channels)["code"] == "bad_argument"
    assert failed(capsys, "info", "-t", "socket://localhost:²")["code"] == "bad_argument"
    assert failed(capsys, "info", "-t", "qemu:nowhere")["exit_code"] == EXIT_USAGE == exit_code("no_emulator")
