"""How the numbers of a text file are written: what separates them, which sign their decimals have, where they begin.

Every way to read the first lines is tried. Where more than one fits, the header decides; where it cannot, the user is
asked: `0,512` may be one number or two.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kilotune.errors import KilotuneError
from kilotune.recordings.limits import MAX_COLUMNS
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.stamps import is_stamp

COMMENTS = ("#", "%", "//", "!")
_POINT = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+)?$|^[+-]?(nan|inf|infinity)$", re.IGNORECASE)
_COMMA = re.compile(r"^[+-]?(\d+(,\d+)?|,\d+)([eEdD][+-]?\d+)?$|^[+-]?(nan|inf|infinity)$", re.IGNORECASE)
_WORDS = {"tab": "\t", "space": " ", "comma": ",", "semicolon": ";", "\\t": "\t"}
_LEAST_NUMBERS = 0.5  # share of a data row's cells that are numbers or stamps


@dataclass(frozen=True, slots=True)
class Dialect:
    delimiter: str  # " " means any run of white space
    decimal: str

    def cells(self, line: str) -> list[str]:
        if self.delimiter == " ":
            return line.split()
        if '"' not in line:
            return [cell.strip() for cell in line.split(self.delimiter)]
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=self.delimiter))]
        except (csv.Error, StopIteration):  # a cell without end
            return [line[:40]]

    def is_number(self, cell: str) -> bool:
        return bool((_COMMA if self.decimal == "," else _POINT).match(cell))

    def kind(self, cell: str) -> str:
        if not cell:
            return "empty"
        if self.is_number(cell):
            return "number"
        return "stamp" if is_stamp(cell) else "text"


@dataclass(frozen=True, slots=True)
class Layout:
    """A dialect with the shape of its data: `kinds` of each column, `start`: index of the first row of data."""

    dialect: Dialect
    kinds: tuple[str, ...]
    start: int
    fit: float  # share of cells that are numbers or stamps

    @property
    def width(self) -> int:
        return len(self.kinds)


def is_comment(line: str) -> bool:
    return line.lstrip().startswith(COMMENTS)


def find_layout(lines: Sequence[str], options: ReadOptions, name: str) -> Layout:
    """The one way to read these first lines. KilotuneError `ambiguous`, `empty` or `bad_file`."""
    layouts = [found for d in _dialects(lines, options) if (found := _layout(d, lines)) is not None]
    begin = min((layout.start for layout in layouts), default=0)
    layouts = [replace(layout, fit=_fit(layout, lines, begin)) for layout in layouts]
    if not layouts:
        if any(line.strip() for line in lines) and not any(c.isdigit() for line in lines[1:] for c in line):
            raise KilotuneError("empty", f"{name} holds no numbers", "check that the recording is complete")
        raise KilotuneError(
            "bad_file",
            f"{name} holds no table of numbers",
            "is it a recording? --delimiter and --decimal say how it is written",
        )
    best = max(layout.fit for layout in layouts)
    fitting = [layout for layout in layouts if layout.fit >= best - 1e-9]
    chosen = fitting[0]
    others = [f for f in fitting[1:] if f.width != chosen.width or f.dialect.decimal != chosen.dialect.decimal]
    for other in others:
        chosen = _decide(chosen, other, lines, name)
    return chosen


def _dialects(lines: Sequence[str], options: ReadOptions) -> list[Dialect]:
    delimiters = [",", ";", "\t", "|", " "]
    if options.delimiter is not None:
        delimiters = [_WORDS.get(options.delimiter, options.delimiter)]
    decimals = [options.decimal] if options.decimal is not None else [".", ","]
    quoted = any('"' in line for line in lines) or options.delimiter is not None
    return [Dialect(d, p) for p in decimals for d in delimiters if d != p or quoted]


def _layout(dialect: Dialect, lines: Sequence[str]) -> Layout | None:
    rows = [(i, dialect.cells(line)) for i, line in enumerate(lines) if line.strip() and not is_comment(line)]
    kinds = {i: [dialect.kind(cell) for cell in cells] for i, cells in rows if len(cells) <= MAX_COLUMNS}
    data = {i: k for i, k in kinds.items() if _is_data(k)}
    if not data:
        return None
    width = Counter(len(k) for k in data.values()).most_common(1)[0][0]
    whole = [k for k in data.values() if len(k) == width]
    usual = tuple(_usual([k[c] for k in whole]) for c in range(width))
    if not {"number", "stamp"} & set(usual):
        return None
    start = next((i for i, k in data.items() if len(k) == width and _agrees(k, usual)), None)
    if start is None:
        return None
    return Layout(dialect, usual, start, 0.0)


def _fit(layout: Layout, lines: Sequence[str], begin: int) -> float:
    """Share of a line that is numbers or stamps, on average from line `begin` on; above its own start it is none."""
    shares = []
    for i, line in enumerate(lines[begin:], begin):
        if not line.strip() or is_comment(line):
            continue
        cells = layout.dialect.cells(line)
        good = sum(layout.dialect.kind(cell) != "text" for cell in cells) if i >= layout.start else 0
        shares.append(good / len(cells))
    return sum(shares) / max(1, len(shares))


def _is_data(kinds: list[str]) -> bool:
    filled = [k for k in kinds if k != "empty"]
    return bool(filled) and sum(k != "text" for k in filled) >= _LEAST_NUMBERS * len(filled)


def _usual(kinds: list[str]) -> str:
    """Of one column: what most of its cells are; a number where that is as likely."""
    counts = Counter(kinds)
    return max(counts, key=lambda k: (counts[k], k == "number", k == "stamp", k == "text"))


def _agrees(kinds: list[str], usual: tuple[str, ...]) -> bool:
    return all(k == u or "empty" in (k, u) or u == "text" for k, u in zip(kinds, usual, strict=True))


def _decide(one: Layout, other: Layout, lines: Sequence[str], name: str) -> Layout:
    """Between a reading with decimal commas and one that separates at commas, or between two delimiters."""
    if _same_values(one, other, lines):
        return one
    commas = [layout for layout in (one, other) if layout.dialect.delimiter == ","]
    decimal = [layout for layout in (one, other) if layout.dialect.decimal == ","]
    if len(commas) == 1 and len(decimal) == 1 and commas != decimal:
        told = _comma_separates(commas[0], lines)
        if told is not None:
            return commas[0] if told else decimal[0]
        sample = lines[one.start].strip()[:30]
        raise KilotuneError(
            "ambiguous",
            f"{name}: {sample!r} could be {decimal[0].width} or {commas[0].width} numbers",
            "say --decimal , or --delimiter ,",
        )
    if one.width == other.width and one.dialect.delimiter == other.dialect.delimiter:
        return one  # no decimals at all
    raise KilotuneError(
        "ambiguous",
        f"{name}: its rows could have {one.width} or {other.width} columns",
        "say --delimiter, such as tab, space or ;",
    )


def _same_values(one: Layout, other: Layout, lines: Sequence[str]) -> bool:
    """Whether both give the same numbers; white space between columns loses only those that are empty."""
    return one.dialect.decimal == other.dialect.decimal and all(
        _filled(one, line) == _filled(other, line) for line in lines[max(one.start, other.start) :][:50]
    )


def _filled(layout: Layout, line: str) -> list[str]:
    return [cell for cell in layout.dialect.cells(line) if cell]


def _comma_separates(layout: Layout, lines: Sequence[str]) -> bool | None:
    """Whether a comma separates numbers; None: these lines do not tell."""
    if layout.start > 0:
        header = lines[layout.start - 1].strip().lstrip("#%/! ")
        if header and not is_comment(lines[layout.start - 1]):
            return len(layout.dialect.cells(header)) == layout.width
    rows = [layout.dialect.cells(line) for line in lines[layout.start :] if line.strip() and not is_comment(line)]
    if layout.width % 2:
        return True  # numbers with a decimal comma are pairs
    behind = [cell for row in rows for cell in row[1::2]]
    if any(cell[:1] in "+-" for cell in behind) or any(
        not cell.isdigit() for row in rows for cell in row[0::2] if cell[:1] not in "+-"
    ):
        return True
    if any(len(cell) > 1 and cell.startswith("0") for cell in behind) or any(row[0] in ("-0", "+0") for row in rows):
        return False
    return None
