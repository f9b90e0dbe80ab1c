"""What a command writes: results on stdout, everything else on stderr, errors with a remedy.

Everything for a terminal goes through `printable`, so control characters from devices and files have no effect.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol, TextIO

from kilotune.errors import KilotuneError
from kilotune.printable import printable
from kilotune.terms import word_of


class Bar(Protocol):
    """Progress of one piece of work."""

    def __call__(self, done: float, total: float, note: str = "") -> None: ...


class ReaderGone(BrokenPipeError):
    """Nobody reads the results any more."""


class Output:
    """Everything one command writes, as text or, with `--json`, as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._told = False
        _take_any_name()

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """The only result of a command: with --json nothing follows it on stdout."""
        self._told = True
        _give(encode(data) if self.as_json else text)

    def row(self, data: Mapping[str, Any], text: str) -> None:
        """One of many results, as a line of JSON or text, flushed immediately."""
        _give(encode(data) if self.as_json else text)

    def note(self, text: str) -> None:
        """For the person at the terminal; never part of the result."""
        _tell(f"note: {printable(text)}")

    def say(self, text: str) -> None:
        """A step of longer work: on stdout, or on stderr with --json."""
        (_tell if self.as_json else _give)(text)

    def error(self, error: KilotuneError, code: int) -> None:
        if self.as_json and not self._told:
            body = {"code": str(error.code), "message": error.message, "hint": error.hint, "exit_code": code}
            _give(encode({"error": body}))
            return
        lines = [f"error: {printable(error.message)}"]
        if error.hint:
            lines.append(f"  what to do: {printable(error.hint)}")
        _tell("\n".join(lines))

    @contextmanager
    def progress(self, label: str) -> Iterator[Bar]:
        """A bar on stderr if that is a terminal; otherwise nothing."""
        if not sys.stderr.isatty():
            yield _silent
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(label, total=None, note="")

            def bar(done: float, total: float, note: str = "") -> None:
                progress.update(task, completed=done, total=total, note=printable(note))

            yield bar


def trace(error: BaseException) -> None:
    """Writes the traceback that a bug report needs to stderr."""
    import traceback

    _tell("".join(traceback.format_exception(error)).rstrip("\n"))


def _give(text: str) -> None:
    try:
        print(printable(text, keep="\n\t"), flush=True)
    except BrokenPipeError as error:
        raise ReaderGone from error


def _tell(text: str) -> None:
    """Writes to stderr. The work goes on even if nobody reads it."""
    try:
        print(printable(text, keep="\n\t"), file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Lets the interpreter end silently when nobody reads its remaining output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _take_any_name() -> None:
    """Writes file names that are not valid in the terminal's encoding as their raw bytes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")


def _silent(done: float, total: float, note: str = "") -> None:
    return None


def encode(data: Mapping[str, Any]) -> str:
    """JSON without NaN or infinities: they become null."""
    return json.dumps(plain(data), allow_nan=False)


def plain(value: Any) -> Any:
    """Dataclasses, enums, paths, bytes and numpy values as JSON types."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, Enum):
        return word_of(value)
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...] | None = None) -> str:
    """Columns of text; columns of numbers are aligned to the right."""
    rows = [tuple(printable(cell) for cell in row) for row in rows]
    every = [*([header] if header else []), *rows]
    if not every:
        return ""
    widths = [max(len(r[i]) for r in every) for i in range(len(every[0]))]
    right = [all(_numeric(r[i]) for r in rows) for i in range(len(widths))]
    lines = [
        "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()
        for row in every
    ]
    if header:
        lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def _numeric(text: str) -> bool:
    return text in ("", "-") or text[:1].isdigit() or (text[:1] in "-+" and text[1:2].isdigit())


def pairs(rows: list[tuple[str, object]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name.ljust(width)}  {printable(str(value))}" for name, value in rows)


def flattened(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """Nested mappings as rows, names joined by dots."""
    rows: list[tuple[str, object]] = []
    for name, value in data.items():
        if isinstance(value, Mapping):
            rows += flattened(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows
