"""Tables in docs/ that are generated from the sources are up to date."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def tables(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, folder / "tables.py", *options], capture_output=True, text=True, timeout=60
    )  # fmt: skip


def test_the_tables_are_those_of_the_sources() -> None:
    done = tables(DOCS, "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("document", "begin"), [("SECURITY.md", "| anyone"), ("ERRORS.md", "| `no_key`")])
def test_a_table_that_was_changed_is_found_and_made_again(tmp_path: Path, document: str, begin: str) -> None:
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("*.svg", "__pycache__"))
    path = tmp_path / "docs" / document
    right = path.read_text()
    row = next(line for line in right.splitlines() if line.startswith(begin))
    path.write_text(right.replace(f"{row}\n", ""))
    found = tables(tmp_path / "docs", "--check")
    assert found.returncode == 1
    assert document in found.stderr
    assert tables(tmp_path / "docs").returncode == 0
    assert path.read_text() == right
