"""The process that reads a .mat file with SciPy and stores each of its arrays:  FILE FOLDER"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_DEEPEST = 12  # structures in structures
_MOST_LEAVES = 20_000
_MOST_BYTES = 6_000_000_000  # of address space


def main() -> None:
    from scipy.io import loadmat, whosmat

    from kilotune.recordings.limits import require_unpackable

    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    _limit_memory()
    for _, shape, _ in whosmat(path):
        count = math.prod(map(int, shape))
        require_unpackable(path.stat().st_size, 8 * count, path.name)
    loaded = loadmat(path, simplify_cells=True)
    names: list[str] = []
    for name, array in _leaves({k: v for k, v in loaded.items() if not k.startswith("__")}, "", 0):
        if len(names) >= _MOST_LEAVES:
            raise ValueError(f"it has more than {_MOST_LEAVES} arrays")
        np.save(folder / f"{len(names)}.npy", array, allow_pickle=False)
        names.append(name)
    (folder / "leaves.json").write_text(json.dumps(names), encoding="utf-8")


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    now = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = _MOST_BYTES if now == resource.RLIM_INFINITY else min(_MOST_BYTES, now)
    resource.setrlimit(resource.RLIMIT_AS, (limit, now))


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """(path, array) of all numbers and words; a bounded part of what is nested too deep or too often."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        for i, inner in enumerate(_items(value)):
            yield from _leaves(*_item(inner, path, i), depth + 1)
    else:
        array = np.asarray(value)
        if array.dtype.kind in "iufb" or (array.dtype.kind == "U" and array.size == 1):
            yield path, array


def _items(value: Any) -> list[Any]:
    return list(value.ravel()[:_MOST_LEAVES]) if isinstance(value, np.ndarray) else list(value)[:_MOST_LEAVES]


def _item(inner: Any, path: str, index: int) -> tuple[Any, str]:
    """(value, path) of one of several structures: those with a `Name` go by it, and their `Data` is what counts."""
    if isinstance(inner, Mapping):
        name = inner.get("Name", inner.get("name"))
        label = name if isinstance(name, str) and name else str(index)
        data = inner.get("Data", inner.get("data"))
        return (data, f"{path}.{label}") if data is not None else (inner, f"{path}.{label}")
    return inner, f"{path}.{index}"


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # of the library: whatever a damaged file makes of it
        print(str(error).strip() or type(error).__name__, file=sys.stderr)
        sys.exit(1)
