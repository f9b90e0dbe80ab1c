"""Writes one file, or several together, so that a reader sees the old or the new content, never a mix."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from kilotune.errors import KilotuneError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes all or nothing, to a temporary file in the same folder that is renamed when it is on the disk. Creates the
    folder.

    A link stays a link: the file that it points to is replaced. Anything else than a file (a pipe, /dev/null) is
    written to directly, since a rename would replace it with a file. Raises KilotuneError `cannot_write`.
    """
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        replace(target, content, _mode(target))
    except OSError as error:
        raise _cannot_write(path, error) from error


def replace(target: Path, content: bytes, mode: int) -> None:
    """Puts a file with this mode at `target`, all or nothing, and replaces what is there; raises OSError.

    Only the owner can read it before it has its mode.
    """
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_private(folder: Path) -> None:
    """Creates a folder that only its owner can enter, or restricts an existing one to that; raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) & 0o077:
        folder.chmod(0o700)


# Lists the files of a folder that are being replaced together. As soon as it exists, the new files are valid, whether
# or not they have their final names yet.
_JOURNAL = ".kilotune-replacing"
_NEW = ".new"


def write_together(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Replaces files of one folder together: wherever it is interrupted, `current` finds all old or all new files.

    Creates the folder; other files in it stay. Raises KilotuneError `cannot_write`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _finish(folder)
        for name, content in contents.items():
            replace(folder / (name + _NEW), content, _mode(folder / name))
        _to_disk(folder)
        replace(folder / _JOURNAL, json.dumps(sorted(contents)).encode(), 0o600)
        _finish(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from error


def current(folder: Path, name: str) -> Path:
    """Where the file `name` of a folder written by `write_together` is now; changes nothing."""
    waiting = folder / (name + _NEW)
    return waiting if name in _journal(folder) and waiting.is_file() else folder / name


def _journal(folder: Path) -> list[str]:
    try:
        names = json.loads((folder / _JOURNAL).read_bytes())
    except (OSError, ValueError):
        return []
    return [n for n in names if isinstance(n, str) and n == Path(n).name] if isinstance(names, list) else []


def _finish(folder: Path) -> None:
    """Gives the new files their final names, also after an interrupted replacement."""
    for name in _journal(folder):
        if (folder / (name + _NEW)).is_file():
            (folder / (name + _NEW)).replace(folder / name)
    _to_disk(folder)
    (folder / _JOURNAL).unlink(missing_ok=True)


def _to_disk(folder: Path) -> None:
    """Makes renames in a folder survive a power cut, if the system supports that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError:  # some network folders cannot
        pass
    finally:
        os.close(handle)


def _mode(target: Path) -> int:
    """The mode of the file that is replaced, or of a new one."""
    if target.exists():
        return stat.S_IMODE(target.stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask


def require_writable(path: Path) -> None:
    """Raises KilotuneError `cannot_write` before long work rather than after it; creates a missing folder."""
    try:
        if path.exists() and not path.is_file():
            return
        folder = Path(os.path.realpath(path)).parent
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from error


def keep_apart(outputs: dict[str, Path | None], inputs: dict[str, Path | None]) -> None:
    """Raises KilotuneError `bad_argument` if an output would replace an input or another output; keys name them."""
    taken = {os.path.realpath(path): name for name, path in inputs.items() if path is not None}
    for name, path in outputs.items():
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in taken and (path.is_file() or not path.exists()):
            raise KilotuneError("bad_argument", f"{name} {path} would overwrite {taken[place]}", "give it another name")
        taken[place] = name


@contextmanager
def lock_file(path: Path, patience_s: float, busy: KilotuneError) -> Iterator[int]:
    """Holds the lock file `path`, created if missing; raises `busy` if others hold it for longer than `patience_s`.

    Gives its descriptor. A process that inherits it holds the lock until it ends, even if the command that started it
    is killed.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _take_lock(handle, patience_s):
            raise busy
        yield handle
    finally:
        os.close(handle)  # releases the lock, unless another process has inherited it


def _take_lock(handle: int, patience_s: float) -> bool:
    try:
        import fcntl
    except ImportError as error:  # Windows
        raise KilotuneError(
            "unavailable", "builds, emulators and flash files need Linux or macOS",
            "use a board on a port (-p COM3) here, or a Linux environment for the rest",
        ) from error  # fmt: skip
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
        time.sleep(0.05)


def _cannot_write(path: Path, error: OSError) -> KilotuneError:
    return KilotuneError(
        "cannot_write",
        f"cannot write {path}: {error.strerror}",
        "check its folder, your permissions there and the free disk space, or choose another path",
    )
