"""Files packed with gzip: unpacked into a temporary file, within bounds."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kilotune.recordings.limits import require_unpackable, unreadable

_PIECE = 1 << 20


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The file that was packed, by its name without `.gz`, as long as the context lasts."""
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    size = path.stat().st_size
    with tempfile.TemporaryDirectory(prefix="kilotune-") as folder:
        inner = Path(folder) / (name or "unpacked")
        try:
            with gzip.open(path, "rb") as packed, inner.open("wb") as out:
                written = 0
                while piece := packed.read(_PIECE):
                    written += len(piece)
                    require_unpackable(size, written, path.name)
                    out.write(piece)
        except (EOFError, OSError, zlib.error) as error:
            raise unreadable(path.name, error) from None
        yield inner
