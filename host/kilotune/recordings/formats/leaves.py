"""Files of named arrays, flat or nested: which of them is the signal, which its time, which its constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.clock import ticks_of
from kilotune.recordings.limits import require_modest
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.roles import Role, role_of_name
from kilotune.recordings.table import Column, Table, listed, pick_columns, stated_rate
from kilotune.recordings.units import split_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SHORTEST = 16  # an array with fewer rows is a constant, not a signal: the shortest window of a model
UNIT_NAMES = ("unit", "units", "unit_string")
_MOST_AXES = 64  # columns of one array
_LYING = (1, 2, 3, 4)  # rows of an array that lies on its side


@dataclass(frozen=True, slots=True)
class Leaf:
    """One array of a file, known by its shape until it is asked for; `path` has dots between its parts."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], npt.NDArray[Any]]
    unit: str = ""
    rate_hz: float | None = None
    sideways: bool = False  # stored column by column, as MATLAB 7.3 does
    label: str = ""  # what to judge it by, where that is not the end of its path

    @property
    def title(self) -> str:
        return self.label or self.path.rpartition(".")[2]

    @property
    def is_number(self) -> bool:
        return self.dtype.kind in "iufb"

    @property
    def is_unit(self) -> bool:
        """A word that says the unit of the arrays beside it."""
        return self.dtype.kind in "US" and self.size == 1 and self.path.rpartition(".")[2].lower() in UNIT_NAMES

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def lies(self) -> bool:
        if len(self.shape) != 2:
            return False
        return self.sideways or (self.shape[0] in _LYING and self.shape[1] >= SHORTEST)

    @property
    def standing(self) -> tuple[int, int]:
        """(rows, columns)"""
        if len(self.shape) == 1:
            return self.shape[0], 1
        return (self.shape[1], self.shape[0]) if self.lies else (self.shape[0], self.shape[1])

    @property
    def is_signal(self) -> bool:
        return self.is_number and len(self.shape) in (1, 2) and self.standing[0] >= SHORTEST

    def columns(self) -> list[str]:
        width = self.standing[1]
        return [self.path] if width == 1 else [f"{self.path}:{i}" for i in range(width)]

    def matrix(self, name: str) -> npt.NDArray[Any]:
        require_modest(self.size, name)
        array = self.load()
        if array.ndim == 1:
            return array[:, None]
        return array.T if self.lies else array


def stored(path: str, array: npt.NDArray[Any], unit: str = "", rate_hz: float | None = None) -> Leaf:
    """An array that is in memory, or mapped, already."""
    return Leaf(path, array.shape, array.dtype, lambda: array, unit, rate_hz)


def table_of(leaves: Sequence[Leaf], options: ReadOptions, name: str) -> Table:
    """The signal among these arrays. KilotuneError `no_column` where more than one may be it."""
    import numpy as np

    constants = {leaf.path: np.ravel(leaf.load()) for leaf in leaves if leaf.is_number and 0 < leaf.size <= SHORTEST}
    signals = [leaf for leaf in leaves if leaf.is_signal and leaf.size > SHORTEST]
    chosen = [_with_unit(leaf, leaves, options, name) for leaf in _chosen(signals, leaves, options, name)]
    rows = {leaf.standing[0] for leaf in chosen}
    if len(rows) > 1:
        told = ", ".join(f"{leaf.path} {leaf.standing[0]}" for leaf in chosen[:6])
        raise KilotuneError("bad_file", f"{name}: the chosen arrays differ in length: {told}", "choose with --variable")
    times = _times(signals, chosen, rows.pop(), name)
    columns = [c for leaf in chosen for c in _columns(leaf, leaf.matrix(name))]
    rate_hz, rate_from = stated_rate(constants)
    own = {leaf.rate_hz for leaf in chosen if leaf.rate_hz is not None}
    if len(own) > 1:
        told = ", ".join(f"{r:g}" for r in sorted(own))
        raise KilotuneError("ambiguous", f"{name}: its signals have {told} Hz", "choose one with --variable")
    if own:
        rate_hz, rate_from = own.pop(), "file"
    sideways = [leaf.path for leaf in chosen if leaf.lies and not leaf.sideways]
    notes = tuple(f"{path} lies on its side: its {len(_LYING)} rows at most are axes" for path in sideways[:1])
    return Table(name, (*times, *columns), rate_hz, rate_from, constants, notes=notes)


def _with_unit(leaf: Leaf, leaves: Sequence[Leaf], options: ReadOptions, name: str) -> Leaf:
    """The unit that a word beside the signal says, or else the only one that the file says."""
    if leaf.unit or options.unit is not None:
        return leaf
    words = [(word.path.rpartition(".")[0], _word(word)) for word in leaves if word.is_unit]
    above = leaf.path.rpartition(".")[0]
    told = {unit for at, unit in words if at == above} or {unit for _, unit in words}
    told.discard("")
    if len(told) > 1:
        raise KilotuneError(
            "ambiguous", f"{name}: the unit of {leaf.path} may be {listed(sorted(told))}", "say which with --unit"
        )
    return replace(leaf, unit=told.pop()) if told else leaf


def _word(leaf: Leaf) -> str:
    value = leaf.load().ravel()[0]
    return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip("\0 ")[:40]


def _columns(leaf: Leaf, matrix: npt.NDArray[Any]) -> list[Column]:
    titled = matrix.shape[1] == 1
    return [
        Column(n, matrix[:, i], leaf.unit, "file" if leaf.unit else "", named=titled, title=leaf.title)
        for i, n in enumerate(leaf.columns())
    ]


def _chosen(signals: list[Leaf], leaves: Sequence[Leaf], options: ReadOptions, name: str) -> list[Leaf]:
    if options.variable is not None:
        return _named(options.variable, signals, leaves, name)
    if options.columns:
        names = [c for leaf in signals for c in leaf.columns()]
        owner = [leaf for leaf in signals for _ in leaf.columns()]
        picked = {owner[i].path for i in pick_columns(names, options.columns, name)}
        return [leaf for leaf in signals if leaf.path in picked]
    free = [leaf for leaf in signals if role_of_name(split_name(leaf.title)[0]) not in (Role.time, Role.other)]
    longest = max((leaf.standing[0] for leaf in free), default=0)
    long = [leaf for leaf in free if leaf.standing[0] == longest]
    axes = [leaf for leaf in long if leaf.standing[1] == 1 and _is_axis(leaf)]
    if len({leaf.title for leaf in axes}) < len(axes):
        axes = []  # two x are those of two sensors
    if len(long) == 1 or (axes and len(axes) == len(long)):
        return long
    if axes and all(leaf in axes or _is_time(leaf, name) for leaf in long):
        return axes
    still = [leaf for leaf in long if not _is_time(leaf, name)]
    if len(still) == 1:
        return still
    raise KilotuneError(
        "no_column",
        f"{name}: which array is the signal? It has {_described(signals or leaves)}",
        "choose with --variable, or columns with --columns",
    )


def _named(wanted: str, signals: list[Leaf], leaves: Sequence[Leaf], name: str) -> list[Leaf]:
    """By its path, by the end or a part of it that no other has, or all that stand below a path."""
    exact = [leaf for leaf in signals if leaf.path == wanted]
    below = [leaf for leaf in signals if leaf.path.startswith(wanted + ".")]
    ends = [leaf for leaf in signals if leaf.path.endswith("." + wanted) or leaf.title == wanted]
    inner = [leaf for leaf in signals if f".{wanted}." in f".{leaf.path}."]
    for found in (exact, below, ends, inner):
        if found and (found is not ends or len(found) == 1):
            return found
    raise KilotuneError(
        "no_column",
        f"{name} has no signal {wanted!r}; it has {_described(signals or leaves)}",
        "choose with --variable, such as --variable " + (signals[0].path if signals else "path.to.signal"),
    )


def _described(leaves: Sequence[Leaf]) -> str:
    told = [f"{leaf.path or 'an array'} {leaf.shape}" for leaf in leaves if leaf.is_number]
    return listed(told)


def _is_axis(leaf: Leaf) -> bool:
    return role_of_name(split_name(leaf.title)[0]) is Role.axis


def _is_time(leaf: Leaf, name: str) -> bool:
    """By its values: one column that runs evenly."""
    if leaf.standing[1] != 1:
        return False
    ticks = ticks_of(leaf.matrix(name)[:, 0])
    return ticks is not None and ticks.step > 0 and ticks.jitter < 0.2


def _times(signals: list[Leaf], chosen: list[Leaf], rows: int, name: str) -> list[Column]:
    """Arrays beside the signal that are its time: of its length, and running evenly."""
    out = []
    taken = {leaf.path for leaf in chosen}
    for leaf in signals:
        if leaf.path in taken or leaf.standing != (rows, 1):
            continue
        named = role_of_name(split_name(leaf.title)[0]) is Role.time
        if named or _is_time(leaf, name):
            title = leaf.title if named else "time"
            out.append(Column(leaf.path, leaf.matrix(name)[:, 0], leaf.unit, "file" if leaf.unit else "", title=title))
    return out
