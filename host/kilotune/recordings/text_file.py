"""Comma-, semicolon- or tab-separated text: header or none, a time column gives the rate."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.table import ReadOptions, Table, pick_columns, require_modest

if TYPE_CHECKING:
    import numpy.typing as npt

# Name of a time column and seconds in one of its units.
_SECONDS = dict.fromkeys(("time", "t", "timestamp", "seconds", "time_s", "t_s", "time (s)"), 1.0)
_MILLI = dict.fromkeys(("time_ms", "t_ms", "ms", "time (ms)"), 1e-3)
_MICRO = dict.fromkeys(("time_us", "t_us", "us", "time (us)"), 1e-6)
TIME_COLUMNS = {**_SECONDS, **_MILLI, **_MICRO, "time_ns": 1e-9}
_COUNTERS = ("index", "sample", "n", "")  # columns that number the rows
_DELIMITERS = (",", ";", "\t", "|")
_GAP = 0.5  # departure of a time step from their mean, relative, from which on samples are missing
_MAX_BYTES = 2_000_000_000


def load_text(path: Path, options: ReadOptions) -> Table:
    import numpy as np

    name = path.name
    if path.stat().st_size > _MAX_BYTES:
        raise KilotuneError(
            "too_large",
            f"{name} is {path.stat().st_size / 1e9:.1f} GB of text",
            "store it as .npy, which is read in place, or split it",
        )
    lines = _opening(path, name)
    delimiter = _delimiter(lines[-1])
    first = [cell.strip() for cell in _cells(lines[0], delimiter)]
    has_header = not all(_is_number(cell) for cell in first)
    width = len(first)
    names = tuple(first) if has_header else tuple(str(i) for i in range(width))
    comments = _leading_comments(path)
    first_row = comments + (2 if has_header else 1)
    time = next((i for i, n in enumerate(names) if has_header and n.lower() in TIME_COLUMNS), None)
    if options.columns:
        chosen = pick_columns(names, options.columns, name)
    else:
        counters = {i for i, n in enumerate(names) if has_header and n.lower() in _COUNTERS}
        chosen = [i for i in range(width) if i != time and i not in counters]
    if not chosen:
        raise KilotuneError("empty", f"{name} has a time column and nothing else", "choose with --columns")
    used = chosen + ([time] if time is not None and time not in chosen else [])
    values = _parse(path, delimiter, first_row, used, names, width)
    require_modest(values.size, name)
    rate_hz, rate_from = None, ""
    if time is not None and options.rate_hz is None:
        times, second = values[:, used.index(time)], TIME_COLUMNS[names[time].lower()]
        rate_hz = rate_of_times(times, second, names[time], name, first_row)
        rate_from = f"column {names[time]}"
    picked = np.ascontiguousarray(values[:, : len(chosen)])
    return Table(picked, tuple(names[i] for i in chosen), rate_hz, rate_from, {}, first_row)


def _opening(path: Path, name: str) -> list[str]:
    """The first lines that are neither empty nor comments: at most two."""
    out: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line in file:
                text = line.strip()
                if text and not text.startswith("#"):
                    out.append(text)
                if len(out) == 2:
                    break
    except UnicodeDecodeError:
        raise KilotuneError(
            "bad_file", f"{name} is not text in UTF-8", "is it a binary recording with the wrong ending?"
        ) from None
    if not out:
        raise KilotuneError("empty", f"{name} is empty", "check that the recording is complete")
    return out


def _leading_comments(path: Path) -> int:
    count = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line in file:
            text = line.strip()
            if text and not text.startswith("#"):
                break
            count += 1
    return count


def _delimiter(line: str) -> str:
    counts = {d: line.count(d) for d in _DELIMITERS}
    best = max(counts, key=lambda d: counts[d])
    # Decimal commas with semicolons between: the semicolon separates.
    if counts[";"]:
        return ";"
    return best if counts[best] else (" " if " " in line else ",")


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error:  # a cell without end
        return [line[:20]]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(
    path: Path, delimiter: str, first_row: int, used: list[int], names: tuple[str, ...], width: int
) -> npt.NDArray[Any]:
    import warnings

    import numpy as np

    with warnings.catch_warnings(), path.open(encoding="utf-8-sig", newline=None, errors="replace") as file:
        warnings.simplefilter("ignore")  # numpy warns of an empty file: refused later
        try:
            return np.loadtxt(
                _whole_rows(islice(file, first_row - 1, None), delimiter, width),
                delimiter=None if delimiter == " " else delimiter,
                usecols=used,
                ndmin=2,
                comments="#",
            )
        except (ValueError, IndexError):
            raise _diagnosis(path, delimiter, first_row, used, names, width) from None


def _whole_rows(lines: Iterable[str], delimiter: str, width: int) -> Iterator[str]:
    """Passes rows on; one with more or fewer cells than the first ends the reading."""
    for line in lines:
        plain = '"' not in line and not line.lstrip().startswith("#") and line.strip()
        if plain and delimiter != " " and line.count(delimiter) != width - 1:
            raise ValueError
        yield line


def _diagnosis(
    path: Path, delimiter: str, first_row: int, used: list[int], names: tuple[str, ...], width: int
) -> KilotuneError:
    """Reads slowly to name the first row that is not what it should be."""
    name = path.name
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if number < first_row or not line.strip() or line.startswith("#"):
                continue
            cells = line.split() if delimiter == " " else _cells(line, delimiter)
            if len(cells) <= max(used) or len(cells) != width:
                return KilotuneError(
                    "bad_file",
                    f"{name}: row {number} has {len(cells)} columns, not {width}",
                    "the recording was cut off or two were joined: repair or remove that row",
                )
            for i in used:
                if not _is_number(cells[i]):
                    what = "is empty" if not cells[i].strip() else f"holds {cells[i].strip()[:20]!r}, not a number"
                    hint = "repair or remove that row"
                    if delimiter == ";" and "," in cells[i]:
                        hint = "decimal commas are not read: write decimal points"
                    return KilotuneError("bad_file", f"{name}: row {number}, column {names[i]} {what}", hint)
    return KilotuneError("bad_file", f"{name} could not be read as a table of numbers", "check the file")


def rate_of_times(time: npt.NDArray[Any], second: float, column: str, name: str, first_row: int) -> float | None:
    """Samples a second; KilotuneError `gap` where a step says that samples are missing."""
    import numpy as np

    if time.size < 3:
        return None
    steps = np.diff(time)
    mean = float(time[-1] - time[0]) / (time.size - 1)
    if not np.isfinite(mean) or mean <= 0:
        return None
    # Rounded time stamps are off by up to one unit of their last digit; a gap is off by a whole step.
    worst = int(np.argmax(abs(steps - mean)))
    if abs(float(steps[worst]) - mean) > _GAP * mean:
        raise KilotuneError(
            "gap",
            f"{name}: column {column} steps by {float(steps[worst]):g} in row {worst + first_row + 1}, "
            f"by {mean:g} on average: samples are missing",
            "cut the recording at the gap, or state that it has none with --rate",
        )
    rate = 1.0 / (mean * second)
    nearest = round(rate)
    return float(nearest) if nearest and abs(rate - nearest) < 1e-4 * rate else rate
