"""Frames on a byte stream: COBS, a CRC-32 after each body, and a zero byte after each frame (SPEC 3.1)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

from cobs import cobs

CRC_BYTES = 4
MAX_BODY_AND_CRC = 65535


@dataclass(slots=True)
class FrameCounters:
    """Counts of what arrived."""

    frames: int = 0
    bad_crc: int = 0
    bad_cobs: int = 0
    too_long: int = 0

    @property
    def bad(self) -> int:
        return self.bad_crc + self.bad_cobs + self.too_long


def encoded_bytes(n: int) -> int:
    """Maximum bytes on the line for a frame with `n` bytes of body and CRC."""
    return n + n // 254 + 2


def encode(body: bytes) -> bytes:
    """The frame of `body`, with the zero byte at its end."""
    encoded: bytes = cobs.encode(body + struct.pack("<I", zlib.crc32(body)))
    return encoded + b"\0"


@dataclass(slots=True)
class FrameDecoder:
    """Collects bytes as they arrive. Damaged frames are counted and dropped; at most one frame is held."""

    max_bytes: int = MAX_BODY_AND_CRC  # of body and CRC
    counters: FrameCounters = field(default_factory=FrameCounters)
    _pending: bytearray = field(default_factory=bytearray)
    _overflow: bool = False

    def feed(self, data: bytes) -> list[bytes]:
        """Bodies of the intact frames that `data` completes."""
        bodies = []
        *ended, rest = data.split(b"\0")
        for piece in ended:
            self._add(piece)
            body = self._finish()
            if body is not None:
                bodies.append(body)
        self._add(rest)
        return bodies

    def _add(self, piece: bytes) -> None:
        if len(self._pending) + len(piece) > encoded_bytes(self.max_bytes):
            self._overflow = True
            self._pending.clear()
        elif not self._overflow:
            self._pending += piece

    def _finish(self) -> bytes | None:
        encoded, overflow = bytes(self._pending), self._overflow
        self._pending.clear()
        self._overflow = False
        if overflow:
            self.counters.too_long += 1
            return None
        if not encoded:
            return None
        try:
            frame: bytes = cobs.decode(encoded)
        except cobs.DecodeError:
            self.counters.bad_cobs += 1
            return None
        if len(frame) > self.max_bytes:
            self.counters.too_long += 1
            return None
        body, crc = frame[:-CRC_BYTES], frame[-CRC_BYTES:]
        if not body or struct.pack("<I", zlib.crc32(body)) != crc:
            self.counters.bad_crc += 1
            return None
        self.counters.frames += 1
        return body
