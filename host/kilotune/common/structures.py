"""Fixed-size structures in files and flash, with a name for every field and a single definition of its offset."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from typing import ClassVar, TypeVar

S = TypeVar("S", bound="Structure")


@dataclass(frozen=True, slots=True)
class Structure:
    """Fields are stored one after the other as `LAYOUT` says; reserved bytes are not fields."""

    LAYOUT: ClassVar[struct.Struct]

    def pack(self) -> bytes:
        return self.LAYOUT.pack(*astuple(self))

    @classmethod
    def read(cls: type[S], content: bytes, at: int) -> S:
        """Reads the structure at offset `at`; raises IndexError if it is not within `content`."""
        if not 0 <= at <= len(content) - cls.LAYOUT.size:
            raise IndexError(f"{cls.__name__} at {at} of {len(content)} bytes")
        return cls(*cls.LAYOUT.unpack_from(content, at))
