"""Records in a region of flash, found in the same way as on the device: docs/SPEC.md, 4.

The device's version is `firmware/runtime/storage/record.cpp`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from kilotune.common.structures import Structure

_MAGIC, _VOID = 0x3152544B, 0  # "KTR1"; space that is skipped
_VERSION = 1
_COMMITTED, _REVOKED, _DONE, _ERASED = 0x54444D43, 0, 0, 0xFFFFFFFF  # "CMDT"
_UNIT = 16  # where records begin: multiples of the largest flash word
_WORD = struct.Struct("<I")
_SLOTS = 3  # of the current record, the one that a rollback returns to, and the next
_CRC_BYTES = 4  # the header's own, at its end
STABLE: Final = 1  # of the flags


@dataclass(frozen=True, slots=True)
class RecordHeader(Structure):
    LAYOUT = struct.Struct("<IHHII32s8I")

    magic: int
    version: int
    header_bytes: int
    sequence: int
    fallback: int
    image_hash: bytes
    payload_bytes: int
    payload_crc: int
    windows: int
    steps: int
    erases: int
    flags: int
    note: int
    crc: int


@dataclass(frozen=True, slots=True)
class Marks(Structure):
    """Marks after the header, each in its own flash word."""

    LAYOUT = struct.Struct("<I12xI12x")

    commit: int
    seal: int

    @property
    def committed(self) -> bool:
        if self.seal == _DONE:
            return self.commit != _REVOKED
        torn = self.seal != _ERASED and self.commit & _COMMITTED == _COMMITTED
        return self.commit == _COMMITTED or torn


OVERHEAD: Final = RecordHeader.LAYOUT.size + Marks.LAYOUT.size


@dataclass(frozen=True, slots=True)
class FlashRecord:
    header: RecordHeader
    committed: bool
    payload: bytes
    end: int  # where the next record may begin

    @property
    def counts(self) -> bool:
        h = self.header
        return self.committed and len(self.payload) == h.payload_bytes and zlib.crc32(self.payload) == h.payload_crc


def capacity(sectors: Sequence[int]) -> int:
    """The longest payload that a region of these sectors holds, 0: none. It takes three slots, each the fewest
    sectors in a row that a record needs."""
    low, high = 0, sum(sectors) // _UNIT + 1  # fits, in units of 16; does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _slots(sectors, OVERHEAD + middle * _UNIT) >= _SLOTS else (low, middle)
    return low * _UNIT


def _slots(sectors: Sequence[int], record_bytes: int) -> int:
    found = gathered = 0
    for size in sectors:
        gathered += size
        if gathered >= record_bytes:
            found, gathered = found + 1, 0
    return found


def flash_records(region: bytes, sector_bytes: int) -> Iterator[FlashRecord]:
    """All records with a valid header, sector by sector, in each in the order in which they were written."""
    for start in range(0, len(region), sector_bytes):
        at, end = start, start + sector_bytes
        while at + OVERHEAD <= end:
            if _WORD.unpack_from(region, at)[0] == _VOID:
                at += OVERHEAD
                continue
            record = _record_at(region, at)
            # Only a record at the start of a sector may reach beyond the sector's end.
            if record is None or record.end > (len(region) if at == start else end):
                break
            yield record
            at = record.end


def newest(region: bytes, sector_bytes: int) -> FlashRecord | None:
    """The newest valid record, of any image; None if there is none."""
    found: FlashRecord | None = None
    for record in flash_records(region, sector_bytes):
        if record.counts and (found is None or _is_newer(record.header.sequence, found.header.sequence)):
            found = record
    return found


def _is_newer(a: int, b: int) -> bool:
    """Whether `a` is newer; sequence numbers wrap."""
    return 0 < (a - b) & 0xFFFFFFFF < 1 << 31


def _record_at(region: bytes, at: int) -> FlashRecord | None:
    header = RecordHeader.read(region, at)
    marks_at = at + RecordHeader.LAYOUT.size
    known = (header.magic, header.version, header.header_bytes) == (_MAGIC, _VERSION, RecordHeader.LAYOUT.size)
    if not known or header.sequence == 0 or zlib.crc32(region[at : marks_at - _CRC_BYTES]) != header.crc:
        return None
    start = at + OVERHEAD
    payload = region[start : start + header.payload_bytes]
    end = start + -(-header.payload_bytes // _UNIT) * _UNIT
    return FlashRecord(header, Marks.read(region, marks_at).committed, payload, end)
