"""MATLAB's .mat up to version 7: arrays and structures, which may be nested; 7.3 is HDF5 by another name.

SciPy reads them, in a process of its own: a damaged file can crash it.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.leaves import Leaf, stored, table_of
from kilotune.recordings.limits import MAX_UNPACKED_BYTES, require_unpackable, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Table

_COMPRESSED = 15
_PATIENCE_S = 120.0


def load(path: Path, options: ReadOptions) -> Table:
    _require_modest_elements(path)
    # Windows keeps files that are still mapped.
    with tempfile.TemporaryDirectory(prefix="kilotune-", ignore_cleanup_errors=True) as folder:
        _convert(path, Path(folder))
        return table_of(_leaves(Path(folder)), options, path.name)


def _convert(path: Path, folder: Path) -> None:
    """Has every array of the file stored in the folder, by a process that may crash."""
    command = [sys.executable, "-m", "kilotune.recordings.formats.matlab_child", str(path.absolute()), str(folder)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE_S, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise KilotuneError(
            "bad_file", f"{path.name} could not be read within {_PATIENCE_S:g} s", "store it again, without compression"
        ) from None
    except OSError as error:
        raise unreadable(path.name, error) from None
    if done.returncode != 0:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        crashed = done.returncode < 0 or not told
        raise unreadable(path.name, ValueError("its parts do not go together" if crashed else told[-1]))


def _leaves(folder: Path) -> list[Leaf]:
    import numpy as np

    listed = json.loads((folder / "leaves.json").read_text(encoding="utf-8"))
    out = []
    for number, path in enumerate(listed):
        array = np.load(folder / f"{number}.npy", mmap_mode="r", allow_pickle=False)
        out.append(stored(path, array))
    return out


def _require_modest_elements(path: Path) -> None:
    """What the compressed elements of a file would become, by their own first bytes, before any is unpacked."""
    size = path.stat().st_size
    unpacked = 0
    with path.open("rb") as file:
        header = file.read(128)
        if len(header) < 128 or header[126:128] not in (b"IM", b"MI"):
            return  # version 4: nothing is compressed
        order = "<" if header[126:128] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, length = struct.unpack(order + "II", tag)
            if length > size:
                raise KilotuneError("bad_file", f"{path.name} is damaged or cut off", "transfer it again")
            at = file.tell()
            if kind == _COMPRESSED:
                try:
                    first = zlib.decompressobj().decompress(file.read(min(length, 4096)), 8)
                except zlib.error as error:
                    raise unreadable(path.name, error) from None
                claimed = struct.unpack(order + "II", first)[1] if len(first) == 8 else 0
                unpacked += claimed
                # Doubles may be stored as bytes: eight times as much is made of them.
                require_unpackable(length, min(8 * claimed, max(claimed, MAX_UNPACKED_BYTES)), path.name)
            file.seek(at + length)
    require_unpackable(size, unpacked, path.name)
