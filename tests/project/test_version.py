"""host/kilotune/version.py is the only source of the version; every file that repeats it agrees."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

from kilotune.version import __version__

ROOT = Path(__file__).parents[2]


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def test_the_version_has_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)  # what CMake and the ecosystems' packages take


def test_the_installed_package_has_it() -> None:
    assert metadata.version("kilotune") == __version__, "install again: host/setup.sh test"


def test_no_second_version_is_kept_for_python() -> None:
    project = read("pyproject.toml").split("[project]")[1].split("\n[")[0]
    assert 'dynamic = ["version"]' in project
    assert not re.search(r"^version\s*=", project, re.M)


def test_kernel_and_packages_for_other_ecosystems_repeat_it() -> None:
    assert f'#define KILOTUNE_KERNEL_VERSION "{__version__}"' in read("firmware/kernel/include/kilotune.h")
    assert json.loads(read("library.json"))["version"] == __version__
    assert f'\nversion: "{__version__}"\n' in read("idf_component.yml")


def test_the_changelog_begins_with_it() -> None:
    first = next(line for line in read("CHANGELOG.md").splitlines() if line.startswith("## "))
    assert first.startswith(f"## {__version__}")
