"""Paths for a program whose scripts take no blanks, quotes or semicolons in one: links of plain names."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from kilotune.errors import KilotuneError

_PLAIN = re.compile(r"[A-Za-z0-9_./+=@%:-]+")
_FOLDERS = (None, "/tmp", "/var/tmp")  # where the links may be; None: as the environment has it


def is_plain(path: Path) -> bool:
    return _PLAIN.fullmatch(str(path)) is not None


class PlainPaths:
    """Use it with `with`: the links go at its end, what they lead to stays."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._count = 0

    def of(self, path: Path) -> Path:
        """The path, or a link to it where it is not plain."""
        absolute = path.absolute()
        if is_plain(absolute):
            return absolute
        if self._folder is None:
            self._folder = _plain_folder()
        self._count += 1
        link = self._folder / f"{self._count}{path.suffix if is_plain(Path(path.suffix or '.')) else ''}"
        link.symlink_to(absolute)
        return link

    def __enter__(self) -> PlainPaths:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _plain_folder() -> Path:
    for base in _FOLDERS:
        if not is_plain(Path(base or tempfile.gettempdir())):
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="kilotune-", dir=base))
        except OSError:
            continue
    raise KilotuneError(
        "bad_state", "there is no folder for temporary files whose name has plain characters alone",
        "set TMPDIR to one, or choose a plain folder with --state",
    )  # fmt: skip
