"""What every file format comes down to: named columns of numbers, and how a column is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    import numpy.typing as npt

RATE_NAMES = (
    "fs", "rate", "rate_hz", "sample_rate", "samplerate", "sampling_rate", "fs_hz", "sr", "sample_rate_hz",
    "sampling_rate_hz", "sampling_frequency", "sample_frequency", "samplingrate", "samplingfrequency",
    "sample rate", "sampling rate", "sampling frequency", "sample frequency", "abtastrate", "odr",
)  # fmt: skip


FIRST_ROW = "first_row"  # constant: numbers that only the first row of a text file has


@dataclass(frozen=True, slots=True)
class Column:
    """`values` is (n,) of any real dtype, in the unit that the file calls `unit` (empty: it says none)."""

    name: str
    values: npt.NDArray[Any]
    unit: str = ""
    unit_from: str = ""  # where the unit was found, such as "header"
    stamps: bool = False  # made of time stamps in words: seconds
    named: bool = True  # False: the name is only the column's number
    title: str = ""  # what to judge it by, where that is not its name

    @property
    def words(self) -> str:
        return self.title or self.name


@dataclass(frozen=True, slots=True)
class Table:
    """What a reader found in one file; `name` is the file's, for messages."""

    name: str
    columns: tuple[Column, ...]
    rate_hz: float | None = None
    rate_from: str = ""
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    first_row: int = 1  # the number of the first row as an editor shows it
    starts: tuple[int, ...] = ()  # of stretches, where the file itself says so
    times_s: tuple[float, ...] = ()  # when each of them began
    notes: tuple[str, ...] = ()
    full_scale: float | None = None  # the values are a converter's, which reaches so far: counts
    complete: bool = True  # False: more rows follow in the file

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def rows(self) -> int:
        return len(self.columns[0].values) if self.columns else 0


def pick_columns(names: Sequence[str], wanted: Sequence[str], name: str) -> list[int]:
    """Indexes of the wanted columns: a name, a number, an array's name (`a`: `a:0`, `a:1`), a unique end."""
    out: list[int] = []
    for want in wanted:
        found = _match(names, want)
        if not found:
            raise KilotuneError(
                "no_column", f"{name} has no column {want!r}; it has {listed(names)}", "choose with --columns"
            )
        out += found
    if len(set(out)) != len(out):
        raise KilotuneError("bad_argument", f"{name}: a column is named twice in --columns", "name each axis once")
    return out


def _match(names: Sequence[str], want: str) -> list[int]:
    exact = [i for i, n in enumerate(names) if n == want]
    if exact:
        return exact[:1]
    folded = [i for i, n in enumerate(names) if n.strip().lower() == want.strip().lower()]
    if len(folded) == 1:
        return folded
    array = [i for i, n in enumerate(names) if n.rpartition(":")[0] == want]
    if array:
        return array
    if want.isascii() and want.isdecimal() and len(want) < 9 and int(want) < len(names):
        return [int(want)]
    ends = [i for i, n in enumerate(names) if n.endswith(want)] if len(want) > 1 else []
    return ends if len(ends) == 1 else []


def listed(names: Sequence[str]) -> str:
    shown = ", ".join(name[:40] for name in names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"


def stated_rate(constants: dict[str, npt.NDArray[Any]]) -> tuple[float | None, str]:
    """A rate that the file states itself, and under which name.

    `rate` alone counts only where nothing says it better: in some files it is the shaft's.
    """
    import numpy as np

    found: list[tuple[bool, float, str]] = []
    for key, value in constants.items():
        last = key.rpartition(".")[2].strip().lower()
        bare = last.partition("(")[0].partition("[")[0].strip()
        if {last, bare} & set(RATE_NAMES) and value.size == 1 and value.dtype.kind in "iuf":
            rate = float(np.ravel(value)[0]) * (1000.0 if "khz" in last else 1.0)
            if np.isfinite(rate) and rate > 0:
                found.append((bare == "rate", rate, key))
    if not found:
        return None, ""
    _, rate, key = min(found, key=lambda f: f[0])
    return rate, key
