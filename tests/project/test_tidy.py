"""A kept verdict of clang-tidy hides no finding: if anything it depends on changes, the file is checked again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tidy.py"
pytestmark = pytest.mark.skipif(
    shutil.which("clang-tidy") is None or shutil.which("clang++") is None,
    reason="clang-tidy and clang++ are not installed",
)

CLEAN = "inline int half(int x) { return x / 2; }\n"
FINDING = "inline double half(int x) { return x / 2; }\n"  # bugprone-integer-division


class Project:
    """One source file, in a folder that it includes a header from."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.build = folder, folder / "build" / "commands"
        self.header, self.settings = folder / "include" / "half.h", folder / ".clang-tidy"
        self.build.mkdir(parents=True)
        self.header.parent.mkdir()
        self.header.write_text(CLEAN)
        self.source = folder / "source.cpp"
        self.source.write_text('#include "half.h"\nint quarter(int x) { return half(half(x)); }\n')
        self.allow("bugprone-integer-division")
        self.compile_with("-std=c++17")

    def allow(self, checks: str) -> None:
        self.settings.write_text(f"Checks: '-*,{checks}'\nHeaderFilterRegex: '.*'\n")

    def compile_with(self, *options: str) -> None:
        command = f"c++ {' '.join(options)} -I{self.header.parent} -o source.o -c {self.source}"
        entry = {"directory": str(self.build), "command": command, "file": str(self.source)}
        (self.build / "compile_commands.json").write_text(json.dumps([entry]))

    def tidy(self, *more: Path) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [sys.executable, SCRIPT, self.build, self.source, *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    def looked_at(self) -> int:
        """Files that were not skipped in a run without findings."""
        done = self.tidy()
        assert done.returncode == 0, done.stdout + done.stderr
        looked, skipped = re.findall(r"(\d+) files looked at, (\d+) skipped", done.stdout)[0]
        assert int(looked) + int(skipped) == 1
        return int(looked)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    assert made.looked_at() == 1
    assert made.looked_at() == 0
    return made


def test_a_finding_that_comes_with_a_header_is_reported_in_every_run(project: Project) -> None:
    project.header.write_text(FINDING)
    for _ in range(2):
        done = project.tidy()
        assert done.returncode == 1
        assert "half.h:1:" in done.stderr
        assert "bugprone-integer-division" in done.stderr
    project.header.write_text(CLEAN)
    assert project.looked_at() == 0  # as it was when it was clean


CHANGES: dict[str, Callable[[Project], object]] = {
    "the source": lambda p: p.source.write_text(p.source.read_text() + "// more\n"),
    "a header": lambda p: p.header.write_text(p.header.read_text() + "// more\n"),
    "a header that is found first": lambda p: shutil.copy(p.header, p.folder / "half.h"),
    "the command": lambda p: p.compile_with("-std=c++17", "-DMORE"),
    "the settings": lambda p: p.allow("bugprone-integer-division,bugprone-sizeof-expression"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_is_looked_at_again(project: Project, what: str) -> None:
    CHANGES[what](project)
    assert project.looked_at() == 1
    assert project.looked_at() == 0


@pytest.fixture
def another(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that replaces clang-tidy, with another version."""
    script = project.folder / "bin" / "clang-tidy"
    script.parent.mkdir()
    real = shutil.which("clang-tidy")
    script.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "LLVM version 99" && exit\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")
    return script


@pytest.mark.usefixtures("another")
def test_another_clang_tidy_looks_again(project: Project) -> None:
    assert project.looked_at() == 1
    assert project.looked_at() == 0


def test_a_clang_tidy_that_dies_without_a_word_has_found_nothing_clean(project: Project, another: Path) -> None:
    whole = another.read_text()
    another.write_text(whole.replace("exec", "kill -9 $$; exec"))
    done = project.tidy()
    assert done.returncode == 1
    assert "ended with -9" in done.stderr
    another.write_text(whole)
    assert project.looked_at() == 1


def test_a_file_that_no_build_compiles_is_looked_at_with_its_neighbours_command(project: Project) -> None:
    stray = project.folder / "stray.cpp"
    stray.write_text('#include "half.h"\nconst double third = 1 / 3;\n')
    done = project.tidy(stray)
    assert done.returncode == 1
    assert "stray.cpp:2:" in done.stderr
    assert "file not found" not in done.stderr
