"""What stands above the numbers of a text file: names of columns, a row of units, keys with values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.dialect import Layout, is_comment
from kilotune.recordings.roles import Role, role_of_name
from kilotune.recordings.table import RATE_NAMES
from kilotune.recordings.units import parse_unit, split_name

_KEY = re.compile(r"^\s*[\"']?(?P<key>[^:=,;\t\"]{1,60}?)[\"']?\s*[:=,;\t]+\s*[\"']?(?P<value>[^\"']*?)[\"']?[\s,;]*$")
_NUMBER = re.compile(r"^(?P<number>[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[^\d\s].*)?$")
_INTERVALS = frozenset(
    ("dt", "delta_x", "delta t", "deltat", "sample interval", "sampling interval", "sample period", "sampling period",
     "sample time", "sampling time", "time increment", "time interval", "time step", "timestep", "increment",
     "abtastintervall", "abtastzeit")
)  # fmt: skip
_UNIT_KEYS = frozenset(("unit", "units", "y_unit_label", "einheit", "y unit", "vertical units", "acceleration unit"))
_HERTZ = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "s/s": 1.0, "sps": 1.0, "ksps": 1e3, "samples/s": 1.0, "1/s": 1.0, "": 1.0}


@dataclass(frozen=True, slots=True)
class Preamble:
    names: tuple[str, ...]  # one a column; empty where the file names none
    units: tuple[str, ...] = ()  # one a column, of a row of units
    rate_hz: float | None = None
    rate_from: str = ""
    constants: dict[str, float] = field(default_factory=dict)
    unit_of_all: str = ""  # of a key, for columns that have none


def read_preamble(lines: Sequence[str], layout: Layout, name: str, *, by_number: bool) -> Preamble:
    """`lines` above the data. KilotuneError `ambiguous` where names do not go with the columns, unless those are
    asked for by their numbers."""
    above = [(i, line) for i, line in enumerate(lines) if line.strip()]
    names, units, used = _header(above, layout, name, by_number)
    constants: dict[str, float] = {}
    rate_hz, rate_from, unit_of_all = None, "", ""
    for i, line in above:
        if i in used:
            continue
        found = _KEY.match(_uncommented(line))
        if not found:
            continue
        key, value = found["key"].strip(), found["value"].strip()
        bare, letters = split_name(key)
        folded = bare.lower().replace("_", " ").strip()
        if folded.replace(" ", "_") in _UNIT_KEYS or folded in _UNIT_KEYS:
            kinds = dict.fromkeys(cell for cell in re.split(r"[\t,;]", value) if cell.strip())
            unit_of_all = next(iter(kinds)) if len(kinds) == 1 else unit_of_all
        number = _NUMBER.match(value.partition("\t")[0].strip())
        if not number:
            continue
        figure = float(number["number"].replace(",", "."))
        constants.setdefault(bare, figure)
        rate = _rate(folded, figure, (number["unit"] or letters).strip())
        if rate is not None and rate_hz is None:
            rate_hz, rate_from = rate, f"header: {key[:40]}"
    return Preamble(names, units, rate_hz, rate_from, constants, unit_of_all)


def _rate(key: str, figure: float, unit: str) -> float | None:
    """A rate in Hz that a key states, as a frequency or as the time between samples."""
    if key in RATE_NAMES or key.replace(" ", "_") in RATE_NAMES:
        factor = _HERTZ.get(unit.lower().strip("()[] "))
        return figure * factor if factor is not None and figure > 0 else None
    if (key in _INTERVALS or key.replace(" ", "_") in _INTERVALS) and figure > 0:
        second = parse_unit(unit) if unit else parse_unit("s")
        if second is None or second.kind != "time":
            return None
        rate = 1.0 / (figure * second.factor)
        return float(round(rate)) if round(rate) and abs(rate - round(rate)) < 1e-6 * rate else rate
    return None


def _uncommented(line: str) -> str:
    return line.strip().lstrip("#%/! ").strip()


def _header(
    above: list[tuple[int, str]], layout: Layout, name: str, by_number: bool
) -> tuple[tuple[str, ...], tuple[str, ...], set[int]]:
    """(names, units, lines that they stand in)"""
    rows = [(i, line, _cells(line, layout)) for i, line in above[-6:]]
    matching = [(i, line, cells) for i, line, cells in rows if cells is not None and len(cells) == layout.width]
    if matching:
        i, line, cells = matching[-1]
        assert cells is not None
        if _are_units(cells) and len(matching) > 1 and _are_names(matching[-2][2] or [], layout):
            before = matching[-2]
            return _unique(before[2] or []), tuple(cells), {i, before[0]}
        if _are_names(cells, layout) and (not is_comment(line) or _telling(cells)):
            return _unique(cells), (), {i}
    if rows and not by_number:
        _refuse_other_width(rows[-1][1], rows[-1][2] or [], layout, name)
    return (), (), set()


def _cells(line: str, layout: Layout) -> list[str] | None:
    text = _uncommented(line) if is_comment(line) else line.rstrip("\r\n")
    return layout.dialect.cells(text) or None


def _are_names(cells: Sequence[str], layout: Layout) -> bool:
    filled = [c for c in cells if c]
    return bool(filled) and not any(layout.dialect.is_number(c) for c in filled)


def _are_units(cells: Sequence[str]) -> bool:
    filled = [c for c in cells if c and c != "-"]
    return bool(filled) and all(parse_unit(c) is not None for c in filled)


def _telling(cells: Sequence[str]) -> bool:
    """Whether words of a comment are names of columns rather than prose."""
    return any(role_of_name(split_name(c)[0]) is not Role.open for c in cells)


def _unique(cells: Sequence[str]) -> tuple[str, ...]:
    """Names, of which a second one of a kind gets a number, as in tables of LabVIEW."""
    seen: dict[str, int] = {}
    out = []
    for cell in cells:
        seen[cell] = seen.get(cell, 0) + 1
        out.append(cell if seen[cell] == 1 else f"{cell}.{seen[cell]}")
    return tuple(out)


def _refuse_other_width(line: str, cells: list[str], layout: Layout, name: str) -> None:
    """Names for more or fewer columns than there are would name the wrong ones."""
    several = len(cells) > 1 and (layout.dialect.delimiter != " " or _telling(cells))
    lone = len(cells) == 1 and layout.width > 1 and role_of_name(split_name(cells[0])[0]) in (Role.axis, Role.time)
    if is_comment(line) or not (several or lone) or not _are_names(cells, layout):
        return
    if layout.dialect.delimiter != " " and len(cells) == 2 and _KEY.match(line) and not _telling(cells):
        return
    raise KilotuneError(
        "ambiguous",
        f"{name}: its header names {len(cells)} columns ({', '.join(c[:20] for c in cells[:6])}), "
        f"its rows have {layout.width}",
        "give the axes by their column numbers, counted from 0, such as --columns 1,2,3",
    )
