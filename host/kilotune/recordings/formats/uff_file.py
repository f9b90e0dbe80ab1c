"""Universal files (UFF, UNV): data sets of type 58, one response each."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.leaves import Leaf, stored, table_of
from kilotune.recordings.formats.packages import optional
from kilotune.recordings.limits import MAX_UNPACKED_BYTES, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Table

_TIME_RESPONSE = 1  # function type
_SI_ACCELERATION = 12  # type of the ordinate's data
_DIRECTIONS = {1: "x", 2: "y", 3: "z", -1: "x", -2: "y", -3: "z"}
_MOST_SETS = 4096


def load(path: Path, options: ReadOptions) -> Table:
    pyuff = optional("pyuff", "pyuff", path.name)
    if path.stat().st_size > MAX_UNPACKED_BYTES // 4:
        raise KilotuneError("too_large", f"{path.name} is too large to be read as a whole", "export fewer channels")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = pyuff.UFF(str(path))
            kinds = [int(k) for k in file.get_set_types()]
            numbers = [i for i, kind in enumerate(kinds) if kind == 58][:_MOST_SETS]
            sets = [file.read_sets(i) for i in numbers]
        leaves = [leaf for k, one in enumerate(sets) if (leaf := _leaf(one, k)) is not None]
        if not leaves:
            told = ", ".join(str(k) for k in dict.fromkeys(kinds)) or "none"
            raise KilotuneError(
                "bad_file", f"{path.name} has no time response of type 58; its sets are of type {told}", "export one"
            )
        return table_of(leaves, options, path.name)
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(path.name, error) from None


def _leaf(one: dict[str, Any], index: int) -> Leaf | None:
    import numpy as np

    data = np.asarray(one.get("data"))
    if int(one.get("func_type", 0)) not in (0, _TIME_RESPONSE) or data.dtype.kind not in "if" or data.ndim != 1:
        return None
    step = float(one.get("abscissa_inc", 0.0) or 0.0)
    times = np.asarray(one.get("x", ()), np.float64)
    if int(one.get("abscissa_spacing", 1)) == 0 and times.size > 2:
        step = float(np.median(np.diff(times)))
    rate_hz = 1.0 / step if step > 0 else None
    if rate_hz is not None and round(rate_hz) and abs(rate_hz - round(rate_hz)) < 1e-4 * rate_hz:
        rate_hz = float(round(rate_hz))  # steps have 5 digits in the file
    direction = _DIRECTIONS.get(int(one.get("rsp_dir", 0) or 0), "")
    node = int(one.get("rsp_node", 0) or 0)
    name = f"node{node}.{direction or index}"
    unit = str(one.get("ordinate_axis_units_lab", "") or "").strip()
    unit = "" if unit.upper() in ("NONE", "") else unit
    if not unit and int(one.get("ordinate_spec_data_type", 0) or 0) == _SI_ACCELERATION:
        unit = "m/s^2"
    return stored(name, data, unit, rate_hz)
