"""NumPy's .npy and .npz. Sizes are checked against the file before an array is made; nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.leaves import Leaf, stored, table_of
from kilotune.recordings.limits import require_modest, require_unpackable, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Column, Table

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_STRETCHES = "stretches"  # of recordings that `kilotune record` wrote


def load_npy(path: Path, options: ReadOptions) -> Table:
    import numpy as np

    name = path.name
    try:
        with path.open("rb") as file:
            shape, _, dtype = _header(file)
            _require_numbers(dtype, name)
            _require_whole(shape, dtype, path.stat().st_size - file.tell(), name)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(name, error) from None
    if dtype.names:
        return table_of(_fields("", array), options, name)
    if array.ndim not in (1, 2):
        raise KilotuneError(
            "bad_file",
            f"{name}: the array has shape {array.shape}, not (samples,) or (samples, axes)",
            "reshape it: one row per sample, one column per axis",
        )
    if array.size == 0:
        raise KilotuneError("empty", f"{name} holds no samples", "check that the recording is complete")
    matrix = array[:, None] if array.ndim == 1 else array
    if matrix.shape[1] > matrix.shape[0]:
        raise KilotuneError(
            "bad_file",
            f"{name}: the array has {matrix.shape[0]} rows and {matrix.shape[1]} columns",
            "transpose it: one row per sample, one column per axis",
        )
    return Table(name, tuple(Column(str(i), matrix[:, i], named=False) for i in range(matrix.shape[1])))


def load_npz(path: Path, options: ReadOptions) -> Table:
    name = path.name
    try:
        with zipfile.ZipFile(path) as archive:
            leaves = [leaf for member in archive.infolist() for leaf in _member(path, archive, member, name)]
            stretches = _stretches(leaves)
            table = table_of([leaf for leaf in leaves if leaf.path != _STRETCHES or not stretches], options, name)
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(name, error) from None
    return _with_stretches(table, stretches)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, in Fortran's order, dtype)"""
    npy = _npy()
    version = npy.read_magic(file)
    if version == (1, 0):
        found = npy.read_array_header_1_0(file)
    elif version == (2, 0):
        found = npy.read_array_header_2_0(file)
    else:
        raise ValueError(f"version {version} of the format is not read")
    return found  # type: ignore[no-any-return]


def _npy() -> Any:
    """NumPy's own reading of the format, which has no types."""
    from numpy.lib import format as npy

    return npy


def _require_numbers(dtype: np.dtype[Any], name: str) -> None:
    if dtype.hasobject:
        raise KilotuneError("bad_file", f"{name} holds Python objects", "store plain numbers in it")
    if dtype.kind not in "iufb" and not dtype.names:
        raise KilotuneError("bad_file", f"{name} holds {dtype}, not real numbers", "store plain numbers in it")


def _require_whole(shape: tuple[int, ...], dtype: np.dtype[Any], stored_bytes: int, name: str) -> None:
    """That the header claims no more than there is."""
    count = math.prod(shape)
    if count < 0 or count * dtype.itemsize > stored_bytes:
        raise KilotuneError(
            "bad_file",
            f"{name} claims {count:,} numbers but holds {stored_bytes:,} bytes of them",
            "it is damaged or cut off",
        )
    require_modest(count, name)


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> list[Leaf]:
    """What one member of an .npz holds; nothing where it is neither an array of numbers nor a word."""
    if not member.filename.endswith(".npy"):
        return []
    key = member.filename.removesuffix(".npy")
    with archive.open(member) as file:
        shape, _, dtype = _header(file)
        stored = member.file_size - file.tell()
    word = dtype.kind in "US" and shape in ((), (1,))
    if dtype.hasobject or (dtype.kind not in "iufb" and not dtype.names and not word):
        return []
    _require_whole(shape, dtype, stored, f"{name}, array {key}")

    def load() -> npt.NDArray[Any]:
        import numpy as np

        require_unpackable(member.compress_size, member.file_size, f"{name}, array {key}")
        with zipfile.ZipFile(path) as again, again.open(member) as file:
            return np.asarray(_npy().read_array(file, allow_pickle=False))

    if dtype.names:
        return _fields(key, load())
    return [Leaf(key, shape, dtype, load)]


def _fields(key: str, array: npt.NDArray[Any]) -> list[Leaf]:
    """Of an array of records: one signal a field."""

    def leaf(field: str) -> Leaf:
        values = array[field]
        return stored(f"{key}.{field}" if key else field, values)

    return [leaf(field) for field in array.dtype.names or () if array[field].dtype.kind in "iufb"]


def _stretches(leaves: list[Leaf]) -> tuple[int, ...]:
    found = next((leaf for leaf in leaves if leaf.path == _STRETCHES and leaf.dtype.kind in "iu"), None)
    if found is None or len(found.shape) != 1:
        return ()
    return tuple(int(i) for i in found.load())


def _with_stretches(table: Table, stretches: tuple[int, ...]) -> Table:
    """A recording of `kilotune record`: it says itself where its gaps are, and its time column when."""
    from dataclasses import replace

    if not stretches:
        return table
    rising = all(a < b for a, b in pairwise(stretches))
    if stretches[0] != 0 or not rising or stretches[-1] >= table.rows:
        raise KilotuneError(
            "bad_file",
            f"{table.name}: its stretches do not match its samples",
            "record it again, or remove the stretches",
        )
    time = next((c for c in table.columns if c.name.startswith("time")), None)
    times = tuple(float(time.values[i] - time.values[0]) for i in stretches) if time is not None else ()
    columns = tuple(c if c is time else replace(c, unit="g", unit_from="kilotune record") for c in table.columns)
    return replace(table, columns=columns, starts=stretches, times_s=times)
