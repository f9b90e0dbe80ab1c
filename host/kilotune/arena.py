"""Places buffers with known lifetimes in one arena, as small as can be found; same input, same plan."""

from __future__ import annotations

import bisect
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
    """`size` bytes alive from step `first` to step `last`, both included."""

    key: str
    size: int
    first: int
    last: int

    def meets(self, other: Buffer) -> bool:
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Arena:
    """Offsets by buffer key, and the bytes that they need together."""

    offsets: dict[str, int]
    size: int
    lower_bound: int  # most bytes alive at one step


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
    return Arena(offsets=best[0], size=best[1], lower_bound=bound)


def lower_bound(buffers: Sequence[Buffer]) -> int:
    """Most bytes alive at one step: no arena can be smaller."""
    steps = {b.first for b in buffers}
    return max((sum(_rounded(b.size) for b in buffers if b.first <= s <= b.last) for s in steps), default=0)


def _rounded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _place(order: Sequence[Buffer]) -> tuple[dict[str, int], int]:
    """Each buffer into the tightest gap between those that live at the same time."""
    placed: list[tuple[int, int, Buffer]] = []  # offset, end, buffer; by offset
    offsets: dict[str, int] = {}
    total = 0
    for buffer in order:
        size = _rounded(buffer.size)
        best, best_gap, cursor = -1, -1, 0
        for offset, end, other in placed:
            if not buffer.meets(other):
                continue
            gap = offset - cursor
            if gap >= size and (best < 0 or gap < best_gap):
                best, best_gap = cursor, gap
            cursor = max(cursor, end)
        offset = best if best >= 0 else cursor
        offsets[buffer.key] = offset
        bisect.insort(placed, (offset, offset + size, buffer), key=lambda item: item[:2])
        total = max(total, offset + size)
    return offsets, total
