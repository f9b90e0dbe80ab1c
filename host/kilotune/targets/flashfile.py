"""The flash of a device that has no hardware: a file with a model partition and a checkpoint region."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kilotune.common.files import lock_file
from kilotune.errors import KilotuneError
from kilotune.targets import partition as partition_of
from kilotune.targets.boards import FlashLayout

ERASED = 0xFF
NAME = "flash.bin"  # in a target's folder
PATIENCE_S = 1.0
_PIECE = 1 << 20


@contextlib.contextmanager
def held(folder: Path, layout: FlashLayout, image: bytes | None = None) -> Iterator[tuple[Path, int]]:
    """The flash file in a target's folder, `locked` and then prepared; gives it and the lock's descriptor."""
    path = folder / NAME
    with locked(path) as lock:
        prepare(path, layout, image)
        yield path, lock


def prepare(path: Path, layout: FlashLayout, image: bytes | None = None) -> None:
    """Makes the file where it is missing; writes `image` into the model partition where the device does not run it.

    Nobody but its owner can read it: the key of a locked device lies in it. Checkpoints stay: the device itself
    ignores those of other images.
    KilotuneError `too_large`: the partition is smaller than the image; `bad_state`: there is something else than
    a flash file of this board, which stays as it is.
    """
    if image is not None:
        check_size(layout, image)
    try:
        if path.exists():
            _require_flash_of(path, layout)
        else:
            _make(path, layout)
        with path.open("r+b") as file, mmap.mmap(file.fileno(), layout.bytes) as memory:
            if image is not None:
                _write_model(memory, layout, image)
    except OSError as error:
        raise KilotuneError(
            "bad_state",
            f"cannot use the flash file {path}: {error.strerror}",
            "name another folder with --state",
        ) from error


def check_size(layout: FlashLayout, image: bytes) -> None:
    """KilotuneError `too_large`: the model partition is smaller than the image."""
    if len(image) > layout.model_bytes:
        raise KilotuneError(
            "too_large",
            f"the model image has {len(image):,} bytes, this board's model partition {layout.model_bytes:,}",
            "use a smaller model, or another board: `kilotune inspect` says which one fits",
        )


def model_in(content: bytes | mmap.mmap, layout: FlashLayout) -> bytes | None:
    """The model image that a device runs on a flash file's content; None: none is there."""
    partition = content[layout.model_offset : layout.model_offset + layout.model_bytes]
    return partition_of.model_in(partition, layout.model_sector_bytes)


def model_partition(content: bytes, layout: FlashLayout) -> bytes:
    """What is in the model partition, whatever it is, without the erased bytes at its end."""
    partition = content[layout.model_offset : layout.model_offset + layout.model_bytes]
    return partition.rstrip(bytes([ERASED]))


def write_region(path: Path, offset: int, content: bytes | bytearray) -> None:
    """Replaces a region of a flash file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@contextlib.contextmanager
def locked(path: Path, *, patience_s: float = PATIENCE_S) -> Iterator[int]:
    """Holds a flash file: two devices must not share one. KilotuneError `busy_target` where one does.

    Gives the lock's file descriptor: a process that inherits it holds the file until it has ended, even where
    the command that started it was killed. `patience_s`: how long a device that is just ending is waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    busy = KilotuneError(
        "busy_target",
        f"another command, or the emulator that it left behind, runs a device on the flash file {path}",
        f"wait for it, end it (`fuser {path}.lock` names it), or give this one a flash of its own with --state",
    )
    with lock_file(path.with_name(path.name + ".lock"), patience_s, busy) as handle:
        yield handle


def _require_flash_of(path: Path, layout: FlashLayout) -> None:
    """What was learned may be in it: it is never replaced, whatever is wrong with it."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise KilotuneError("bad_state", f"{path} is no file", "name another folder with --state")
    if about.st_size != layout.bytes:
        raise KilotuneError(
            "bad_state",
            f"the flash file {path} has {about.st_size:,} bytes, this board's flash {layout.bytes:,}: "
            "it was cut short, or belongs to another board",
            "restore it from a copy or name another folder with --state; move the file away to begin with blank "
            "flash, which loses what was learned",
        )
    if about.st_mode & 0o077:
        path.chmod(0o600)


def _make(path: Path, layout: FlashLayout) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        temporary.chmod(0o600)  # of a file that an earlier run left behind, too
        for start in range(0, layout.used_bytes, _PIECE):
            file.write(bytes([ERASED]) * min(_PIECE, layout.used_bytes - start))
        file.truncate(layout.bytes)  # the rest is memory that the firmware does not use
    temporary.replace(path)


def _write_model(memory: mmap.mmap, layout: FlashLayout, image: bytes) -> None:
    if model_in(memory, layout) == image:
        return  # by itself or as a record: then its former model stays too
    start = layout.model_offset
    memory[start : start + layout.model_bytes] = image + bytes([ERASED]) * (layout.model_bytes - len(image))
