"""UF2 files, which a board's boot drive accepts (Microsoft, "USB Flashing Format").

`python -m kilotune.targets.uf2 firmware.elf firmware.uf2` makes one for the RP2040.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.targets.elf import load_segments

RP2040_FAMILY = 0xE48BFF56
BLOCK_BYTES = 512
PAGE_BYTES = 256
SECTOR_BYTES = 4096
_MAGIC_START = (0x0A324655, 0x9E5D5157)
_MAGIC_END = 0x0AB16F30
_FAMILY_PRESENT = 0x2000
_HEADER = struct.Struct("<8I")  # magic, magic, flags, address, payload bytes, block, blocks, family


def encode(segments: Sequence[tuple[int, bytes]], family: int) -> bytes:
    """Blocks of 256 bytes for all sectors that `segments` (address, content) touch, by address.

    Sectors are filled up with 0xFF, as a boot ROM erases a sector when its first block arrives.
    Raises KilotuneError `overlap` if two segments claim the same address.
    """
    pages = _pages(segments)
    blocks = []
    for i, (address, payload) in enumerate(sorted(pages.items())):
        header = _HEADER.pack(*_MAGIC_START, _FAMILY_PRESENT, address, PAGE_BYTES, i, len(pages), family)
        body = (header + bytes(payload)).ljust(BLOCK_BYTES - 4, b"\0")
        blocks.append(body + struct.pack("<I", _MAGIC_END))
    return b"".join(blocks)


def _pages(segments: Sequence[tuple[int, bytes]]) -> dict[int, bytearray]:
    pages: dict[int, bytearray] = {}
    end = -1
    for start, content in sorted(segments):
        if not content:
            continue
        if start < end:
            raise KilotuneError(
                "overlap",
                f"two parts of the firmware claim address {start:#010x}",
                "build the firmware again; the model must lie in its partition",
            )
        end = start + len(content)
        first = start - start % SECTOR_BYTES
        for page in range(first, end + -end % SECTOR_BYTES, PAGE_BYTES):
            pages.setdefault(page, bytearray(b"\xff" * PAGE_BYTES))
        at = start
        while at < end:
            offset = at % PAGE_BYTES
            piece = min(PAGE_BYTES - offset, end - at)
            pages[at - offset][offset : offset + piece] = content[at - start : at - start + piece]
            at += piece
    return pages


def convert(elf: Path, uf2: Path, family: int = RP2040_FAMILY) -> None:
    """Writes the load segments of `elf` as a UF2 file."""
    uf2.write_bytes(encode(load_segments(elf), family))


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
