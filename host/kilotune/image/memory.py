"""Where a tensor is in the arena, and for how long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """`size` bytes at `offset`, in use from step `first` to `last`, both included."""

    key: str
    offset: int
    size: int
    first: int
    last: int

    def meets(self, other: Piece) -> bool:
        """Whether both are alive in the same step."""
        return self.first <= other.last and other.first <= self.last
