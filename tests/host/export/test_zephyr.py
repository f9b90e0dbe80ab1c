"""The kernel for Zephyr: "Modules (External projects)", and the schema in scripts/zephyr_module.py."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.kernel_library import EXAMPLE, assert_learned, run
from tests.support.paths import ROOT
from tests.support.tools import needs_cmake

# What Zephyr's CMake functions do with the sources, reduced to a plain library.
ZEPHYR = """\
cmake_minimum_required(VERSION 3.20)
project(z LANGUAGES CXX)
set(CONFIG_KILOTUNE {on})
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${{name}})
  add_library(${{name}} STATIC)
endmacro()
macro(zephyr_library_sources)
  target_sources(${{ZEPHYR_CURRENT_LIBRARY}} PRIVATE ${{ARGN}})
endmacro()
macro(zephyr_include_directories)
  include_directories(${{ARGN}})
  set_property(GLOBAL APPEND PROPERTY dirs ${{ARGN}})
endmacro()
add_subdirectory({folder}/zephyr z)
if(TARGET kilotune)
  get_property(dirs GLOBAL PROPERTY dirs)
  target_include_directories(kilotune PUBLIC ${{dirs}})
  add_executable(learn {example}/main.cpp)
  target_link_libraries(learn kilotune)
endif()
"""


def _module_yml(path: Path) -> dict[str, Any]:
    """The flat YAML that the module file is written in."""
    data: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, value = line.strip().partition(":")
        if line.startswith("  "):
            data["build"][name] = value.strip()
        else:
            data[name] = value.strip() or {}
    return data


@needs_cmake
@pytest.mark.parametrize("where", ["project", "layout"])
def test_zephyr_module_follows_the_schema_and_builds(tmp_path: Path, layouts: dict[str, Path], where: str) -> None:
    folder = ROOT if where == "project" else layouts["zephyr"]
    data = _module_yml(folder / "zephyr" / "module.yml")
    assert data == {"name": "kilotune", "build": {"cmake": "zephyr", "kconfig": "zephyr/Kconfig"}}
    assert (folder / data["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (folder / data["build"]["kconfig"]).is_file()
    for on in ("ON", "OFF"):
        app = tmp_path / on
        app.mkdir()
        (app / "CMakeLists.txt").write_text(ZEPHYR.format(on=on, folder=folder, example=EXAMPLE))
        run("cmake", "-S", app, "-B", app / "b", "-G", "Ninja", "-DCMAKE_CXX_STANDARD=17")
        run("cmake", "--build", app / "b")
    assert_learned(run(tmp_path / "ON" / "b" / "learn"))
    assert not (tmp_path / "OFF" / "b" / "learn").exists()


@pytest.mark.skipif(find_spec("kconfiglib") is None, reason="needs kconfiglib, Zephyr's parser")
@pytest.mark.parametrize(("cpp", "standard", "offered"), [("y", "17", True), ("y", "11", False), ("n", "17", False)])
def test_zephyr_offers_the_kernel_where_its_language_is_there(
    tmp_path: Path, cpp: str, standard: str, offered: bool
) -> None:
    import kconfiglib

    (tmp_path / "Kconfig").write_text(
        f"config CPP\n\tdef_bool {cpp}\nconfig STD_CPP98\n\tbool\nconfig STD_CPP11\n"
        f"\tdef_bool {'y' if standard == '11' else 'n'}\nconfig REQUIRES_FULL_LIBCPP\n\tbool\n"
        f'source "{ROOT / "zephyr" / "Kconfig"}"\n')  # fmt: skip
    parsed = kconfiglib.Kconfig(str(tmp_path / "Kconfig"), warn_to_stderr=False)
    parsed.syms["KILOTUNE"].set_value("y")
    assert not parsed.warnings
    assert (parsed.syms["KILOTUNE"].str_value == "y") == offered
    assert (parsed.syms["REQUIRES_FULL_LIBCPP"].str_value == "y") == offered
