"""Linked firmware, read by an independent reader: where it is, what starts it, what stays in RAM."""

from __future__ import annotations

import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from kilotune.targets import build as firmware
from kilotune.targets.boards import board, boards
from kilotune.targets.elf import load_segments, section_sizes

from tests.support.tools import needs_arm

ARM_BOARDS = sorted(b.id for b in boards() if b.core != "host")


@needs_arm
@pytest.mark.parametrize("board_id", ARM_BOARDS)
def test_what_a_firmware_loads_lies_in_the_chips_program_memory(board_id: str) -> None:
    """By an independent reader; firmware, model and checkpoints do not touch each other."""
    elffile = pytest.importorskip("elftools.elf.elffile")
    chosen = board(board_id)
    elf = Path(firmware.build(board_id).firmware)
    with elf.open("rb") as file:
        parsed = elffile.ELFFile(file)
        loaded = sorted(
            (s["p_paddr"], s.data()) for s in parsed.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]
        )
        symbols = {s.name: s["st_value"] for s in parsed.get_section_by_name(".symtab").iter_symbols()}
        sizes = {s.name: s["sh_size"] for s in parsed.iter_sections() if s["sh_flags"] & 2}
        entry = parsed["e_entry"]
    assert load_segments(elf) == loaded
    assert section_sizes(elf) == sizes
    flash, base = chosen.flash, chosen.flash_base
    places = [
        (base + flash.model_offset, flash.model_bytes),
        (base + flash.checkpoint_offset, flash.checkpoint_bytes),
        (base + flash.key_offset, flash.key_bytes),
    ]
    end = 0
    for address, data in loaded:
        assert address >= end
        end = address + len(data)
        for start, size in places:
            assert end <= start or address >= start + size
    assert sum(len(data) for _, data in loaded) == firmware.build(board_id).flash_bytes
    # The first two words of the table: the stack's top, and the reset handler as a Thumb address.
    vectors = symbols["_ZN8kilotune5board7vectorsE"]
    address, data = next((a, d) for a, d in loaded if a <= vectors < a + len(d))
    stack, reset = struct.unpack_from("<II", data, vectors - address)
    assert stack == symbols["__stack_top"]
    assert reset == symbols["reset_handler"] == entry
    assert reset % 2 == 1


@needs_arm
@pytest.mark.parametrize("board_id", ["stm32f4_discovery", "nucleo_f446re"])
def test_the_stm32_starts_from_its_first_sector_and_leaves_five_to_key_and_checkpoints(board_id: str) -> None:
    segments = load_segments(Path(firmware.build(board_id).firmware))
    assert segments[0][0] == 0x08000000
    assert len(segments[0][1]) <= 0x4000
    assert segments[1][0] == 0x08060000  # sector 7: 2 and 3 keep the key, 4 to 6 checkpoints


@needs_arm
def test_the_second_boot_stage_of_the_rp2040_has_the_checksum_that_its_rom_wants() -> None:
    address, data = load_segments(Path(firmware.build("rpi_pico").firmware))[0]
    assert address == 0x10000000
    # The ROM's CRC has the highest bit first; zlib's has the lowest first and inverts the result.
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data[:252])
    expected = int(f"{zlib.crc32(mirrored) ^ 0xFFFFFFFF:032b}"[::-1], 2)
    assert struct.unpack("<I", data[252:256]) == (expected,)
    assert any(data[:64])


@needs_arm
@pytest.mark.parametrize("board_id", ["rpi_pico", "nrf52840dk", "stm32f4_discovery"])
def test_code_that_runs_while_flash_is_busy_never_leaves_ram(board_id: str) -> None:
    """Branches with a link from the RAM code go to RAM; the ROM's routines are called by pointer."""
    elf = firmware.build(board_id).firmware
    listing = subprocess.run(
        ["arm-none-eabi-objdump", "-d", "-j", ".data", elf],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    names = [line.split("<")[1] for line in listing.splitlines() if line.endswith(">:")]
    assert any("on_tick" in name for name in names)
    calls = [line.split("\t")[-1] for line in listing.splitlines() if "\tbl\t" in line or "\tb.w\t" in line]
    for target in calls:
        assert int(target.split()[0], 16) >> 28 == 2, target
    assert "veneer" not in listing
