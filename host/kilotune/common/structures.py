"""Structures of a fixed size in files and flash, with a name for every field and one place that says where it lies."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from typing import ClassVar, TypeVar

S = TypeVar("S", bound="Structure")


@dataclass(frozen=True, slots=True)
class Structure:
    """Its fields stand one behind the other as `LAYOUT` says; reserved bytes are no fields."""

    LAYOUT: ClassVar[struct.Struct]

    def pack(self) -> bytes:
        return self.LAYOUT.pack(*astuple(self))

    @classmethod
    def read(cls: type[S], content: bytes, at: int) -> S:
        """IndexError where it does not lie within `content`."""
        if not 0 <= at <= len(content) - cls.LAYOUT.size:
            raise IndexError(f"{cls.__name__} at {at} of {len(content)} bytes")
        return cls(*cls.LAYOUT.unpack_from(content, at))
