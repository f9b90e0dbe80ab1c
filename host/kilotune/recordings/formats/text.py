"""Text: any delimiter, decimal point or comma, header or none, in the encodings that instruments write."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.dialect import Layout, find_layout
from kilotune.recordings.formats.preamble import Preamble, read_preamble
from kilotune.recordings.formats.rows import RowReader
from kilotune.recordings.limits import MAX_LINE
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.roles import Role, role_of_name
from kilotune.recordings.table import FIRST_ROW, Column, Table
from kilotune.recordings.units import parse_unit, split_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_SAMPLE_BYTES = 1 << 16
_SAMPLE_LINES = 600
_SAMPLE_CHARACTERS = 1 << 20
_SENSOR_LOGGER = {"time", "seconds_elapsed", "x", "y", "z"}
_SENSOR_LOGGER_FILES = (
    ("accelerometer", "m/s^2"), ("totalacceleration", "m/s^2"), ("gyroscope", "rad/s"), ("magnetometer", "uT"),
)  # fmt: skip
_END_OF_LVM_HEADER = "***end_of_header***"


class Lines:
    """Lines with their numbers, of which the first may be looked at before they are taken."""

    def __init__(self, source: Iterator[str], name: str) -> None:
        self._numbered = enumerate(source, 1)
        self._name = name

    def __iter__(self) -> Iterator[tuple[int, str]]:
        most = MAX_LINE
        for number, line in self._numbered:
            if len(line) > most:
                raise KilotuneError(
                    "bad_file",
                    f"{self._name}: row {number} has more than {MAX_LINE:,} characters",
                    "is it a recording?",
                )
            yield number, line.rstrip("\r\n")


def load(path: Path, options: ReadOptions, most_rows: int | None = None) -> Table:
    """At most `most_rows` rows of the file."""
    name = path.name
    encoding = text_encoding(path)
    if encoding is None:
        raise KilotuneError("bad_file", f"{name} is not text", "is it a binary recording with the wrong ending?")
    with path.open(encoding=encoding, errors="replace", newline=None) as file:
        table = load_lines(Lines(_bounded(file), name), options, name, most_rows)
    notes = [] if encoding in ("utf-8-sig", "utf-8") else [f"text is in {encoding}"]
    if not path.suffix:
        notes.append("read as text, as it has no ending")
    return replace(table, notes=(*table.notes, *notes))


def _bounded(file: IO[str]) -> Iterator[str]:
    """A line that has no end is not held as a whole."""
    return iter(partial(file.readline, MAX_LINE + 1), "")


def load_lines(source: Lines, options: ReadOptions, name: str, most_rows: int | None) -> Table:
    """At most `most_rows` rows of these lines."""
    import numpy as np

    lines = iter(source)
    sample = _opening(lines)
    texts = [text for _, text in sample]
    if not any(text.strip() for text in texts):
        raise KilotuneError("empty", f"{name} is empty", "check that the recording is complete")
    layout = find_layout(texts, options, name)
    by_number = bool(options.columns) and all(c.isdecimal() for c in options.columns)
    preamble = read_preamble(texts[: layout.start], layout, name, by_number=by_number)
    lvm = any(text.strip().lower().startswith(_END_OF_LVM_HEADER) for text in texts[: layout.start])
    names = preamble.names or tuple(str(i) for i in range(layout.width))
    used = [i for i, kind in enumerate(layout.kinds) if kind in ("number", "stamp")]
    extra, begin = _longer_first_row(sample, layout)
    values, complete = RowReader(layout, used, names, name).read(chain(sample[begin:], lines), most_rows)
    columns = tuple(_column(i, names, values[i], layout, preamble, lvm, name) for i in used)
    constants = {key: np.array(value) for key, value in preamble.constants.items()}
    if extra:
        constants[FIRST_ROW] = np.array(extra)
    return Table(
        name, columns, preamble.rate_hz, preamble.rate_from, constants, sample[begin][0],
        notes=_notes(names, layout, extra), complete=complete,
    )  # fmt: skip


def _column(
    index: int, names: tuple[str, ...], values: npt.NDArray[np.float64], layout: Layout, preamble: Preamble, lvm: bool,
    table_name: str,
) -> Column:  # fmt: skip
    name = names[index]
    unit = preamble.units[index] if preamble.units else ""
    unit_from = "row of units"
    bare, own = split_name(name)
    if not unit and not own and preamble.unit_of_all and role_of_name(bare) is not Role.time:
        known = parse_unit(preamble.unit_of_all)
        unit, unit_from = (preamble.unit_of_all, "header") if known is not None else ("", "")
    if not unit and not own and role_of_name(bare) is Role.axis:
        unit, unit_from = _sensor_logger(table_name, names)
    if lvm and name.lower().startswith("x_value"):
        unit, unit_from = "s", "LVM"
    return Column(name, values, unit, unit_from, stamps=layout.kinds[index] == "stamp", named=bool(preamble.names))


def _sensor_logger(file_name: str, names: tuple[str, ...]) -> tuple[str, str]:
    """(unit, where from) of a file of the app Sensor Logger, whose columns say none: its name says which sensor's."""
    if {n.lower() for n in names} != _SENSOR_LOGGER:
        return "", ""
    stem = file_name.lower()
    known = next((unit for beginning, unit in _SENSOR_LOGGER_FILES if stem.startswith(beginning)), None)
    return (known, "Sensor Logger") if known else ("of Sensor Logger", "Sensor Logger")


def _notes(names: tuple[str, ...], layout: Layout, extra: list[float]) -> tuple[str, ...]:
    away = [n for n, k in zip(names, layout.kinds, strict=True) if k == "text"]
    notes = [f"not read: column {n[:40]}, which is text" for n in away]
    if layout.dialect.decimal == ",":
        notes.append("numbers have decimal commas")
    if extra:
        notes.append(f"the first row has {len(extra)} more numbers, stored as {FIRST_ROW}: for --offset or --scale")
    return tuple(notes)


def _longer_first_row(sample: list[tuple[int, str]], layout: Layout) -> tuple[list[float], int]:
    """(numbers that only the first row has behind its columns, index of the row where data begins).

    Some loggers put constants of the whole recording there, such as the sensor's zeros.
    """
    before = layout.start - 1
    if before < 0:
        return [], layout.start
    number, line = sample[before]
    cells = layout.dialect.cells(line)
    if len(cells) <= layout.width or not all(layout.dialect.is_number(c) for c in cells if c):
        return [], layout.start
    extra = [float(c.replace(",", ".")) for c in cells[layout.width :] if c]
    delimiter = layout.dialect.delimiter
    sample[before] = (number, delimiter.join(cells[: layout.width]))
    return extra, before


def text_encoding(path: Path) -> str | None:
    """The encoding of a text file by its first bytes; None where it is no text."""
    with path.open("rb") as file:
        head = file.read(_SAMPLE_BYTES)
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = (head[0::2].count(0), head[1::2].count(0))
    if len(head) >= 8 and max(zeros) > 0.4 * len(head) / 2 and min(zeros) < 0.02 * len(head):
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    if b"\x00" in head or sum(b < 32 and b not in (9, 10, 12, 13) for b in head) > 0.01 * len(head):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        high = sum(b >= 128 for b in head)
        return "cp1252" if high <= 0.2 * len(head) else None
    return "utf-8"


def _opening(lines: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    out: list[tuple[int, str]] = []
    size = 0
    for number, line in lines:
        out.append((number, line))
        size += len(line)
        if len(out) >= _SAMPLE_LINES or size >= _SAMPLE_CHARACTERS:
            break
    return out
