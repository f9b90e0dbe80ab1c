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
NAME = "flash.bin"  # in the folder of a target
PATIENCE_S = 1.0
_PIECE = 1 << 20


@contextlib.contextmanager
def held(folder: Path, layout: FlashLayout, image: bytes | None = None) -> Iterator[tuple[Path, int]]:
    """The flash file in the folder of a target, `locked` and then prepared; gives it and the lock's descriptor."""
    path = folder / NAME
    with locked(path) as lock:
        prepare(path, layout, image)
        yield path, lock


def prepare(path: Path, layout: FlashLayout, image: bytes | None = None) -> None:
    """Creates the file if it is missing; writes `image` to the model partition if the device does not run it yet.

    Only its owner can read the file, as it holds the key of a locked device. Checkpoints stay; the device
    itself ignores those of other images.
    Raises KilotuneError `too_large`: the image does not fit the partition; `bad_state`: the file is not a flash file of
    this board, and is left unchanged.
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
    """Raises KilotuneError `too_large` if the image does not fit the model partition."""
    if len(image) > layout.model_bytes:
        raise KilotuneError(
            "too_large",
            f"the model image has {len(image):,} bytes, but this board's model partition only {layout.model_bytes:,}",
            "use a smaller model, or another board: `kilotune inspect` says which ones fit",
        )


def model_in(content: bytes | mmap.mmap, layout: FlashLayout) -> bytes | None:
    """The model image that a device with this flash content runs; None if there is none."""
    partition = content[layout.model_offset : layout.model_offset + layout.model_bytes]
    return partition_of.model_in(partition, layout.model_sector_bytes)


def model_partition(content: bytes, layout: FlashLayout) -> bytes:
    """The content of the model partition, whatever it is, without the erased bytes at its end."""
    partition = content[layout.model_offset : layout.model_offset + layout.model_bytes]
    return partition.rstrip(bytes([ERASED]))


def write_region(path: Path, offset: int, content: bytes | bytearray) -> None:
    """Replaces a region of a flash file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


@contextlib.contextmanager
def locked(path: Path, *, patience_s: float = PATIENCE_S) -> Iterator[int]:
    """Locks a flash file, as two devices must not share one; raises KilotuneError `busy_target` if it is in use.

    Gives the lock's file descriptor. A process that inherits it holds the lock until it ends, even if the command that
    started it is killed. `patience_s`: how long to wait for a device that is just ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    busy = KilotuneError(
        "busy_target",
        f"another command, or an emulator that one left behind, runs a device on the flash file {path}",
        f"wait for it, end it (`fuser {path}.lock` shows its process id), or use another folder with --state",
    )
    with lock_file(path.with_name(path.name + ".lock"), patience_s, busy) as handle:
        yield handle


def _require_flash_of(path: Path, layout: FlashLayout) -> None:
    """Refuses anything else than a flash file of this board. It is never replaced, as it may hold what was learned."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise KilotuneError("bad_state", f"{path} is not a file", "name another folder with --state")
    if about.st_size != layout.bytes:
        raise KilotuneError(
            "bad_state",
            f"the flash file {path} has {about.st_size:,} bytes, but this board's flash {layout.bytes:,}: "
            "it was cut short, or belongs to another board",
            "restore it from a copy, or name another folder with --state; move the file away to start with empty "
            "flash, which loses what was learned",
        )
    if about.st_mode & 0o077:
        path.chmod(0o600)


def _make(path: Path, layout: FlashLayout) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        temporary.chmod(0o600)  # also if an earlier run left the file behind
        for start in range(0, layout.used_bytes, _PIECE):
            file.write(bytes([ERASED]) * min(_PIECE, layout.used_bytes - start))
        file.truncate(layout.bytes)  # the rest is memory that the firmware does not use
    temporary.replace(path)


def _write_model(memory: mmap.mmap, layout: FlashLayout, image: bytes) -> None:
    if model_in(memory, layout) == image:
        return  # at the start or as a record; in that case the former model stays too
    start = layout.model_offset
    memory[start : start + layout.model_bytes] = image + bytes([ERASED]) * (layout.model_bytes - len(image))
