"""The bills of materials name what is in the wheel and in firmware, and NOTICE has the licences of what is linked."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from kilotune.targets.build import build

from tests.support.paths import ROOT

BOARDS = ("microbit", "nucleo_f446re")  # of a core without and one with division and floating point
needs_arm = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="arm-none-eabi-gcc is not installed")


def make(folder: Path) -> None:
    named = [word for board in BOARDS for word in ("--board", board)]
    command = [sys.executable, ROOT / "host" / "sbom.py", "-o", folder, *named]
    subprocess.run([*map(str, command)], check=True, capture_output=True, timeout=280)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sbom")
    make(path)
    return path


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom_script", ROOT / "host" / "sbom.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sbom_script"] = module  # its dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def read(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    back = Bom.from_json(told)  # type: ignore[attr-defined]
    assert len(back.components) == len(told["components"])
    return told


def parts(told: dict[str, Any]) -> dict[str, str]:
    assert all(part["licenses"] for part in told["components"])
    return {part["name"]: part["version"] for part in told["components"]}


@needs_arm
@pytest.mark.parametrize("board_id", BOARDS)
def test_firmware_is_named_by_its_hash_and_made_of_what_the_linker_took(board_id: str, folder: Path) -> None:
    told = read(folder / f"kilotune-firmware-{board_id}.cdx.json")
    root = told["metadata"]["component"]
    assert root["type"] == "firmware"
    elf = Path(build(board_id).firmware)
    assert root["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(elf.read_bytes()).hexdigest()}]
    found = parts(told)
    assert set(found) == {"zcbor", "newlib", "libgcc"}
    gcc = subprocess.run(["arm-none-eabi-gcc", "-dumpfullversion"], capture_output=True, text=True, check=True)
    assert found["libgcc"] == gcc.stdout.strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["newlib"])
    (edge,) = (d for d in told["dependencies"] if d["ref"] == root["bom-ref"])
    assert len(edge["dependsOn"]) == 3


@needs_arm
def test_the_wheels_has_what_it_requires_and_what_is_compiled_into_it(folder: Path) -> None:
    found = parts(read(folder / "kilotune.cdx.json"))
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("\ndependencies = [")[1].split("\n]")[0]
    required = set(re.findall(r'^\s+"([a-z0-9-]+)', text, re.MULTILINE))
    assert len(required) > 8
    assert required <= set(found)
    assert {"zcbor", "nanobind", "robin-map"} <= set(found)
    assert "pytest" not in found


@needs_arm
def test_the_same_sources_and_tools_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    make(tmp_path)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


@needs_arm
def test_notice_names_every_part_that_is_linked_and_every_function_of_the_c_library(folder: Path) -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    linked = {"nanobind", "robin-map"}
    for board_id in BOARDS:
        linked |= set(parts(read(folder / f"kilotune-firmware-{board_id}.cdx.json")))
    for name in linked:
        assert re.search(rf"^{name}\b.*\n-+$", notice, re.MULTILINE), name
    of_libc = set(re.findall(r"C library \((.*?)\)", notice)[0].split(", "))
    for board_id in BOARDS:
        text = (Path(build(board_id).firmware).parent / "kilotune.map").read_text(encoding="utf-8", errors="replace")
        included = text.split("Memory Configuration")[0]
        taken = set(re.findall(r"/libc\w*\.a\((?:lib_a-|libc_a-)?([a-z_0-9]+?)(?:-stub|-armv7\w*)?\.o\)", included))
        assert taken
        assert taken <= of_libc


def test_an_archive_of_the_build_itself_is_no_part_and_any_other_is(script: ModuleType) -> None:
    link_map = (
        "Archive member included to satisfy reference by file (symbol)\n\n"
        "firmware/runtime/libkilotune_runtime.a(engine.cpp.obj)\n                              main.cpp.obj (x)\n"
        "/usr/lib/gcc/arm-none-eabi/12.2.1/libgcc.a(_udivsi3.o)\n                              y (z)\n"
        "/opt/lib/libsecret.a(a.o)\n                              y (z)\n\n"
        "Discarded input sections\n\n"
    )
    assert script.archives_in(link_map) == {"libgcc.a", "libsecret.a"}


@needs_arm
def test_what_nobody_has_looked_at_ends_it(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "archives_in", lambda link_map: {"libgcc.a", "libsecret.a"})
    with pytest.raises(SystemExit, match=r"libsecret\.a: add it to host/sbom\.py and to NOTICE"):
        script.of_firmware("microbit")
