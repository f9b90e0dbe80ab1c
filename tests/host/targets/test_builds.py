"""Building firmware: one at a time, within its budget, and a build that fails says why."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.targets import build as firmware
from kilotune.targets import qemu
from kilotune.targets.boards import board, source_root

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


def test_a_build_for_a_damaged_model_is_refused_before_it_starts(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ktm"
    broken.write_bytes(b"not a model")
    with pytest.raises(KilotuneError) as error:
        firmware.build("native", image=broken, out=tmp_path / "build")
    assert code_of(error) == "bad_image"
    assert not (tmp_path / "build").exists()


@pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
def test_a_firmware_over_its_budget_is_no_product(tmp_path: Path) -> None:
    """The build fails, and fails again: the ELF file is not left behind."""
    out = tmp_path / "build"
    built = firmware.build("mps2-an386", out=out)
    assert built.flash_bytes == built.text + built.data
    root = source_root()
    configure = ["cmake", "-S", str(root), "-B", str(out), f"-DKILOTUNE_RAM_BUDGET={built.ram_bytes - 1}"]
    subprocess.run(configure, check=True, capture_output=True, timeout=60)
    with pytest.raises(KilotuneError) as error:
        firmware.build("mps2-an386", out=out)
    assert code_of(error) == "build_failed"
    assert f"over the budget of {built.ram_bytes - 1}" in error.value.message
    assert not Path(built.firmware).exists()
