"""What firmware uses, and what emulators give it, ends where the silicon's memory does."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from elftools.elf import elffile
from elftools.elf.sections import SymbolTableSection
from kilotune.targets import build as firmware
from kilotune.targets.boards import board, boards

from tests.support.paths import ROOT

BOARDS = ROOT / "firmware" / "boards"
KB = 1024


@dataclass(frozen=True)
class Silicon:
    """Of the data sheets: RAM that the core's firmware may use as one block, and flash."""

    ram: tuple[int, int]  # base, bytes
    flash: tuple[int, int]


SILICON = {
    "microbit": Silicon((0x20000000, 16 * KB), (0, 256 * KB)),  # nRF51822-QFAA
    "stm32f4_discovery": Silicon((0x20000000, 128 * KB), (0x08000000, 1024 * KB)),  # STM32F407VG: SRAM1 and SRAM2
    "nucleo_f446re": Silicon((0x20000000, 128 * KB), (0x08000000, 512 * KB)),  # STM32F446RE
    "nrf52840dk": Silicon((0x20000000, 256 * KB), (0, 1024 * KB)),
    "rpi_pico": Silicon((0x20000000, 264 * KB), (0x10000000, 2048 * KB)),  # RP2040, W25Q16JV
}


def _inside(place: tuple[int, int], whole: tuple[int, int]) -> bool:
    return whole[0] <= place[0] and place[0] + place[1] <= whole[0] + whole[1]


def test_every_board_on_a_desk_has_its_silicon_here() -> None:
    assert {b.id for b in boards() if b.usb.method} == set(SILICON)


@pytest.mark.parametrize("board_id", sorted(SILICON))
def test_the_memory_map_is_the_silicons(board_id: str) -> None:
    told = json.loads((BOARDS / board_id / "board.json").read_text(encoding="utf-8"))
    chip, layout = SILICON[board_id], board(board_id).flash
    assert (int(told["ram"]["base"], 0), int(told["ram"]["bytes"], 0)) == chip.ram
    assert (int(told["flash"]["base"], 0), int(told["flash"]["bytes"], 0)) == chip.flash
    base = chip.flash[0]
    used = [(int(told[part]["base"], 0), int(told[part]["bytes"], 0)) for part in ("boot", "program") if part in told]
    used += [
        (base + layout.model_offset, layout.model_bytes),
        (base + layout.checkpoint_offset, layout.checkpoint_bytes),
        (base + layout.key_offset, layout.key_bytes),
    ]
    assert all(_inside(place, chip.flash) for place in used)
    in_order = sorted(used)
    assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(in_order))


@pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
@pytest.mark.parametrize("board_id", sorted(SILICON))
def test_the_firmware_lies_within_the_silicons_memory(board_id: str) -> None:
    chip = SILICON[board_id]
    with Path(firmware.build(board_id).firmware).open("rb") as file:
        elf = elffile.ELFFile(file)
        sections = [(s["sh_addr"], s["sh_size"]) for s in elf.iter_sections() if s["sh_flags"] & 2 and s["sh_size"]]
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = {s.name: s["st_value"] for s in table.iter_symbols()}
    assert sections
    for place in sections:
        assert _inside(place, chip.ram) or _inside(place, chip.flash), hex(place[0])
    assert _inside((symbols["__engine_start"], symbols["__engine_end"] - symbols["__engine_start"]), chip.ram)


def _numbers(pattern: str, text: str) -> list[tuple[int, ...]]:
    """Of each match, all groups."""
    return [tuple(int(number, 0) for number in found.groups()) for found in re.finditer(pattern, text)]


@pytest.mark.parametrize("board_id", ["stm32f4_discovery", "nucleo_f446re"])
def test_renodes_stm32_has_the_ram_and_flash_of_the_board_and_no_more(board_id: str) -> None:
    """Its own description has 256 KB and 2 MB, so that an access beyond the chip would not be noticed."""
    chip = SILICON[board_id]
    shared = (BOARDS / "stm32f4" / "renode.repl").read_text(encoding="utf-8")
    assert [n for (n,) in _numbers(r"\nsram:\n    size: (0x\w+)", shared)] == [chip.ram[1]]
    assert "\nflash: @ none\n" in shared
    text = (BOARDS / board_id / f"{board_id}.repl").read_text(encoding="utf-8")
    plain = _numbers(r"MappedMemory @ sysbus (0x\w+)\n    size: (0x\w+)", text)
    windows = _numbers(r"address: (0x\w+); size: (0x\w+)", text)
    assert all(_inside((place[0], place[1]), chip.flash) for place in plain + windows)
    assert [n for (n,) in _numbers(r"\n    }\n    size: (0x\w+)", text)] == [chip.flash[1]]
    script = (BOARDS / board_id / f"{board_id}.resc").read_text(encoding="utf-8")
    assert f"\n$memories=$ORIGIN/{board_id}.repl\n" in script


@pytest.mark.parametrize(("board_id", "device"), [("stm32f4_discovery", 0x413), ("nucleo_f446re", 0x421)])
def test_renodes_stm32_says_which_chip_it_is_and_has_an_identity(board_id: str, device: int) -> None:
    """A unique id of zeros would give all emulated devices one key."""
    script = (BOARDS / board_id / f"{board_id}.resc").read_text(encoding="utf-8")
    ((code,),) = _numbers(r"\n\$idcode=(0x\w+)", script)
    assert code & 0xFFF == device
    shared = (BOARDS / "stm32f4" / "renode.resc").read_text(encoding="utf-8")
    words = _numbers(r"WriteDoubleWord (0x1FFF7A1\w) (0x\w+)", shared)
    assert [address for address, word in words if word] == [0x1FFF7A10, 0x1FFF7A14]
    assert "WriteDoubleWord 0x1FFF7A18 $idcode" in shared
