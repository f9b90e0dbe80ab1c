"""The command line as tests call it: as a process, on a fake device or on none, or in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rich_click as click
from kilotune.cli.command import Command
from kilotune.cli.main import Kilotune, main
from kilotune.image.features import FeatureConfig

from tests.support.paths import ROOT

FAKE = Path(__file__).with_name("fake_device.py")
RATE_HZ = 1000


def features() -> FeatureConfig:
    return FeatureConfig(rate_hz=RATE_HZ, window=64, hop=64, fft_points=64, axes=3, bands=4, low_hz=20.0)


def run(*arguments: object, log: Path | None = None, fake: bool = True, code: int = 0) -> Any:
    """Runs a command with --json; gives its only result, or the list of its lines."""
    start = [str(FAKE)] if fake else ["-m", "kilotune"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    if log is not None:
        environment["FAKE_LOG"] = str(log)
    command = [sys.executable, *start, *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[0] if len(lines) == 1 else lines


def calls(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def commands() -> dict[str, Command]:
    context = click.Context(main)
    found = {name: main.get_command(context, name) for name in Kilotune.homes}
    return {name: c for name, c in found.items() if isinstance(c, Command)}


def ended(*arguments: object) -> int:
    """Exit code of a command in this process."""
    with pytest.raises(SystemExit) as leaving:
        main([str(a) for a in arguments])
    return int(leaving.value.code or 0)


def failed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The error that a command with --json prints: one JSON document, with the exit code that it ends with."""
    code = ended(*arguments, "--json")
    error: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
    assert error["exit_code"] == code
    return error
