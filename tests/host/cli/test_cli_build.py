"""`kilotune build` and `flash` as processes: which sensors the firmware drives, and on which bus."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kilotune.targets import hardware, uf2
from kilotune.targets.boards import board, boards

from tests.support.tools import needs_arm

ON_SPI = [b.id for b in boards() if "spi" in b.sensors.pins]


def run(*arguments: object, command: str = "build", code: int = 0) -> dict[str, Any]:
    words = [sys.executable, "-m", "kilotune", command, *map(str, arguments), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=700, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def symbols(elf: str) -> str:
    done = subprocess.run(["arm-none-eabi-nm", "-C", elf], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@needs_arm
@pytest.mark.parametrize("board_id", ON_SPI)
def test_every_board_with_spi_pins_builds_for_sensors_on_them(board_id: str) -> None:
    """Builds without warnings, as warnings are errors."""
    built = run("--board", board_id, "--sensor-bus", "spi")
    pins = board(board_id).sensors.pins
    assert built["sensors"] == list(board(board_id).sensors.drivers)
    assert (built["sensor_bus"], built["sensor_pins"]) == ("spi", pins["spi"])
    assert "spi_read" in symbols(built["firmware"])


@needs_arm
def test_the_drivers_of_a_firmware_are_those_that_are_asked_for(build_folder: Path) -> None:
    """Several builds in the same folder: no option of an earlier build stays."""
    here = ("--board", "nrf52840dk", "-o", build_folder)
    one = run(*here, "--sensors", "adxl345", "--sensor-bus", "spi")
    assert (one["sensors"], one["sensor_bus"]) == (["adxl345"], "spi")
    found = symbols(one["firmware"])
    assert "kAdxl345" in found
    assert "spi_read" in found
    assert "kLsm6dso" not in found
    none = run(*here, "--sensors", "")
    assert (none["sensors"], none["sensor_bus"], none["sensor_pins"]) == ([], "", "")
    assert "kAdxl345" not in symbols(none["firmware"])
    every = run(*here)
    assert (every["sensors"], every["sensor_bus"]) == (["lis2dw12", "adxl345", "lsm6dso"], "i2c")
    found = symbols(every["firmware"])
    assert all(name in found for name in ("kLis2dw12", "kAdxl345", "kLsm6dso"))
    assert "spi_read" not in found
    assert none["flash_bytes"] < one["flash_bytes"] < every["flash_bytes"]


@pytest.mark.parametrize(
    ("arguments", "code", "says", "hint"),
    [
        (("nrf52840dk", "--sensors", "bmi270"), "unknown_sensor", "'bmi270'", "lis2dw12, adxl345, lsm6dso"),
        (("nrf52840dk", "--sensors", "adxl345,adxl345"), "bad_argument", "twice", "once"),
        (("microbit", "--sensors", "adxl345", "--sensor-bus", "spi"), "no_sensor_bus", "'microbit'", "it has i2c"),
        (("microbit", "--sensor-bus", "i2c"), "bad_argument", "no sensor", "--sensors"),
        (("mps2-an386", "--sensors", "adxl345"), "no_sensor_bus", "'mps2-an386'", "nrf52840dk"),
        (("native", "--sensor-bus", "spi"), "no_sensor_bus", "'native'", "rpi_pico"),
    ],
)
def test_what_a_board_cannot_have_is_refused_before_anything_is_built(
    arguments: tuple[str, ...], code: str, says: str, hint: str, tmp_path: Path
) -> None:
    error = run("--board", *arguments, "-o", tmp_path / "build", code=2)["error"]
    assert error["code"] == code
    assert says in error["message"]
    assert hint in error["hint"]
    assert not (tmp_path / "build").exists()


@needs_arm
def test_more_drivers_than_the_memory_holds_are_told_by_bytes() -> None:
    error = run("--board", "microbit", "--sensors", "lis2dw12,adxl345,lsm6dso", code=1)["error"]
    assert error["code"] == "build_failed"
    assert re.search(r"region `PROGRAM' overflowed by \d+ bytes", error["message"])


@needs_arm
def test_firmware_for_sensors_on_spi_is_flashed_as_it_is_built(tmp_path: Path) -> None:
    built = run("--board", "rpi_pico", "--sensors", "lsm6dso", "--sensor-bus", "spi")
    chosen = ("--board", "rpi_pico", "--sensors", "lsm6dso", "--sensor-bus", "spi")
    assert run(*chosen, "--drive", tmp_path, command="flash")["firmware"] == built["firmware"]
    pico = board("rpi_pico")
    segments = hardware.segments_of(pico, Path(built["firmware"]), None)
    assert (tmp_path / "kilotune.uf2").read_bytes() == uf2.encode(segments, pico.usb.uf2_family)


def test_an_emulated_board_keeps_its_own_sensors(tmp_path: Path) -> None:
    refused = run("--board", "renode:nrf52840dk", "--sensor-bus", "spi", "--state", tmp_path, command="flash", code=2)
    assert refused["error"]["code"] == "bad_argument"
    assert "renode:nrf52840dk" in refused["error"]["message"]
    assert not list(tmp_path.iterdir())


def test_a_bus_that_there_is_not_is_a_usage_error() -> None:
    command = [sys.executable, "-m", "kilotune", "build", "--board", "nrf52840dk", "--sensor-bus", "can"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "i2c" in done.stderr
