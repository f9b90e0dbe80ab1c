"""Arrays on disk: NumPy .npy and .npz, and MATLAB .mat; scalars beside the arrays give the rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.table import ReadOptions, Table, pick_columns, require_modest, scalar_rate
from kilotune.recordings.text_file import TIME_COLUMNS, rate_of_times

if TYPE_CHECKING:
    import numpy.typing as npt

_SHORTEST = 16  # an array with fewer rows is a constant, not a signal: the shortest window of a model


def load_npy(path: Path, options: ReadOptions) -> Table:
    from zipfile import BadZipFile

    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, BadZipFile) as error:
        raise _unreadable(path, error) from None
    if not isinstance(array, np.ndarray):
        raise KilotuneError("bad_file", f"{path.name} is an .npz file by another name", "rename it")
    columns = _columns("", array, path.name)
    chosen = pick_columns(tuple(columns), options.columns, path.name) if options.columns else list(range(len(columns)))
    matrix = array[:, None] if array.ndim == 1 else array
    require_modest(matrix.shape[0] * len(chosen), path.name)
    names = tuple(columns)
    return Table(np.ascontiguousarray(matrix[:, chosen]), tuple(names[i] for i in chosen))


def load_npz(path: Path, options: ReadOptions) -> Table:
    import zipfile
    import zlib

    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, npt.NDArray[Any]] = {}
            for key in archive.files:
                try:
                    arrays[key] = archive[key]
                except ValueError:  # an object array: never unpickled
                    continue
    except (ValueError, EOFError, OSError, MemoryError, zlib.error, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from None
    return _from_arrays(arrays, options, path.name)


def load_mat(path: Path, options: ReadOptions) -> Table:
    import zlib

    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        loaded = loadmat(path)
    except NotImplementedError:
        raise KilotuneError(
            "bad_file",
            f"{path.name} is a MATLAB 7.3 file, which is not read here",
            "store it again in MATLAB with: save('name.mat', '-v7')",
        ) from None
    except (MatReadError, LookupError, ValueError, TypeError, EOFError, OSError, MemoryError, zlib.error) as error:
        raise _unreadable(path, error) from None
    return _from_arrays({k: v for k, v in loaded.items() if not k.startswith("__")}, options, path.name)


def _from_arrays(arrays: dict[str, npt.NDArray[Any]], options: ReadOptions, name: str) -> Table:
    import numpy as np

    signals: dict[str, npt.NDArray[Any]] = {}
    constants: dict[str, npt.NDArray[Any]] = {}
    clock: tuple[str, npt.NDArray[Any]] | None = None
    for key, array in arrays.items():
        if array.dtype.kind not in "iuf":
            continue
        lying = array.ndim == 2 and array.shape[0] in (1, 2, 3, 4) and array.shape[1] >= _SHORTEST
        column = array.T if lying else array
        if key.lower() in TIME_COLUMNS and column.ndim == 1 and column.shape[0] >= _SHORTEST:
            clock = key, column
        elif column.ndim in (1, 2) and column.shape[0] >= _SHORTEST:
            signals[key] = column[:, None] if column.ndim == 1 else column
        elif array.size <= _SHORTEST:
            constants[key] = np.ravel(array)
        elif array.ndim > 2:
            signals[key] = array
    names, owner = _directory(signals, name)
    if options.columns:
        chosen = pick_columns(names, options.columns, name)
    else:
        longest = max((signals[k].shape[0] for k in signals), default=0)
        long = [k for k in signals if signals[k].shape[0] == longest]
        if len(long) != 1:
            found = ", ".join(f"{k} {signals[k].shape}" for k in signals) or "none"
            raise KilotuneError(
                "no_column", f"{name}: which array is the signal? It has {found}", "choose with --columns"
            )
        chosen = [i for i, (key, _) in enumerate(owner) if key == long[0]]
    lengths = {signals[owner[i][0]].shape[0] for i in chosen}
    if len(lengths) != 1:
        raise KilotuneError(
            "bad_file",
            f"{name}: the chosen columns have {sorted(lengths)} rows",
            "choose columns of one length",
        )
    require_modest(lengths.pop() * len(chosen), name)
    values = np.column_stack([signals[owner[i][0]][:, owner[i][1]] for i in chosen])
    rate_hz, rate_from = scalar_rate(constants)
    if clock is not None and options.rate_hz is None:
        rate = rate_of_times(clock[1], TIME_COLUMNS[clock[0].lower()], clock[0], name, 0)
        rate_hz, rate_from = (rate, clock[0]) if rate_hz is None else (rate_hz, rate_from)
    return Table(values, tuple(names[i] for i in chosen), rate_hz, rate_from, constants)


def _directory(signals: dict[str, npt.NDArray[Any]], name: str) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    """Names of all columns and, for each, its array and index in it."""
    names: list[str] = []
    owner: list[tuple[str, int]] = []
    for key, array in signals.items():
        columns = _columns(key, array, name)
        names += columns
        owner += [(key, i) for i in range(len(columns))]
    return tuple(names), owner


def _columns(key: str, array: npt.NDArray[Any], name: str) -> list[str]:
    if array.ndim not in (1, 2):
        raise KilotuneError(
            "bad_file",
            f"{name}: {key or 'the array'} has shape {array.shape}, not (samples,) or (samples, axes)",
            "reshape it: one row a sample, one column an axis",
        )
    if array.size == 0:
        raise KilotuneError("empty", f"{name} holds no samples", "check that the recording is complete")
    if array.ndim == 1 or (array.shape[1] == 1 and key):
        return [key or "0"]
    if array.shape[1] > array.shape[0]:
        raise KilotuneError(
            "bad_file",
            f"{name}: {key or 'the array'} has {array.shape[0]} rows and {array.shape[1]} columns",
            "transpose it: one row a sample, one column an axis",
        )
    return [f"{key}:{i}" if key else str(i) for i in range(array.shape[1])]


def _unreadable(path: Path, error: Exception) -> KilotuneError:
    told = str(error).lower()
    what = "holds Python objects" if "pickle" in told or "python objects" in told else "could not be read"
    hint = "store plain numbers in it" if "holds" in what else "it is damaged, cut off, or of another format"
    return KilotuneError("bad_file", f"{path.name} {what}", hint)
