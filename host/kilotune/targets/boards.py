"""The boards with firmware, as their board.json files describe them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilotune.errors import KilotuneError

_BESIDE_PACKAGE = Path(__file__).parent / "boards"  # put there when the package is installed


@dataclass(frozen=True, slots=True)
class FlashLayout:
    """Model partition, checkpoint and key regions; offsets in bytes from the start of the flash file."""

    bytes: int
    model_offset: int
    model_bytes: int
    model_sector_bytes: int  # erase unit of the model partition
    checkpoint_offset: int
    checkpoint_sectors: tuple[int, ...]  # bytes of each
    word_bytes: int
    key_offset: int
    key_sector_bytes: int
    key_sector_count: int

    @property
    def checkpoint_bytes(self) -> int:
        return sum(self.checkpoint_sectors)

    @property
    def sector_bytes(self) -> int:
        """Of a checkpoint region whose sectors are all alike, as those of the twin are."""
        return self.checkpoint_sectors[0]

    @property
    def key_bytes(self) -> int:
        return self.key_sector_bytes * self.key_sector_count

    @property
    def used_bytes(self) -> int:
        ends = (
            self.model_offset + self.model_bytes,
            self.checkpoint_offset + self.checkpoint_bytes,
            self.key_offset + self.key_bytes,
        )
        return max(ends)


@dataclass(frozen=True, slots=True)
class Emulator:
    kind: str  # "qemu", "process", "" = none
    program: str
    machine: str
    counts: bool = False  # the firmware can count instructions there
    serial: int = 0  # index of the serial port that the firmware uses
    flash: str = "file"  # "file": persists; "memory": lasts as long as the emulator; "read-only"


@dataclass(frozen=True, slots=True)
class Usb:
    """How a board on a desk is found and written."""

    method: str  # "pyocd", "uf2", "" = cannot be flashed
    pyocd_target: str = ""
    ids: tuple[str, ...] = ()  # "vendor:product" in hex, of its serial port
    uf2_family: int = 0
    uf2_drive: str = ""  # label of its drive


BUSES = ("i2c", "spi")


@dataclass(frozen=True, slots=True)
class Sensors:
    """The sensors of the board's firmware by default."""

    drivers: tuple[str, ...]  # in the order in which they are tried
    pins: Mapping[str, str]  # of each of BUSES that the board has


@dataclass(frozen=True, slots=True)
class Board:
    id: str
    title: str
    core: str
    ram_bytes: int
    program_bytes: int  # memory for the firmware itself, besides the flash below; 0: no such limit
    stack_bytes: int
    firmware_ram_bytes: int  # budget of the firmware without the engine, enforced by the build; 0: not known
    firmware_program_bytes: int
    flash: FlashLayout
    emulator: Emulator
    flash_base: int  # address of the flash above
    usb: Usb
    sensors: Sensors
    hardware: str  # what has been tried on silicon
    goes_on: bool = True  # whether its firmware is built with going on learning

    @property
    def model_address(self) -> int:
        return self.flash_base + self.flash.model_offset


def source_root() -> Path | None:
    """Folder of the project's source: around the package, in the environment, or the current folder; None: not here."""
    named = os.environ.get("KILOTUNE_SOURCE")
    starts = [Path(named)] if named else []
    starts += [Path(__file__).resolve().parent, Path(sys.prefix), Path.cwd()]
    for start in starts:
        for folder in (start, *start.parents):
            if (folder / "firmware" / "boards" / "board.h").is_file() and (folder / "CMakeLists.txt").is_file():
                return folder
    return None


def boards() -> list[Board]:
    """All boards, sorted by id."""
    return [_read(path) for _, path in sorted(_files().items())]


def board(board_id: str) -> Board:
    """The board of this name; raises KilotuneError `unknown_board` if there is none."""
    files = _files()
    if board_id not in files:
        raise KilotuneError(
            "unknown_board",
            f"there is no board '{board_id}'",
            "boards: " + (", ".join(sorted(files)) or "none found"),
        )
    return _read(files[board_id])


def _files() -> dict[str, Path]:
    root = source_root()
    found = {p.stem: p for p in _BESIDE_PACKAGE.glob("*.json")}
    if root is not None:
        found |= {p.parent.name: p for p in (root / "firmware" / "boards").glob("*/board.json")}
    return found


def _read(path: Path) -> Board:
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KilotuneError(
            "bad_board",
            f"{path} does not describe a board: {error!r}",
            "compare it with another board's board.json",
        ) from error


def _parse(data: dict[str, Any]) -> Board:
    flash = data["flash"]
    emulator = data.get("emulator", {})
    budget = data.get("budget", {})
    usb = data.get("usb", {})
    sensor = data.get("sensor", {})
    return Board(
        id=str(data["id"]),
        title=str(data["title"]),
        core=str(data["core"]),
        ram_bytes=_number(data["ram"]["bytes"]),
        program_bytes=_number(data["program"]["bytes"]),
        stack_bytes=_number(data["stack_bytes"]),
        firmware_ram_bytes=_number(budget.get("ram_bytes", 0)),
        firmware_program_bytes=_number(budget.get("program_bytes", 0)),
        flash=FlashLayout(
            bytes=_number(flash["bytes"]),
            model_offset=_number(flash["model_offset"]),
            model_bytes=_number(flash["model_bytes"]),
            model_sector_bytes=_number(flash.get("model_sector_bytes", flash.get("sector_bytes", 0))),
            checkpoint_offset=_number(flash["checkpoint_offset"]),
            checkpoint_sectors=_sectors(flash),
            word_bytes=_number(flash["word_bytes"]),
            key_offset=_number(flash["key_offset"]),
            key_sector_bytes=_number(flash["key_sector_bytes"]),
            key_sector_count=_number(flash["key_sector_count"]),
        ),
        emulator=Emulator(
            kind=str(emulator.get("kind", "")),
            program=str(emulator.get("program", "")),
            machine=str(emulator.get("machine", "")),
            counts=bool(emulator.get("counts", False)),
            serial=_number(emulator.get("serial", 0)),
            flash=str(emulator.get("flash", "file")),
        ),
        flash_base=_number(flash["base"]),
        usb=Usb(
            method=str(usb.get("method", "")),
            pyocd_target=str(usb.get("pyocd_target", "")),
            ids=tuple(str(i) for i in usb.get("ids", [])),
            uf2_family=_number(usb.get("uf2_family", 0)),
            uf2_drive=str(usb.get("uf2_drive", "")),
        ),
        sensors=Sensors(
            drivers=tuple(str(sensor.get("drivers", "")).split()),
            pins={bus: str(sensor[bus]) for bus in BUSES if bus in sensor},
        ),
        hardware=str(data.get("hardware", "not tried")),
        goes_on=bool(data.get("life", 1)),
    )


def _sectors(flash: Mapping[str, Any]) -> tuple[int, ...]:
    """One by one, or so many that are all alike."""
    if "checkpoint_sectors" in flash:
        return tuple(_number(size) for size in flash["checkpoint_sectors"])
    return (_number(flash["sector_bytes"]),) * _number(flash["sector_count"])


def _number(value: int | str) -> int:
    return value if isinstance(value, int) else int(value, 0)
