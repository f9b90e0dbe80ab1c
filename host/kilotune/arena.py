"""Places buffers with known lifetimes in one arena, as small as can be found; same input, same plan."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT = 4
# Orders tried beyond the fixed ones while the plan is above the lower bound; seeded, so that a
# model compiles to the same image everywhere. Fewer for long lists: placing takes their square.
SHUFFLES = 200
SHUFFLE_WORK = 1 << 20


@dataclass(frozen=True, slots=True)
class Buffer:
    """`size` bytes alive from step `first` to step `last`, both included.

    The last `tail` bytes may be a buffer of their own before that, from step `tail_first` on: the
    whole is then written over it, front to back, as it is read. `again`: further first and last steps, in
    which it has other contents at the same place.
    """

    key: str
    size: int
    first: int
    last: int
    tail: int = 0
    tail_first: int = 0
    tail_key: str = ""
    again: tuple[tuple[int, int], ...] = ()

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First and last step of each time it is alive."""
        return (self.first, self.last), *self.again

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is alive when."""
        whole = tuple(Part(0, _rounded(self.size), first, last) for first, last in self.spans)
        if not self.tail:
            return whole
        start = self.size - self.tail
        return *whole, Part(start, _rounded(self.size) - start, self.tail_first, self.first - 1)

    def meets(self, other: Buffer) -> bool:
        return any(a.meets(b) for a in self.parts for b in other.parts)


@dataclass(frozen=True, slots=True)
class Part:
    """`size` bytes from `start` on in a buffer, alive from step `first` to `last`."""

    start: int
    size: int
    first: int
    last: int

    def meets(self, other: Part) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Arena:
    """Offsets by buffer key, and the bytes that they need together."""

    offsets: dict[str, int]
    size: int
    lower_bound: int  # most bytes alive at one step
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What lies where and when: `size` bytes at `offset` from step `first` to `last`, both included."""

    key: str
    offset: int
    size: int
    first: int
    last: int


def plan(buffers: Sequence[Buffer]) -> Arena:
    """Greedy best fit in several orders; the smallest arena wins, the first of equals."""
    bound = lower_bound(buffers)
    orders = [
        sorted(buffers, key=lambda b: (-b.size, b.first, b.key)),
        sorted(buffers, key=lambda b: (-(b.last - b.first), -b.size, b.key)),
        sorted(buffers, key=lambda b: (-b.size * (b.last - b.first + 1), b.key)),
        sorted(buffers, key=lambda b: (b.first, -b.size, b.key)),
        sorted(buffers, key=lambda b: (-b.last, -b.size, b.key)),
    ]
    best = min((_place(order) for order in orders), key=lambda placed: placed[1])
    generator = random.Random(1)
    order = list(orders[0])
    for _ in range(min(SHUFFLES, SHUFFLE_WORK // (len(order) ** 2 + 1))):
        if best[1] <= bound or len(order) < 3:
            break
        i, j = generator.sample(range(len(order)), 2)
        order[i], order[j] = order[j], order[i]
        placed = _place(order)
        if placed[1] <= best[1]:
            best = placed
        else:
            order[i], order[j] = order[j], order[i]
    offsets = dict(best[0])
    offsets |= {b.tail_key: offsets[b.key] + b.size - b.tail for b in buffers if b.tail}
    return Arena(offsets, best[1], bound, _pieces(buffers, offsets))


def _pieces(buffers: Sequence[Buffer], offsets: dict[str, int]) -> tuple[Piece, ...]:
    pieces = [Piece(b.key, offsets[b.key], b.size, *span) for b in buffers for span in b.spans]
    # A tail is read in the step that writes the whole over it.
    pieces += [Piece(b.tail_key, offsets[b.tail_key], b.tail, b.tail_first, b.first) for b in buffers if b.tail]
    return tuple(sorted(pieces, key=lambda p: (p.offset, p.first, p.key)))


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Most bytes alive at one step: no arena can be smaller."""
    parts = [p for b in buffers for p in b.parts]
    return max((sum(p.size for p in parts if p.first <= s <= p.last) for s in {p.first for p in parts}), default=0)


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _place(order: Sequence[Buffer]) -> tuple[dict[str, int], int]:
    """Each buffer into the tightest gap between those that live at the same time."""
    placed: list[tuple[int, Part]] = []  # offset of its buffer, part
    offsets: dict[str, int] = {}
    total = 0
    for buffer in order:
        # Offsets that would bring one of its parts over one that lives at the same time: open ranges.
        taken = sorted(
            (at + other.start - own.size - own.start, at + other.start + other.size - own.start)
            for own in buffer.parts
            for at, other in placed
            if own.meets(other)
        )
        best, best_room, cursor = -1, -1, 0
        for low, high in taken:
            if low >= cursor and (best < 0 or low - cursor < best_room):
                best, best_room = cursor, low - cursor
            cursor = max(cursor, high)
        offset = best if best >= 0 else cursor
        offsets[buffer.key] = offset
        placed += [(offset, part) for part in buffer.parts]
        total = max(total, offset + _rounded(buffer.size))
    return offsets, total
