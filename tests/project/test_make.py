"""The targets of the Makefile: `make help` lists all, and cleaning removes what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*arguments: str) -> str:
    done = subprocess.run(
        ["make", "-C", str(ROOT), "--no-print-directory", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_names_every_target_in_one_line() -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[0].split()
    lines = dict(re.findall(r"^make (\S+) +(\S.*)$", make("help"), re.M))
    assert list(lines) == phony
    assert make("help") == make()


def test_every_phony_target_is_there() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.M))
    assert targets == set(re.findall(r"^\.PHONY: (.*)$", text, re.M)[0].split())


def test_clean_keeps_the_environment_and_distclean_does_not() -> None:
    assert ".venv" not in make("--dry-run", "clean")
    assert re.search(r"rm -rf .*\.venv", make("--dry-run", "distclean"))


def test_stages_and_groups_are_told_where_one_is_not_there() -> None:
    told = subprocess.run(
        [sys.executable, ROOT / "tests" / "run.py", "nonsense"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert told.returncode == 1
    for name in ("style", "types", "quick", "cpp", "fuzz", "tidy", "boards", "python", "lint", "check", "test"):
        assert re.search(rf"\b{name}\b", told.stderr)
