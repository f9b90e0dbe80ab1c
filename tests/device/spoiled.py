"""Firmware with changed code in one place, to do what no healthy firmware does."""

from __future__ import annotations

import subprocess
from pathlib import Path

from kilotune.targets import build as firmware
from kilotune.targets.elf import load_segments

BENCH = "_ZN8kilotune7Session8on_benchERK13bench_request"
INFER = "_ZN8kilotune6Engine5inferEv"


def spoil(symbol: str, code: bytes, board_id: str, folder: Path) -> tuple[int, Path]:
    """Address of the symbol, and a copy of the board's firmware with `code` there."""
    elf = Path(firmware.build(board_id).firmware)
    table = subprocess.run(
        ["arm-none-eabi-nm", str(elf)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    address = next(int(line.split()[0], 16) for line in table.splitlines() if line.endswith(f" {symbol}"))
    start, part = next((a, c) for a, c in load_segments(elf) if a <= address < a + len(c))
    content = bytearray(elf.read_bytes())
    at = content.index(part) + address - start
    content[at : at + len(code)] = code
    folder.mkdir(parents=True, exist_ok=True)
    spoiled = folder / "spoiled.elf"
    spoiled.write_bytes(content)
    return address, spoiled
