"""Sections and load segments of an ELF file (System V ABI, 32 and 64 bit, little-endian)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kilotune.errors import KilotuneError

_IN_MEMORY = 0x2  # SHF_ALLOC
_LOAD = 1  # PT_LOAD


def section_sizes(path: Path) -> dict[str, int]:
    """Size in bytes by name, of the sections that take memory on the device."""
    return _read(path, _sections)


def load_segments(path: Path) -> list[tuple[int, bytes]]:
    """Load address and content of everything to write to the device, sorted by address; 32-bit files only."""
    return _read(path, _segments)


_Result = TypeVar("_Result")


def _read(path: Path, parse: Callable[[bytes, bool], _Result]) -> _Result:
    try:
        data = path.read_bytes()
        if data[:4] != b"\x7fELF" or data[5] != 1:
            raise ValueError("not a little-endian ELF file")
        return parse(data, data[4] == 2)
    except (OSError, ValueError, struct.error, IndexError) as error:
        raise KilotuneError("bad_firmware", f"cannot read {path}: {error}", "build the firmware again") from error


def _segments(data: bytes, wide: bool) -> list[tuple[int, bytes]]:
    if wide:
        raise ValueError("not for a 32-bit chip")
    (table,) = struct.unpack_from("<I", data, 0x1C)
    entry_bytes, count = struct.unpack_from("<2H", data, 0x2A)
    found = []
    for i in range(count):
        kind, offset, _, address, size = struct.unpack_from("<5I", data, table + i * entry_bytes)
        if kind == _LOAD and size:
            if offset + size > len(data):
                raise ValueError("it ends too early")
            found.append((address, data[offset : offset + size]))
    return sorted(found)


def _sections(data: bytes, wide: bool) -> dict[str, int]:
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 0x28 if wide else 0x20)
    entry_bytes, count, names_index = struct.unpack_from("<3H", data, 0x3A if wide else 0x2E)
    # name, type, flags, address, offset, size
    entry = struct.Struct("<IIQQQQ" if wide else "<IIIIII")
    entries = [entry.unpack_from(data, table + i * entry_bytes) for i in range(count)]
    names = entries[names_index][4]
    sizes: dict[str, int] = {}
    for name, _, flags, _, _, size in entries:
        if flags & _IN_MEMORY:
            start = names + name
            sizes[data[start : data.index(b"\0", start)].decode("ascii")] = size
    return sizes
