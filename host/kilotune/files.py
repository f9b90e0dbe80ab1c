"""Writes files so that a reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from kilotune.errors import KilotuneError


def write_atomically(path: Path, content: bytes) -> None:
    """All or nothing: a temporary file in the same folder, renamed when it is on the disk."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        except BaseException:
            temporary.unlink()
            raise
    except OSError as error:
        raise KilotuneError(
            "cannot_write",
            f"cannot write {path}: {error.strerror}",
            "check that the folder exists and has room",
        ) from error
