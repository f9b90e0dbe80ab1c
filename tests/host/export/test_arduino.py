"""The kernel for Arduino: "Library specification" (arduino-cli), and arduino-lint's schema of library.properties."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kilotune.export.kernel_package import Publisher, lay_out

from tests.support.kernel_library import CORES, VERSION, run
from tests.support.tools import needs_arm

ARDUINO_CATEGORIES = {
    "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage",
    "Data Processing", "Other"}  # fmt: skip
ARDUINO_REQUIRED = (
    "name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures")  # fmt: skip


def test_arduino_layout_follows_the_library_specification(tmp_path: Path) -> None:
    folder = tmp_path / "kilotune"
    lay_out("arduino", folder, Publisher("A. Person <a@example.com>", "https://example.com/kilotune"))
    lines = (folder / "library.properties").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert all(fields.get(name) for name in ARDUINO_REQUIRED)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.\-]{0,62}", fields["name"])
    assert not fields["name"].lower().startswith("arduino")
    assert fields["version"] == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["category"] in ARDUINO_CATEGORIES
    assert fields["url"] == "https://example.com/kilotune"
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}", folder.name)
    # Recursive layout: sources under src/ only; headers at its root are the interface that `includes` names.
    assert [p.name for p in (folder / "src").glob("*.h")] == fields["includes"].split(",")
    assert not [p for p in folder.iterdir() if p.suffix in (".h", ".cpp", ".ino")]
    assert not (folder / "utility").exists()
    for sketch in (folder / "examples").iterdir():
        assert (sketch / f"{sketch.name}.ino").is_file()
        assert not (sketch / "main.cpp").exists()


@needs_arm
@pytest.mark.parametrize("standard", ["gnu++14", "gnu++17"])
@pytest.mark.parametrize("core", CORES)
def test_arduino_sketch_compiles_with_only_src_in_the_path(
    tmp_path: Path, layouts: dict[str, Path], core: str, standard: str
) -> None:
    """As its builder does: all of src/, then the sketch with Arduino.h put in front."""
    folder = layouts["arduino"]
    (tmp_path / "Arduino.h").write_text(
        "#pragma once\n#include <cstdint>\nstruct Port { void begin(long); template <class T> void print(T);\n"
        "template <class T> void println(T); };\nextern Port Serial;\n")  # fmt: skip
    flags = ["-c", f"-std={standard}", "-Os", CORES[core], "-mthumb", "-fno-exceptions", "-fno-rtti", "-Wall",
             "-Werror", "-I", folder / "src"]  # fmt: skip
    for path in (folder / "src").rglob("*.cpp"):
        run("arm-none-eabi-g++", *flags, path, "-o", tmp_path / f"{path.stem}.o")
    sketch = folder / "examples/learn_from_an_array/learn_from_an_array.ino"
    run("arm-none-eabi-g++", *flags, "-I", tmp_path, "-include", "Arduino.h", "-x", "c++", sketch,
        "-o", tmp_path / "sketch.o")  # fmt: skip
