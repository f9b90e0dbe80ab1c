"""Workbooks of Excel (.xlsx): one sheet, read as the text that it would be."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.packages import optional
from kilotune.recordings.formats.text import Lines, load_lines
from kilotune.recordings.limits import MAX_COLUMNS, require_unpackable, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Table, listed


def load(path: Path, options: ReadOptions) -> Table:
    from dataclasses import replace

    openpyxl = optional("openpyxl", "openpyxl", path.name)
    book = None
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        # Sheets are text, which shrinks well; what is made of it takes several times as much.
        require_unpackable(sum(m.compress_size for m in members), 4 * sum(m.file_size for m in members), path.name)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        sheet = _sheet(book, options, path.name)
        lines = Lines(_rows(sheet), path.name)
        written = replace(options, delimiter="\t", decimal=".", variable=None)
        return load_lines(lines, written, path.name, None)
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(path.name, error) from None
    finally:
        if book is not None:
            book.close()


def _sheet(book: Any, options: ReadOptions, name: str) -> Any:
    names = book.sheetnames
    if options.variable is not None:
        if options.variable not in names:
            raise KilotuneError(
                "no_column",
                f"{name} has no sheet {options.variable!r}; it has {listed(names)}",
                "choose with --variable",
            )
        return book[options.variable]
    filled = [n for n in names if getattr(book[n], "max_row", None) is None or book[n].max_row > 1]
    if len(filled) != 1:
        raise KilotuneError(
            "no_column", f"{name}: which sheet is the recording? It has {listed(names)}", "choose with --variable"
        )
    return book[filled[0]]


def _rows(sheet: Any) -> Iterator[str]:
    for row in sheet.iter_rows(values_only=True, max_col=MAX_COLUMNS):
        yield "\t".join(_cell(value) for value in row)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    return " ".join(str(value).split())
