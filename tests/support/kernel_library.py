"""The kernel as a library: its sources, its example, and the commands that compile and run them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from kilotune.common.files import lock_file
from kilotune.errors import KilotuneError

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
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=600,
        env=os.environ | environment)  # fmt: skip
    assert result.returncode == code, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def kernel_objects(compiler: str, *flags: str) -> list[Path]:
    """The whole kernel, compiled with these flags: once for all tests that want the same of the same sources."""
    included = ("-I", str(KERNEL.parent), "-I", str(KERNEL / "include"))
    version = run(compiler, "--version")
    key = hashlib.sha256("\0".join((version, *flags, *included)).encode())
    for path in sources(KERNEL):
        key.update(f"\0{path}\0".encode() + path.read_bytes())
    folder = ROOT / "build" / "kernel-objects" / key.hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    busy = KilotuneError("build_failed", f"another test compiles in {folder} and does not end", "end it")
    with lock_file(folder / ".lock", 800, busy):
        if not (folder / "complete").exists():
            for part in (".", "ops"):
                (folder / part).mkdir(exist_ok=True)
                run(compiler, *flags, *included, "-c", *sorted((KERNEL / part).glob("*.cpp")), cwd=folder / part)
            (folder / "complete").touch()
    return sorted(folder.rglob("*.o"))


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
