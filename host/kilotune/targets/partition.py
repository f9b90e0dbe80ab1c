"""What a device runs, read from its model partition: docs/SPEC.md, section 4."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

_IMAGE = struct.Struct("<4s4xII")  # magic, bytes, CRC-32 of what follows
_RECORD = struct.Struct("<4sHHII32sIIIIIIII")
_VERSION, _HEADER_BYTES, _OVERHEAD = 1, 80, 112
_COMMITTED, _REVOKED, _ERASED = b"CMDT", bytes(4), b"\xff" * 4
_COMMIT_AT, _SEAL_AT = 80, 96


@dataclass(frozen=True, slots=True)
class _Record:
    sequence: int
    payload: bytes
    end: int
    counts: bool  # committed, and intact


def model_in(partition: bytes, sector_bytes: int) -> bytes | None:
    """The image that counts: the one at the start, else the newest record's; None: there is none."""
    plain = _plain(partition)
    if plain is not None:
        return plain
    newest: _Record | None = None
    for record in _records(partition, sector_bytes):
        if record.counts and (newest is None or 0 < (record.sequence - newest.sequence) & 0xFFFFFFFF < 1 << 31):
            newest = record
    return None if newest is None else newest.payload


def _plain(partition: bytes) -> bytes | None:
    if len(partition) < _IMAGE.size:
        return None
    magic, size, crc = _IMAGE.unpack_from(partition)
    if magic != b"KTM1" or not _IMAGE.size <= size <= len(partition):
        return None
    return partition[:size] if zlib.crc32(partition[16:size]) == crc else None


def _records(partition: bytes, sector_bytes: int) -> list[_Record]:
    found = []
    for start in range(0, len(partition), sector_bytes):
        at, end = start, start + sector_bytes
        while at + _OVERHEAD <= end:
            if partition[at : at + 4] == bytes(4):
                at += _OVERHEAD
                continue
            record = _record_at(partition, at)
            if record is None or record.end > (len(partition) if at == start else end):
                break
            found.append(record)
            at = record.end
    return found


def _record_at(partition: bytes, at: int) -> _Record | None:
    magic, version, header, sequence, _, _, size, crc, *_, header_crc = _RECORD.unpack_from(partition, at)
    if (magic, version, header) != (b"KTR1", _VERSION, _HEADER_BYTES) or sequence == 0:
        return None
    if zlib.crc32(partition[at : at + _HEADER_BYTES - 4]) != header_crc:
        return None
    payload = partition[at + _OVERHEAD : at + _OVERHEAD + size]
    commit, seal = (partition[at + word : at + word + 4] for word in (_COMMIT_AT, _SEAL_AT))
    committed = commit == _COMMITTED or (commit != _REVOKED and seal != _ERASED)
    end = at + _OVERHEAD + (size + 15) // 16 * 16
    return _Record(sequence, payload, end, committed and len(payload) == size and zlib.crc32(payload) == crc)
