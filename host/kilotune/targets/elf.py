"""Sections and load segments of an ELF file (System V ABI, 32 and 64 bit, little-endian)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from kilotune.errors import KilotuneError

_IN_MEMORY = 0x2  # SHF_ALLOC
_LOAD = 1  # PT_LOAD
_MAGIC, _CLASS_AT, _ORDER_AT = b"\x7fELF", 4, 5  # of the 16 bytes in front of the header's fields
_WIDE, _LITTLE = 2, 1


class _Header(NamedTuple):
    type: int
    machine: int
    version: int
    entry: int
    segments: int  # offsets of the tables
    sections: int
    flags: int
    header_bytes: int
    segment_bytes: int
    segment_count: int
    section_bytes: int
    section_count: int
    names: int  # section that holds the sections' names


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
        if not data.startswith(_MAGIC) or data[_ORDER_AT] != _LITTLE:
            raise ValueError("not a little-endian ELF file")
        return parse(data, data[_CLASS_AT] == _WIDE)
    except (OSError, ValueError, struct.error, IndexError) as error:
        raise KilotuneError("bad_firmware", f"cannot read {path}: {error}", "build the firmware again") from error


def _header(data: bytes, wide: bool) -> _Header:
    return _Header._make(struct.unpack_from("<16xHHIQQQI6H" if wide else "<16xHHIIIII6H", data))


def _segments(data: bytes, wide: bool) -> list[tuple[int, bytes]]:
    if wide:
        raise ValueError("not for a 32-bit chip")
    header = _header(data, wide)
    found = []
    for i in range(header.segment_count):
        kind, offset, _, address, size = struct.unpack_from("<5I", data, header.segments + i * header.segment_bytes)
        if kind == _LOAD and size:
            if offset + size > len(data):
                raise ValueError("it ends too early")
            found.append((address, data[offset : offset + size]))
    return sorted(found)


def _sections(data: bytes, wide: bool) -> dict[str, int]:
    header = _header(data, wide)
    # name, type, flags, address, offset, size
    entry = struct.Struct("<IIQQQQ" if wide else "<IIIIII")
    entries = [entry.unpack_from(data, header.sections + i * header.section_bytes) for i in range(header.section_count)]
    names = entries[header.names][4]
    sizes: dict[str, int] = {}
    for name, _, flags, _, _, size in entries:
        if flags & _IN_MEMORY:
            start = names + name
            sizes[data[start : data.index(b"\0", start)].decode("ascii")] = size
    return sizes
