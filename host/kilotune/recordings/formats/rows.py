"""The rows of a text file as numbers, read piece by piece, so that a part of a file takes the memory of that part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.dialect import Layout, is_comment
from kilotune.recordings.limits import MAX_VALUES
from kilotune.recordings.stamps import StampReader

if TYPE_CHECKING:
    import numpy.typing as npt

_PIECE_LINES = 50_000
_PIECE_CHARACTERS = 8_000_000
_PLAIN_BEGINNINGS = frozenset("0123456789-+.")


class RowReader:
    """`used`: columns to read, of kind number or stamp."""

    def __init__(self, layout: Layout, used: Sequence[int], names: Sequence[str], name: str) -> None:
        self._layout, self._names, self._name = layout, names, name
        self._numbers = [c for c in used if layout.kinds[c] == "number"]
        self._stamps = {c: StampReader() for c in used if layout.kinds[c] == "stamp"}

    def read(self, lines: Iterator[tuple[int, str]], most_rows: int | None) -> tuple[dict[int, npt.NDArray[Any]], bool]:
        """(values of each column, whether all was read); `lines` come with their numbers as an editor shows them."""
        import numpy as np

        pieces: dict[int, list[npt.NDArray[Any]]] = {c: [] for c in (*self._numbers, *self._stamps)}
        rows, complete = 0, False
        while not complete and (most_rows is None or rows < most_rows):
            left = None if most_rows is None else most_rows - rows
            piece, complete = self._piece(lines, left)
            if piece:
                rows += len(piece)
                self._parse(piece, pieces)
            if rows * max(1, len(pieces)) > MAX_VALUES:
                raise KilotuneError(
                    "too_large",
                    f"{self._name} holds more than {MAX_VALUES:,} numbers",
                    "read a part with --seconds, choose fewer columns with --columns, or split the file",
                )
        if not complete:
            complete = next(lines, None) is None
        return {c: np.concatenate(p) if p else np.zeros(0) for c, p in pieces.items()}, complete

    def _piece(self, lines: Iterator[tuple[int, str]], left: int | None) -> tuple[list[tuple[int, str]], bool]:
        piece: list[tuple[int, str]] = []
        size = 0
        most = _PIECE_LINES if left is None else min(_PIECE_LINES, left)
        delimiter = self._layout.dialect.delimiter
        delimiters = self._layout.width - 1 if delimiter != " " else None
        for number, line in lines:
            # Nearly all lines are plain: they are known at a glance, as this loop takes most of the time.
            if line[:1] not in _PLAIN_BEGINNINGS and (not line.strip() or is_comment(line)):
                continue
            if line.count(delimiter) != delimiters or '"' in line:
                self._require_width(number, line)
            piece.append((number, line))
            size += len(line)
            if len(piece) >= most or size >= _PIECE_CHARACTERS:
                return piece, False
        return piece, True

    def _require_width(self, number: int, line: str) -> None:
        dialect, width = self._layout.dialect, self._layout.width
        if dialect.delimiter == " ":
            found = len(line.split())
        elif '"' in line:
            found = len(dialect.cells(line))
        else:
            found = line.count(dialect.delimiter) + 1
        if found != width:
            raise KilotuneError(
                "bad_file",
                f"{self._name}: row {number} has {found} columns, not {width}",
                "the recording was cut off or two were joined: repair or remove that row",
            )

    def _parse(self, piece: list[tuple[int, str]], pieces: dict[int, list[npt.NDArray[Any]]]) -> None:
        import numpy as np

        dialect = self._layout.dialect
        if self._numbers:
            texts = [line for _, line in piece]
            if dialect.decimal == "," and not any('"' in t for t in texts):
                texts = [t.replace(",", ".") for t in texts]
            elif dialect.decimal == ",":
                texts = ["\t".join(cell.replace(",", ".") for cell in dialect.cells(t)) for t in texts]
            delimiter = "\t" if dialect.decimal == "," and any('"' in line for _, line in piece) else dialect.delimiter
            try:
                found = np.loadtxt(
                    texts, delimiter=None if delimiter == " " else delimiter, usecols=self._numbers, ndmin=2,
                    comments=None, quotechar='"',
                )  # fmt: skip
            except (ValueError, IndexError, OverflowError):
                found = self._slowly(piece)
            for k, column in enumerate(self._numbers):
                pieces[column].append(found[:, k].copy())
        for column, reader in self._stamps.items():
            cells = [dialect.cells(line)[column] for _, line in piece]
            seconds = reader.seconds(cells)
            if isinstance(seconds, int):
                raise self._wrong(piece[seconds][0], column, cells[seconds], "time stamp")
            pieces[column].append(seconds)

    def _slowly(self, piece: list[tuple[int, str]]) -> npt.NDArray[Any]:
        """Cell by cell: numbers in Fortran's way are read, and the first that is none is named."""
        import numpy as np

        dialect = self._layout.dialect
        out = np.empty((len(piece), len(self._numbers)))
        for row, (number, line) in enumerate(piece):
            cells = dialect.cells(line)
            for k, column in enumerate(self._numbers):
                cell = cells[column]
                if not dialect.is_number(cell):
                    raise self._wrong(number, column, cell, "number")
                out[row, k] = float(
                    cell.replace(",", ".").lower().replace("d", "e") if "n" not in cell.lower() else cell
                )
        return out

    def _wrong(self, number: int, column: int, cell: str, what: str) -> KilotuneError:
        told = "is empty" if not cell else f"holds {cell[:20]!r}, not a {what}"
        return KilotuneError(
            "bad_file",
            f"{self._name}: row {number}, column {self._names[column][:40]} {told}",
            "repair or remove that row",
        )
