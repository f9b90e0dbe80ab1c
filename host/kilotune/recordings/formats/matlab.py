"""MATLAB's .mat up to version 7: arrays and structures, which may be nested; 7.3 is HDF5 by another name."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.leaves import Leaf, table_of
from kilotune.recordings.limits import MAX_UNPACKED_BYTES, require_unpackable, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Table

if TYPE_CHECKING:
    import numpy.typing as npt

_COMPRESSED = 15
_DEEPEST = 12  # structures in structures
_MOST_LEAVES = 20_000


def load(path: Path, options: ReadOptions) -> Table:
    from scipy.io import loadmat, whosmat

    name = path.name
    _require_modest_elements(path)
    try:
        for _, shape, _ in whosmat(path):
            count = 1
            for n in shape:
                count *= int(n)
            require_unpackable(path.stat().st_size, 8 * count, name)
        loaded = loadmat(path, simplify_cells=True)
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(name, error) from None
    leaves = list(_leaves({k: v for k, v in loaded.items() if not k.startswith("__")}, "", 0))
    return table_of(leaves, options, name)


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


def _leaves(value: Any, path: str, depth: int) -> Iterator[Leaf]:
    import numpy as np

    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        for i, inner in enumerate(list(np.ravel(np.asarray(value, object)))[:_MOST_LEAVES]):
            yield from _leaves(*_item(inner, path, i), depth + 1)
    else:
        array: npt.NDArray[Any] = np.asarray(value)
        if array.dtype.kind in "iufb":
            yield Leaf(path, array.shape, array.dtype, lambda: array)


def _item(inner: Any, path: str, index: int) -> tuple[Any, str]:
    """(value, path) of one of several structures: those with a `Name` go by it, and their `Data` is what counts."""
    if isinstance(inner, Mapping):
        name = inner.get("Name", inner.get("name"))
        label = name if isinstance(name, str) and name else str(index)
        data = inner.get("Data", inner.get("data"))
        return (data, f"{path}.{label}") if data is not None else (inner, f"{path}.{label}")
    return inner, f"{path}.{index}"
