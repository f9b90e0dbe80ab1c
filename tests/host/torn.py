"""Firmware whose flash tears: a build of its own for tests in which the power goes."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def torn_firmware(board_id: str) -> Path:
    """Of `native` or a board whose flash is a file; what sets its fuse is in boards/common/torn_region.h."""
    folder = ROOT / "build" / f"{board_id}-torn-flash"
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DKILOTUNE_BOARD={board_id}", "-DKILOTUNE_TORN_FLASH=ON"],
        ["cmake", "--build", folder],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=600)
    return folder / ("kilotune-native" if board_id == "native" else "kilotune.elf")
