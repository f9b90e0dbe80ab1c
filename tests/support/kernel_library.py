"""The kernel as a library: its sources, its example, and the commands that compile and run them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

KERNEL = ROOT / "firmware" / "kernel"
EXAMPLE = KERNEL / "examples" / "learn_from_an_array"
VERSION = re.findall(r'^__version__ = "(.+)"$', (ROOT / "host/kilotune/version.py").read_text(encoding="utf-8"), re.M)[
    0
]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Werror"]
CORES = {"cortex-m0": "-mcpu=cortex-m0", "cortex-m4": "-mcpu=cortex-m4"}


def run(*command: object, cwd: Path | None = None, code: int = 0, **environment: str) -> str:
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=250,
        env=os.environ | environment)  # fmt: skip
    assert result.returncode == code, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def command(*arguments: object, code: int = 0) -> Any:
    told = run(sys.executable, "-m", "kilotune", *arguments, "--json", code=code)
    return json.loads(told)


def sources(folder: Path) -> list[Path]:
    return sorted(p for pattern in ("*.cpp", "*.h", "*.def") for p in folder.rglob(pattern))


def assert_learned(told: str) -> None:
    found = re.fullmatch(r"status 0: loss before (\d+), after 200 steps (\d+)\n", told)
    assert found, told
    before, after = map(int, found.groups())
    assert 0 < after < before // 4
