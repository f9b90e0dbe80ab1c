"""Arrays of ready model inputs and labels from .npy files, checked before a device sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def load_array(path: Path) -> npt.NDArray[Any]:
    """Any array of numbers from a .npy file."""
    from zipfile import BadZipFile

    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError, BadZipFile) as error:
        raise KilotuneError("bad_file", f"{path} is not a .npy array: {error}", "write it with numpy.save") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
        raise KilotuneError("bad_file", f"{path} does not hold one array of numbers", "write it with numpy.save")
    return array


def load_inputs(path: Path, row_bytes: int | None = None) -> npt.NDArray[np.int8]:
    """(n, inputs) int8, one row per sample; other shapes are flattened, other types refused."""
    import numpy as np

    array = load_array(path)
    if array.dtype != np.int8:
        raise KilotuneError(
            "bad_samples",
            f"{path} holds {array.dtype}, not int8",
            "quantise the inputs with the scale and zero point of the model's input",
        )
    if array.ndim == 0 or array.size == 0:
        raise KilotuneError("empty", f"{path} holds no samples", "give one row per sample")
    rows = array[None, :] if array.ndim == 1 and array.size == row_bytes else array.reshape(array.shape[0], -1)
    if row_bytes is not None and rows.shape[1] != row_bytes:
        raise KilotuneError(
            "bad_samples",
            f"{path} has {rows.shape[1]} values per sample, but the model takes {row_bytes}",
            "give the inputs of this model",
        )
    return np.ascontiguousarray(rows)


def load_calibration(path: Path, row_bytes: int, scale: float, zero_point: int) -> npt.NDArray[np.int8]:
    """(n, inputs) model inputs: int8, or floats in the units of the model's input."""
    import numpy as np

    array = load_array(path)
    if array.dtype == np.int8:
        return load_inputs(path, row_bytes)
    if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all() or array.size == 0:
        raise KilotuneError(
            "bad_samples",
            f"{path} holds {array.dtype}, or numbers that are not finite, or nothing",
            "give int8 model inputs, or floats in the units of the model's input, one row per sample",
        )
    rows = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    if rows.shape[1] != row_bytes:
        raise KilotuneError(
            "bad_samples",
            f"{path} has {rows.shape[1]} values per sample, but the model takes {row_bytes}",
            "give the inputs of this model",
        )
    quantised: npt.NDArray[np.int8] = np.clip(np.rint(rows / scale) + zero_point, -128, 127).astype(np.int8)
    return quantised


def load_labels(path: Path, rows: int) -> npt.NDArray[np.uint16]:
    """(n,) class numbers, one per sample."""
    import numpy as np

    array = load_array(path)
    labels = array.reshape(-1)
    if labels.size != rows:
        raise KilotuneError(
            "bad_samples", f"{path} has {labels.size} labels for {rows} samples", "give one label per sample"
        )
    whole = labels.astype(np.int64)
    if not np.array_equal(whole, labels) or whole.min(initial=0) < 0 or whole.max(initial=0) > 65535:
        raise KilotuneError("bad_samples", f"{path} holds labels that are not class numbers", "use 0, 1, 2, ...")
    return whole.astype(np.uint16)


def load_targets(path: Path, rows: int, outputs: int, scale: float, zero_point: int) -> npt.NDArray[np.int8]:
    """(n, outputs) targets for regression: int8 with the quantisation of the model's output, or floats in its units."""
    import numpy as np

    array = load_array(path)
    if array.size != rows * outputs:
        raise KilotuneError(
            "bad_samples",
            f"{path} has {array.size} targets; {rows} samples of a model with {outputs} outputs need {rows * outputs}",
            "give one row of targets per sample",
        )
    targets = array.reshape(rows, outputs)
    if targets.dtype == np.int8:
        return np.ascontiguousarray(targets)
    if not np.issubdtype(targets.dtype, np.floating) or not np.isfinite(targets).all():
        raise KilotuneError(
            "bad_samples",
            f"{path} holds {targets.dtype}, or numbers that are not finite",
            "give int8 in the model's output quantisation, or floats in the units of its output",
        )
    quantised: npt.NDArray[np.int8] = np.clip(np.rint(targets / scale) + zero_point, -128, 127).astype(np.int8)
    return quantised


def save_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Writes `array` to exactly `path` (numpy.save alone would append .npy), completely or not at all."""
    import io

    import numpy as np

    from kilotune.common.files import write_atomically

    content = io.BytesIO()
    np.save(content, array, allow_pickle=False)
    write_atomically(path, content.getvalue())
