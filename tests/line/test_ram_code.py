"""What runs while flash is erased or programmed lies in RAM, with all that it calls: bytes go on arriving."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from kilotune.targets.boards import board
from kilotune.targets.build import build

RECEIVE = {
    "stm32f4_discovery": "on_usart2",
    "nucleo_f446re": "on_usart2",
    "nrf52840dk": "on_uart",
    "rpi_pico": "on_uart0",
}
RAM = 0x20000000  # of all of them
BRANCH = re.compile(r"^([0-9a-f]+):\t[0-9a-f ]+\tb[a-z.]*\s+([0-9a-f]+) <")
OBJDUMP = "arm-none-eabi-objdump"


@pytest.mark.parametrize("board_id", RECEIVE)
def test_interrupts_and_flash_routines_need_no_flash(board_id: str) -> None:
    if shutil.which(OBJDUMP) is None:
        pytest.skip(f"{OBJDUMP} is not installed")
    listing = subprocess.run(
        [OBJDUMP, "-d", "-C", "-j", ".data", build(board_id).firmware], capture_output=True, text=True, check=True
    ).stdout
    functions = re.findall(r"^([0-9a-f]+) <kilotune::board::(?:\(anonymous namespace\)::)?(\w+)\(", listing, re.M)
    assert {"on_tick", RECEIVE[board_id]} <= {name for _, name in functions}
    assert any(name.startswith("erase") for _, name in functions)
    branches = [tuple(int(x, 16) for x in found.groups()) for found in map(BRANCH.match, listing.splitlines()) if found]
    assert branches
    beyond = [f"{at:#x} -> {to:#x}" for at, to in branches if not RAM <= to < RAM + board(board_id).ram_bytes]
    assert beyond == []
