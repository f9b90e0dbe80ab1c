"""Where a tensor lies in the arena, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes at `offset` from step `first` to `last`, both included: what lies where, and when."""

    key: str
    offset: int
    size: int
    first: int
    last: int

    def meets(self, other: Piece) -> bool:
        """Whether both are alive in one step."""
        return self.first <= other.last and other.first <= self.last
