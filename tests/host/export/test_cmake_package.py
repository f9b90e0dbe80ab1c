"""The kernel for CMake: installed or as a subdirectory, other projects can use it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.kernel_library import EXAMPLE, KERNEL, VERSION, assert_learned, run
from tests.support.paths import ROOT
from tests.support.tools import needs_cmake

CONSUMER = """\
cmake_minimum_required(VERSION 3.20)
project(consumer LANGUAGES CXX)
{how}
add_executable(learn {example}/main.cpp)
target_link_libraries(learn PRIVATE kilotune::kernel)
"""


def _consume(folder: Path, how: str, example: Path, *options: str) -> None:
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(CONSUMER.format(how=how, example=example))
    run("cmake", "-S", folder, "-B", folder / "b", "-G", "Ninja", *options)
    run("cmake", "--build", folder / "b")
    assert_learned(run(folder / "b" / "learn"))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    run("cmake", "-S", KERNEL, "-B", folder / "b", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_INSTALL_LIBDIR=lib")  # fmt: skip
    run("cmake", "--build", folder / "b")
    run("cmake", "--install", folder / "b", "--prefix", folder / "there")
    return folder / "there"


@needs_cmake
def test_the_installed_cmake_package_serves_a_project_elsewhere(tmp_path: Path, installed: Path) -> None:
    example = shutil.copytree(EXAMPLE, tmp_path / "example")
    minor = ".".join(VERSION.split(".")[:2])
    _consume(tmp_path / "consumer", f"find_package(kilotune {minor} REQUIRED)", example,
             f"-DCMAKE_PREFIX_PATH={installed}")  # fmt: skip
    targets = (installed / "lib/cmake/kilotune/kilotuneTargets.cmake").read_text()
    assert str(ROOT) not in targets, "the package names the source tree"
    assert not list(installed.rglob("*.cpp"))


@needs_cmake
def test_the_cmake_package_refuses_a_version_that_it_is_not(tmp_path: Path, installed: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/CMakeLists.txt").write_text(
        CONSUMER.format(how="find_package(kilotune 99.0 REQUIRED)", example=EXAMPLE))  # fmt: skip
    run("cmake", "-S", tmp_path / "c", "-B", tmp_path / "cb", f"-DCMAKE_PREFIX_PATH={installed}", code=1)


@needs_cmake
@pytest.mark.parametrize("where", ["project", "layout"])
def test_add_subdirectory_serves_a_project_elsewhere(tmp_path: Path, layouts: dict[str, Path], where: str) -> None:
    folder = KERNEL if where == "project" else layouts["cmake"]
    _consume(tmp_path / "consumer", f"add_subdirectory({folder} kilotune)", EXAMPLE)
