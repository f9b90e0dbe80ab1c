"""Building firmware: one at a time, within its budget, and a build that fails says why."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import kilotune
import pytest
from kilotune.errors import KilotuneError
from kilotune.targets import build as firmware
from kilotune.targets import qemu
from kilotune.targets.boards import board, source_root

from tests.support import small_models
from tests.support.errors import code_of


def test_a_build_waits_for_another_within_bounds(tmp_path: Path) -> None:
    with firmware._lock(tmp_path):
        with pytest.raises(KilotuneError) as error, firmware._lock(tmp_path, patience_s=0.1):
            pass
        assert code_of(error) == "build_failed"
    with firmware._lock(tmp_path, patience_s=0.0):
        pass


def test_a_missing_compiler_or_emulator_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KilotuneError) as error:
        firmware.build("mps2-an386", out=tmp_path / "build")
    assert code_of(error) == "missing_tool"
    with pytest.raises(KilotuneError) as error:
        qemu.find_qemu(board("mps2-an386"))
    assert code_of(error) == "missing_tool"


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text('cmake_minimum_required(VERSION 3.20)\nmessage(FATAL_ERROR "no clay")\n')
    with pytest.raises(KilotuneError) as error:
        firmware.build("native", out=tmp_path / "build", source=tmp_path)
    assert code_of(error) == "build_failed"
    assert "no clay" in error.value.message
    assert (tmp_path / "build" / "build.log").is_file()


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
def test_cmake_runs_again_only_where_it_would_be_told_something_else(tmp_path: Path, content: bytes) -> None:
    source, out, model = tmp_path / "source", tmp_path / "build", tmp_path / "model.ktm"
    source.mkdir()
    (source / "main.cpp").write_text("int main() { return 0; }\n")
    lists = source / "CMakeLists.txt"
    lists.write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(counted LANGUAGES CXX)\n"
        "file(APPEND ${CMAKE_BINARY_DIR}/runs x)\n"
        "add_executable(firmware main.cpp)\nset_target_properties(firmware PROPERTIES OUTPUT_NAME kilotune-native)\n"
    )

    def runs(image: Path | None = None) -> int:
        firmware.build("native", image, out=out, source=source)
        return len((out / "runs").read_text())

    assert [runs(), runs()] == [1, 1]
    lists.write_text(lists.read_text() + "add_compile_options(-O1)\n")
    assert [runs(), runs()] == [2, 2]  # Ninja has seen it
    subprocess.run(["cmake", "-S", source, "-B", out, "-DKILOTUNE_BOARD=another"], check=True, capture_output=True)
    assert [runs(), runs()] == [4, 4]
    model.write_bytes(content)
    assert [runs(model), runs(model)] == [5, 5]
    other = kilotune.compile(small_models.chain(10, 6, 10, seed=2), method="bias")
    model.write_bytes(other.content)
    assert [runs(model), runs(model), runs()] == [6, 6, 7]
    (source / "main.cpp").write_text("int main() { return not_declared; }\n")
    for _ in range(2):
        with pytest.raises(KilotuneError) as error:
            runs()
        assert code_of(error) == "build_failed"
        assert "not_declared" in error.value.message


def test_a_build_for_a_damaged_model_is_refused_before_it_starts(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ktm"
    broken.write_bytes(b"not a model")
    with pytest.raises(KilotuneError) as error:
        firmware.build("native", image=broken, out=tmp_path / "build")
    assert code_of(error) == "bad_image"
    assert not (tmp_path / "build").exists()


@pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
def test_a_firmware_over_its_budget_is_no_product(build_folder: Path) -> None:
    """The build fails, and fails again: the ELF file is not left behind."""
    out, root = build_folder, source_root()
    built = firmware.build("mps2-an386", out=out)
    assert built.flash_bytes == built.text + built.data
    configure = ["cmake", "-S", str(root), "-B", str(out), f"-DKILOTUNE_RAM_BUDGET={built.ram_bytes - 1}"]
    subprocess.run(configure, check=True, capture_output=True, timeout=600)
    with pytest.raises(KilotuneError) as error:
        firmware.build("mps2-an386", out=out)
    assert code_of(error) == "build_failed"
    assert f"over the budget of {built.ram_bytes - 1}" in error.value.message
    assert not Path(built.firmware).exists()
