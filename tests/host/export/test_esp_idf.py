"""The kernel for ESP-IDF: "Build system", and the component manager's "idf_component.yml Manifest File"."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.kernel_library import EXAMPLE, VERSION, assert_learned, run
from tests.support.paths import ROOT
from tests.support.tools import needs_cmake, tool

# What idf_component_register does with these arguments, reduced to a plain library.
IDF = """\
cmake_minimum_required(VERSION 3.20)
project(i LANGUAGES CXX)
function(idf_component_register)
  cmake_parse_arguments(A "" "" "SRC_DIRS;INCLUDE_DIRS" ${{ARGN}})
  if(A_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${{A_UNPARSED_ARGUMENTS}}")
  endif()
  add_library(component STATIC)
  foreach(dir IN LISTS A_SRC_DIRS)
    file(GLOB found ${{CMAKE_CURRENT_SOURCE_DIR}}/${{dir}}/*.c ${{CMAKE_CURRENT_SOURCE_DIR}}/${{dir}}/*.cpp)
    if(NOT found)
      message(FATAL_ERROR "No source files found for SRC_DIRS entry ${{dir}}")
    endif()
    target_sources(component PRIVATE ${{found}})
  endforeach()
  target_include_directories(component PUBLIC ${{A_INCLUDE_DIRS}})
endfunction()
add_subdirectory({folder} component)
add_executable(learn {example}/main.cpp)
target_link_libraries(learn component)
"""


@needs_cmake
@pytest.mark.parametrize("where", ["project", "layout"])
def test_esp_idf_component_builds_and_its_manifest_is_valid(
    tmp_path: Path, layouts: dict[str, Path], where: str
) -> None:
    folder = ROOT if where == "project" else layouts["esp-idf"]
    manifest = (folder / "idf_component.yml").read_text(encoding="utf-8")
    assert f'version: "{VERSION}"\n' in manifest
    assert 'license: "Apache-2.0"\n' in manifest
    assert "description: " in manifest
    (tmp_path / "CMakeLists.txt").write_text(IDF.format(folder=folder, example=EXAMPLE))
    run("cmake", "-S", tmp_path, "-B", tmp_path / "b", "-G", "Ninja", "-DCMAKE_CXX_STANDARD=17")
    run("cmake", "--build", tmp_path / "b")
    assert_learned(run(tmp_path / "b" / "learn"))


@needs_cmake
@pytest.mark.parametrize("where", ["project", "layout"])
def test_esp_idf_can_expand_the_component_early(tmp_path: Path, layouts: dict[str, Path], where: str) -> None:
    """It first runs every component's CMakeLists.txt as a script, where nothing but the registration may happen."""
    folder = ROOT if where == "project" else layouts["esp-idf"]
    (tmp_path / "early.cmake").write_text(
        "macro(idf_component_register)\n  set(registered 1 PARENT_SCOPE)\n  return()\nendmacro()\n"
        f"function(expand)\n  include({folder}/CMakeLists.txt)\nendfunction()\nexpand()\n"
        'if(NOT registered)\n  message(FATAL_ERROR "not registered")\nendif()\n')  # fmt: skip
    run("cmake", "-P", tmp_path / "early.cmake")


@pytest.mark.parametrize("where", ["project", "layout"])
def test_espressifs_component_manager_accepts_and_packs_it(
    tmp_path: Path, layouts: dict[str, Path], where: str
) -> None:
    compote = tool("compote")
    if compote is None:
        pytest.skip("needs idf-component-manager")
    folder = ROOT if where == "project" else layouts["esp-idf"]
    run(compote, "manifest", "lint", folder / "idf_component.yml")
    run(compote, "component", "pack", "--project-dir", folder, "--name", "kilotune", "--dest-dir", tmp_path / "dist",
        cwd=tmp_path)  # fmt: skip
    (archive,) = (tmp_path / "dist").glob(f"kilotune_{VERSION}.tgz")
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "CMakeLists.txt").is_file()
    assert list((tmp_path / "unpacked").rglob("kilotune.h"))
    assert not list((tmp_path / "unpacked").rglob("*.py")), "more than the kernel is in the component"
