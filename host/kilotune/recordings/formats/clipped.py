"""A file whose every reading ends where the file does: libraries allocate what a damaged header asks for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class ClippedFile(io.RawIOBase):
    """Reads at most what is left; has no descriptor, so that nothing reads past it."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file, self._size = file, size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self._size - self._file.tell())
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)


@contextmanager
def clipped(path: Path) -> Iterator[ClippedFile]:
    with path.open("rb") as file:
        yield ClippedFile(file, path.stat().st_size)
