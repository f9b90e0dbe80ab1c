"""Firmware with flash that tears: a separate build for tests with power cuts."""

from __future__ import annotations

import functools
import mmap
import struct
import subprocess
from pathlib import Path

from kilotune.common.files import lock_file
from kilotune.errors import KilotuneError

from tests.support.paths import ROOT

FOREVER = 0  # a fuse that does not burn
LONGEST = 1 << 30  # one that outlasts every test: what it has lost counts the words
_FROM_END = 8  # of the flash file: u32 words, u32 seed of how the last one tears


@functools.cache
def torn_firmware(board_id: str) -> Path:
    """Of `native` or a board whose flash is a file; what sets its fuse is in boards/common/torn_region.h."""
    folder = ROOT / "build" / "firmware" / f"{board_id}-torn-flash"
    folder.mkdir(parents=True, exist_ok=True)
    into = str(folder)
    options = ("-G", "Ninja", f"-DKILOTUNE_BOARD={board_id}", "-DKILOTUNE_TORN_FLASH=ON")
    busy = KilotuneError("build_failed", f"another build in {folder} does not end", "end it")
    with lock_file(folder / ".lock", 600, busy):  # tests of several processes want it
        for command in (["cmake", "-S", str(ROOT), "-B", into, *options], ["cmake", "--build", into]):
            subprocess.run(command, check=True, capture_output=True, timeout=600)
    return folder / ("kilotune-native" if board_id == "native" else "kilotune.elf")


def set_fuse(flash: mmap.mmap, words: int, seed: int = 0) -> None:
    """The power fails in the flash word that uses up the last of `words`."""
    struct.pack_into("<II", flash, len(flash) - _FROM_END, words, seed)


def fuse_left(flash: mmap.mmap) -> int:
    """Words left; 0 if the fuse has burnt down or was not set."""
    (words,) = struct.unpack_from("<I", flash, len(flash) - _FROM_END)
    return int(words)
