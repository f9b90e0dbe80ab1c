"""The same sources give the same firmware and the same wheel, wherever they lie."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FOLDERS = ("a", "another place with a longer name")
EPOCH = "1700000000"  # of the files in a wheel


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The project's files, twice."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=False, timeout=30)
    if listed.returncode != 0:
        pytest.skip("this is no git repository")
    found = []
    for name in FOLDERS:
        folder = tmp_path_factory.mktemp("sources") / name
        for file in filter(None, listed.stdout.decode().split("\0")):
            if (ROOT / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / file, folder / file)
        found.append(folder)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
@pytest.mark.parametrize("board_id", ["microbit", "rpi_pico"])
def test_firmware_from_two_folders_is_one(board_id: str, copies: list[Path]) -> None:
    """The project's own folder, where other tests may have built it, is the first; its copy has a longer name."""
    hashes = set()
    for folder, out in ((ROOT, ROOT / "build" / "firmware" / board_id), (copies[1], copies[1] / "out" / board_id)):
        command = [sys.executable, "-m", "kilotune", "build", "--board", board_id, "--source", folder, "-o", out]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=800, check=False)
        assert done.returncode == 0, done.stderr
        files = sorted(path for path in out.glob("kilotune.*") if path.suffix in (".elf", ".uf2"))
        assert files
        hashes.add(tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in files))
    assert len(hashes) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("scikit_build_core", "nanobind")),
    reason="scikit-build-core and nanobind are not installed: `make` installs them",
)
def test_the_wheel_from_two_folders_is_one(copies: list[Path]) -> None:
    """With the build's tools in one place, and SOURCE_DATE_EPOCH for the times in it."""
    hashes = set()
    for folder in copies:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
                   "--no-build-isolation", "--wheel-dir", "dist", "."]  # fmt: skip
        environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800, check=False
        )
        assert done.returncode == 0, done.stderr
        (wheel,) = (folder / "dist").glob("*.whl")
        hashes.add((wheel.name, hashlib.sha256(wheel.read_bytes()).hexdigest()))
        with zipfile.ZipFile(wheel) as archive:
            licences = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
        assert licences >= {"LICENSE", "NOTICE"}
    assert len(hashes) == 1
