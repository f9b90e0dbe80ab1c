"""Places buffers with known lifetimes in one small arena; deterministic."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from kilotune.image.memory import Piece

ALIGNMENT = 4
# Orders tried after the fixed ones while the plan is above the lower bound; seeded, so that a model compiles to the
# same image everywhere. Fewer for long lists, as placing takes time that grows with their square.
SHUFFLES = 200
SHUFFLE_WORK = 1 << 20


@dataclass(frozen=True, slots=True)
class Buffer:
    """Pieces that are placed together, at offsets from the start of the buffer.

    They may overlap if one is read in the same step that overwrites it with another.
    """

    pieces: tuple[Piece, ...]

    @classmethod
    def of(cls, key: str, size: int, first: int, last: int, again: Iterable[tuple[int, int]] = ()) -> Buffer:
        """A buffer that is alive from step `first` to `last`, and again, with new contents, in the spans `again`."""
        return cls(tuple(Piece(key, 0, size, *span) for span in ((first, last), *again)))

    @property
    def key(self) -> str:
        return self.pieces[0].key

    @property
    def size(self) -> int:
        return max(_end(p) for p in self.pieces)

    @property
    def first(self) -> int:
        return min(p.first for p in self.pieces)

    @property
    def last(self) -> int:
        return max(p.last for p in self.pieces)

    def meets(self, other: Buffer) -> bool:
        return any(a.meets(b) for a in self.pieces for b in other.pieces)

    def shifted(self, by: int) -> Buffer:
        return Buffer(tuple(replace(p, offset=p.offset + by) for p in self.pieces))

    def over(self, other: Buffer, behind: int) -> Buffer:
        """This buffer over the last piece of `other`, which begins at least `behind` bytes after the start of this."""
        start = other.pieces[-1].offset - rounded(behind)
        lead = max(0, -start)
        return Buffer(other.shifted(lead).pieces + self.shifted(start + lead).pieces)


@dataclass(frozen=True, slots=True)
class Arena:
    """Offsets by buffer key, and the total size in bytes."""

    offsets: dict[str, int]
    size: int
    lower_bound: int  # most bytes alive at one step
    pieces: tuple[Piece, ...] = ()


def plan(buffers: Sequence[Buffer]) -> Arena:
    """Greedy best fit in several orders. The smallest arena wins; among equals, the first."""
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
    pieces = [p for b in buffers for p in b.shifted(best[0][b.key]).pieces]
    pieces.sort(key=lambda p: (p.offset, p.first, p.key))
    return Arena({p.key: p.offset for p in pieces}, best[1], bound, tuple(pieces))


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Most bytes alive at one step: no arena can be smaller."""
    return max(usage(buffers).values(), default=0)


def usage(buffers: Sequence[Buffer]) -> dict[int, int]:
    """Bytes alive at each step at which that changes, in order."""
    changes: dict[int, int] = defaultdict(int)
    for buffer in buffers:
        before = 0
        for step in sorted({s for p in buffer.pieces for s in (p.first, p.last + 1)}):
            now = _alive(buffer, step)
            changes[step] += now - before
            before = now
    steps = sorted(changes)
    return dict(zip(steps, accumulate(changes[step] for step in steps), strict=True))


def _alive(buffer: Buffer, step: int) -> int:
    """Bytes from the first to the last byte that is alive in a step."""
    alive = [p for p in buffer.pieces if p.first <= step <= p.last]
    return max(map(_end, alive)) - min(p.offset for p in alive) if alive else 0


def _end(piece: Piece) -> int:
    return piece.offset + rounded(piece.size)


def rounded(size: int) -> int:
    """What a piece of that size takes."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _place(order: Sequence[Buffer]) -> tuple[dict[str, int], int]:
    """Puts each buffer into the tightest gap between buffers that live at the same time."""
    placed: list[tuple[int, int, int, int]] = []  # of each piece: first and last step, start and end
    offsets: dict[str, int] = {}
    total = 0
    for buffer in order:
        # Open ranges of offsets at which one of its pieces would overlap one that lives at the same time.
        pieces = [(p.first, p.last, p.offset, _end(p)) for p in buffer.pieces]
        taken = sorted(
            (low - end, high - start)
            for first, last, start, end in pieces
            for begins, ends, low, high in placed
            if begins <= last and first <= ends
        )
        best, best_room, cursor = -1, -1, 0
        for low, high in taken:
            if low >= cursor and (best < 0 or low - cursor < best_room):
                best, best_room = cursor, low - cursor
            cursor = max(cursor, high)
        offset = best if best >= 0 else cursor
        offsets[buffer.key] = offset
        placed += [(first, last, start + offset, end + offset) for first, last, start, end in pieces]
        total = max(total, offset + buffer.size)
    return offsets, total
