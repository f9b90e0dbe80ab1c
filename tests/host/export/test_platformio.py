"""The kernel for PlatformIO: manifest reference "library.json", and the schema in platformio-core."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support.kernel_library import VERSION, assert_learned, run
from tests.support.paths import ROOT
from tests.support.tools import tool


@pytest.mark.parametrize("where", ["project", "layout"])
def test_library_json_follows_the_manifest_reference(layouts: dict[str, Path], where: str) -> None:
    folder = ROOT if where == "project" else layouts["platformio"]
    data = json.loads((folder / "library.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", data["name"])
    assert data["version"] == VERSION
    assert 0 < len(data["description"]) <= 255
    assert all(re.fullmatch(r"[a-z\d\-_+. ]{1,50}", word) for word in data["keywords"])
    assert data["license"] == "Apache-2.0"
    assert (folder / data["build"]["includeDir"] / data["headers"]).is_file()
    assert (folder / data["build"]["srcDir"] / "trainer.cpp").is_file()
    for path in data["export"]["include"]:
        assert (folder / path).exists()
    for example in data["examples"]:
        assert all((folder / example["base"] / name).is_file() for name in example["files"])


@pytest.mark.parametrize("where", ["project", "layout"])
def test_platformio_packs_a_library_that_compiles(tmp_path: Path, layouts: dict[str, Path], where: str) -> None:
    pio = tool("pio")
    if pio is None:
        pytest.skip("needs platformio")
    folder = tmp_path / "kilotune"
    shutil.copytree(ROOT if where == "project" else layouts["platformio"], folder,
                    ignore=shutil.ignore_patterns("build", ".git", ".venv", ".*_cache", "__pycache__"))  # fmt: skip
    manifest = json.loads((folder / "library.json").read_text(encoding="utf-8"))
    del manifest["license"]  # its check asks a server for the list of licences
    (folder / "library.json").write_text(json.dumps(manifest))
    run(pio, "pkg", "pack", folder, "-o", tmp_path / "k.tar.gz", PLATFORMIO_CORE_DIR=str(tmp_path / "core"))
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(tmp_path / "k.tar.gz", unpacked)
    assert not (unpacked / "pyproject.toml").exists(), "more than the kernel is in the package"
    build = manifest["build"]
    flags = ["-I", unpacked / build["includeDir"], *(f.replace("-I", f"-I{unpacked}/") for f in build["flags"])]
    cpp = [p for rule in build["srcFilter"] for p in (unpacked / build["srcDir"]).glob(rule[2:-1])]
    example = unpacked / manifest["examples"][0]["base"]
    run("g++", "-std=c++17", *flags, *cpp, example / "main.cpp", "-o", tmp_path / "learn")
    assert_learned(run(tmp_path / "learn"))
