"""HDF5, and MATLAB 7.3, which is HDF5 with its arrays on their sides."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.leaves import UNIT_NAMES, Leaf, stored, table_of
from kilotune.recordings.formats.packages import optional
from kilotune.recordings.limits import require_modest, require_unpackable, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import RATE_NAMES, Table

_MOST_OBJECTS = 20_000
_LONGEST_WORD = 64
_UNIT_NAMES = ("unit", "units", "Unit", "Units", "unit_string", "UNIT", "UNITS")


def load(path: Path, options: ReadOptions) -> Table:
    h5py = optional("h5py", "h5py", path.name)
    try:
        with h5py.File(path, "r") as file:
            leaves = _leaves(h5py, file, path)
            return table_of(leaves, options, path.name)
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(path.name, error) from None


def _leaves(h5py: Any, file: Any, path: Path) -> list[Leaf]:
    """Datasets, and numbers among the attributes. Links to other files are not followed."""
    out: list[Leaf] = []
    objects = 0

    def visit(name: str, item: Any) -> None:
        nonlocal objects
        objects += 1
        if objects > _MOST_OBJECTS:
            raise KilotuneError("too_large", f"{path.name} has more than {_MOST_OBJECTS:,} parts", "split the file")
        if name.startswith("#"):  # MATLAB's own book-keeping
            return
        out.extend(_attributes(name.replace("/", "."), item))
        if isinstance(item, h5py.Dataset) and item.shape is not None and item.external is None:
            out.extend(_dataset(name.replace("/", "."), item, path))

    out.extend(_attributes("", file))
    file.visititems(visit)
    return out


def _dataset(name: str, item: Any, path: Path) -> list[Leaf]:
    import numpy as np

    dtype = np.dtype(item.dtype)
    shape = tuple(int(n) for n in item.shape)
    matlab = "MATLAB_class" in item.attrs
    unit = next((_text(item.attrs[n]) for n in _UNIT_NAMES if n in item.attrs), "")
    if name.rpartition(".")[2].lower() in UNIT_NAMES:
        return _word(name, item, shape)
    if dtype.kind not in "iuf" and not dtype.names:
        return []

    def load() -> Any:
        count = math.prod(shape)
        require_modest(count, path.name)
        require_unpackable(path.stat().st_size, count * dtype.itemsize, path.name)
        return np.asarray(item[()])

    if dtype.names:
        whole = load()
        fields = [n for n in dtype.names if whole[n].dtype.kind in "iuf"]
        return [stored(f"{name}.{n}", whole[n], unit) for n in fields]
    sideways = matlab and len(shape) == 2 and shape[0] < shape[1]
    return [Leaf(name, shape, dtype, load, unit, _own_rate(item), sideways)]


def _word(name: str, item: Any, shape: tuple[int, ...]) -> list[Leaf]:
    """Text, of MATLAB its characters' numbers."""
    import numpy as np

    count = math.prod(shape)
    if not 0 < count <= _LONGEST_WORD:
        return []
    value = np.ravel(np.asarray(item[()]))
    if value.dtype.kind in "iu":
        text = "".join(chr(int(v)) for v in value if 0 < v < 0x10000)
    else:
        text = _text(value[0]) if isinstance(value[0], (bytes, str)) else ""
    word = np.array(text[:_LONGEST_WORD])
    return [stored(name, word)]


def _own_rate(item: Any) -> float | None:
    """A rate that a dataset states of itself."""
    for key, value in item.attrs.items():
        if str(key).lower() in RATE_NAMES and getattr(value, "size", 1) == 1:
            try:
                rate = float(value)
            except (TypeError, ValueError):
                continue
            return rate if rate > 0 else None
    return None


def _attributes(name: str, item: Any) -> list[Leaf]:
    import numpy as np

    out = []
    for key in list(item.attrs)[:100]:
        try:
            value = np.asarray(item.attrs[key])
        except (OSError, TypeError, ValueError):
            continue
        if value.dtype.kind in "iuf" and value.size == 1:
            out.append(stored(f"{name}.{key}" if name else str(key), value))
    return out


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if getattr(value, "size", 1) == 1 and hasattr(value, "ravel"):
        return _text(value.ravel()[0])
    return str(value)
