"""What the columns of a file are: axes of acceleration, time, counters, or something else.

A column's name and unit speak for it; where they say nothing, its values do. What stays open is no axis without a
word: either it is told as a guess, or the user is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.recordings.clock import ticks_of
from kilotune.recordings.table import Column, Table, listed
from kilotune.recordings.units import parse_unit, split_name
from kilotune.recordings.words import AXIS, AXIS_BEGINNINGS, COUNTER, DERIVED, LETTERS, OTHER, TIME

if TYPE_CHECKING:
    from collections.abc import Sequence


class Role(Enum):
    axis = "an axis"
    time = "time"
    counter = "a counter"
    derived = "made of the axes"
    other = "no acceleration"
    open = "open"


LEAST_TO_JUDGE = 8  # rows: fewer show nothing about a column
_TIME_PARTS = re.compile(r"^(time|timestamp|zeit|t|ts)(s|ms|us|ns|sec|stamp|elapsed)?$")


@dataclass(frozen=True, slots=True)
class Judged:
    """One column of a table with what it is, and why."""

    column: Column
    role: Role
    bare: str  # its name without the unit
    unit: str  # letters of its unit, as the file has them; perhaps none
    unit_from: str
    by_values: bool = False  # its values made it what it is, not its name


def judge(table: Table) -> list[Judged]:
    """The role of every column."""
    judged = [_by_name(column) for column in table.columns]
    if len(judged) == 1:
        return judged
    timed = any(j.role is Role.time and ticks_of(j.column.values) is not None for j in judged)
    seen = [_by_values(j, timed) for j in judged]
    # Where everything runs evenly, nothing tells time from signal by that.
    open_before = [j for j in judged if j.role in (Role.open, Role.axis)]
    if open_before and not any(j.role in (Role.open, Role.axis) for j in seen):
        return judged
    return seen


def _by_name(column: Column) -> Judged:
    bare, letters = split_name(column.words) if column.named else (column.name, "")
    unit_from = "its name"
    if not letters and column.named:
        letters = _named_by_unit(bare)
    if column.unit:
        letters, unit_from = column.unit, column.unit_from
    unit = parse_unit(letters) if letters else None
    role = role_of_name(bare) if column.named else Role.open
    if column.stamps or (unit is not None and unit.kind == "time"):
        role = Role.time
    elif unit is not None and unit.kind == "acceleration" and role in (Role.open, Role.counter):
        role = Role.axis
    elif unit is not None and unit.kind == "other":
        role = Role.other
    elif role is Role.time and letters and unit is None and len(bare) > 2:
        role = Role.time
    if _gforce(bare) and not letters:
        letters, unit_from = "g", "its name"
    return Judged(column, role, bare, letters, unit_from)


def _named_by_unit(bare: str) -> str:
    """A column that is called `gs`, `mg` or `counts` says its unit and nothing else."""
    unit = parse_unit(bare)
    return bare if unit is not None and unit.kind in ("acceleration", "counts") else ""


def _gforce(bare: str) -> bool:
    return bool(re.match(r"^g[-_ ]?f(orce)?[-_ ]?[xyz]$", bare.lower()))


def _words(bare: str) -> list[str]:
    """`LinearAccelX`, `acc_x`, `Acc-X 1` as small words without numbers."""
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", bare).lower() if not bare.isupper() else bare.lower()
    return [w for w in re.split(r"[^0-9a-zà-ÿ\u4e00-\u9fff]+", split.replace("\\", " ")) if w]


def role_of_name(bare: str) -> Role:
    words = _words(bare)
    joined = "".join(words)
    stems = {re.sub(r"\d+$", "", w) for w in words} | {joined, re.sub(r"\d+$", "", joined)}
    if stems & AXIS or any(w.startswith(AXIS_BEGINNINGS) for w in words):
        return Role.derived if stems & DERIVED else Role.axis
    if stems & OTHER:
        return Role.other
    if not joined or _TIME_PARTS.match(joined) or stems & TIME:
        return Role.time if joined else Role.counter
    if stems & LETTERS and len(words) <= 3:
        return Role.axis
    if stems & DERIVED:
        return Role.derived
    if stems & COUNTER:
        return Role.counter
    return Role.open


def _by_values(judged: Judged, timed: bool) -> Judged:
    """What a name leaves open is decided by values: a ramp is no vibration. A counter's name alone decides nothing.

    `timed`: another column is time, so that this one need not be.
    """
    import numpy as np

    values = judged.column.values
    if judged.role not in (Role.open, Role.counter) or values.size < LEAST_TO_JUDGE:
        return judged
    ticks = ticks_of(values)
    if ticks is None:
        # It may still be a counter by name, such as a packet's; but numbers that jump about may be the signal.
        return _as(judged, Role.open) if judged.role is Role.counter else judged
    if values.dtype.kind in "iu" or bool(np.all(values == np.rint(values))):
        role = Role.counter if ticks.step == 1 and not ticks.resolution else Role.time
        if role is Role.time and judged.role is Role.counter:
            role = Role.counter
        return judged if role is Role.time and timed else _as(judged, role)
    return judged if timed else _as(judged, Role.time)


def _as(judged: Judged, role: Role) -> Judged:
    return Judged(judged.column, role, judged.bare, judged.unit, judged.unit_from, by_values=True)


def choose_axes(table: Table, judged: Sequence[Judged], taken: frozenset[int]) -> tuple[list[int], list[str]]:
    """(columns that are axes, what to tell of it), where the user has not chosen; `taken`: columns that are time."""
    free = [i for i in range(len(judged)) if i not in taken]
    axes = [i for i in free if judged[i].role is Role.axis]
    unsure = [i for i in free if judged[i].role is Role.open]
    if axes and unsure:
        raise KilotuneError(
            "ambiguous",
            f"{table.name}: {listed([judged[i].column.name for i in axes])} look like axes, but it is unclear what "
            f"{listed([judged[i].column.name for i in unsure])} {'is' if len(unsure) == 1 else 'are'}",
            "name the axes with --columns",
        )
    notes = _left_away(judged, free, [*axes, *unsure])
    if axes:
        return _in_order(axes, judged, notes), notes
    if unsure:
        if any(judged[i].column.named for i in unsure):
            names = listed([judged[i].column.name for i in unsure])
            notes.append(f"guess: {names} {'is an axis' if len(unsure) == 1 else 'are axes'}; --columns says it")
        return unsure, notes
    if not free:
        raise KilotuneError("empty", f"{table.name} has time and nothing else", "choose with --columns")
    told = "; ".join(f"{j.column.name[:40]} is {j.role.value}" for j in judged[:12])
    raise KilotuneError(
        "no_column", f"{table.name} has no column that looks like acceleration: {told}", "choose with --columns"
    )


def _left_away(judged: Sequence[Judged], free: list[int], used: list[int]) -> list[str]:
    away = [judged[i] for i in free if i not in used]
    return [f"not read: column {j.column.name[:40] or '(without a name)'}, which is {j.role.value}" for j in away[:12]]


def _in_order(axes: list[int], judged: Sequence[Judged], notes: list[str]) -> list[int]:
    """x, y, z in this order, where the names say which is which: loggers write them in any."""
    letters = []
    for i in axes:
        found = {w for w in _words(judged[i].bare) if w in LETTERS} or {
            w[-1] for w in _words(judged[i].bare) if w in AXIS and w[-1] in LETTERS and w not in LETTERS
        }
        letters.append(found.pop() if len(found) == 1 else "")
    if "" in letters or len(set(letters)) != len(letters) or sorted(letters) == letters:
        return axes
    notes.append(f"axes are put in the order x, y, z; the file has {', '.join(judged[i].column.name for i in axes)}")
    return [axes[k] for k in sorted(range(len(axes)), key=lambda k: letters[k])]
