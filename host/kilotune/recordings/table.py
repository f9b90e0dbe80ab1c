"""What every file format comes down to: named columns of numbers, and how they become samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.recording import Recording, require_finite

if TYPE_CHECKING:
    import numpy.typing as npt

UNITS = ("g", "ms2", "counts", "volts")
STANDARD_GRAVITY = 9.80665  # m/s^2 in one g
MAX_VALUES = 200_000_000  # a file with more numbers than this is read in parts
RATE_NAMES = ("fs", "rate", "rate_hz", "sample_rate", "samplerate", "sampling_rate", "fs_hz", "sr")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file; empty and None leave it to what the file says of itself."""

    columns: tuple[str, ...] = ()  # names or indexes (from 0), in the order of the model's axes
    rate_hz: float | None = None
    unit: str | None = None  # one of UNITS, of (raw * scale - offset)
    scale: tuple[str, ...] = ()  # one for all columns or one a column; a number or the name of a value in the file
    offset: tuple[str, ...] = ()
    sensitivity_v_per_g: float | None = None  # for unit "volts"
    start_s: float = 0.0
    seconds: float | None = None
    upsample: bool = False  # let a rate below the model's be raised, though nothing fills the upper bands


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one file: `values` is (n, columns) of any real dtype."""

    values: npt.NDArray[Any]
    columns: tuple[str, ...]
    rate_hz: float | None = None
    rate_from: str = ""
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    first_row: int = 1  # the number of the first row as an editor shows it


def pick_columns(names: tuple[str, ...], wanted: tuple[str, ...], name: str) -> list[int]:
    """Indexes of the wanted columns: a name, a number, an array's name (`a`: `a:0`, `a:1`), a unique end."""
    out: list[int] = []
    for want in wanted:
        found = _match(names, want)
        if not found:
            raise KilotuneError(
                "no_column",
                f"{name} has no column {want!r}; it has {_listed(names)}",
                "choose with --columns",
            )
        out += found
    if len(set(out)) != len(out):
        raise KilotuneError("bad_argument", f"{name}: a column is named twice in --columns", "name each axis once")
    return out


def _match(names: tuple[str, ...], want: str) -> list[int]:
    if want in names:
        return [names.index(want)]
    folded = [i for i, n in enumerate(names) if n.strip().lower() == want.strip().lower()]
    if len(folded) == 1:
        return folded
    array = [i for i, n in enumerate(names) if n.rpartition(":")[0] == want]
    if array:
        return array
    if want.isdecimal() and int(want) < len(names):
        return [int(want)]
    ends = [i for i, n in enumerate(names) if n.endswith(want)] if len(want) > 1 else []
    return ends if len(ends) == 1 else []


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "none"


def scalar_rate(constants: dict[str, npt.NDArray[Any]]) -> tuple[float | None, str]:
    """A rate that the file states itself, and under which name."""
    for key, value in constants.items():
        if key.lower() in RATE_NAMES and value.size == 1 and float(value.ravel()[0]) > 0:
            return float(value.ravel()[0]), key
    return None, ""


def to_recording(table: Table, options: ReadOptions, name: str) -> Recording:
    """Rate, affine map, unit and finiteness: what is the same for every format."""
    import numpy as np

    notes: list[str] = []
    rate_hz = options.rate_hz if options.rate_hz is not None else table.rate_hz
    if rate_hz is None:
        raise KilotuneError("no_rate", f"{name} does not say its sampling rate", "give it in Hz, such as --rate 20000")
    if not rate_hz > 0 or not np.isfinite(rate_hz):
        raise KilotuneError("bad_argument", f"{name}: a rate of {rate_hz:g} Hz is impossible", "give it with --rate")
    if options.rate_hz is not None and table.rate_hz is not None and options.rate_hz != table.rate_hz:
        notes.append(f"--rate {options.rate_hz:g} overrides {table.rate_hz:g} Hz ({table.rate_from})")
    values = table.values
    if values.shape[0] == 0 or values.shape[1] == 0:
        raise KilotuneError("empty", f"{name} holds no samples", "check that the recording is complete")
    values = _cut(values, options, rate_hz, name)
    require_finite(values, table.columns, name, table.first_row + round(options.start_s * rate_hz))
    unit = options.unit
    if unit is None:
        counts = values.dtype == np.int16 and not options.scale
        unit = "counts" if counts else "g"
        if not counts:
            notes.append("unit taken to be g: say --unit ms2, counts or volts if it is not")
    return Recording(_convert(values, table, options, unit, name), rate_hz, name, _kept(unit), tuple(notes))


def _kept(unit: str) -> str:
    return "counts" if unit == "counts" else "g"


def _cut(values: npt.NDArray[Any], options: ReadOptions, rate_hz: float, name: str) -> npt.NDArray[Any]:
    start, seconds = options.start_s, options.seconds
    if not 0 <= start < math.inf or not (seconds is None or 0 < seconds < math.inf):
        raise KilotuneError(
            "bad_argument", "--start must be 0 or more, --seconds above 0", "leave them away for all of it"
        )
    if round(min(start * rate_hz, values.shape[0])) >= values.shape[0]:
        raise KilotuneError(
            "bad_argument",
            f"{name} has {values.shape[0] / rate_hz:.3f} s: nothing is left from {options.start_s:g} s on",
            "choose a smaller --start",
        )
    first = round(start * rate_hz)
    wanted = values.shape[0] if seconds is None else round(min(seconds * rate_hz, values.shape[0]))
    return values[first : first + max(1, wanted)]


def _convert(values: npt.NDArray[Any], table: Table, options: ReadOptions, unit: str, name: str) -> Any:
    import numpy as np

    if unit not in UNITS:
        raise KilotuneError("bad_argument", f"unknown unit {unit!r}", "use one of " + ", ".join(UNITS))
    if not np.issubdtype(values.dtype, np.number) or np.issubdtype(values.dtype, np.complexfloating):
        raise KilotuneError("bad_samples", f"{name} holds {values.dtype}, not real numbers", "choose with --columns")
    axes = values.shape[1]
    scale = _per_axis(options.scale, table, axes, "--scale", name)
    offset = _per_axis(options.offset, table, axes, "--offset", name)
    if values.dtype == np.int16 and unit == "counts" and scale is None and offset is None:
        return np.ascontiguousarray(values)
    out = values.astype(np.float64)
    if scale is not None:
        out = out * scale
    if offset is not None:
        out = out - offset
    if unit == "counts":
        out = np.rint(out)
        if out.min() < -32768 or out.max() > 32767:
            raise KilotuneError(
                "bad_samples",
                f"{name}: counts from {out.min():g} to {out.max():g} do not fit 16 bits",
                "bring them into -32768..32767 with --scale, or give g with --unit g",
            )
        return out.astype(np.int16)
    if unit == "ms2":
        out /= STANDARD_GRAVITY
    elif unit == "volts":
        if not options.sensitivity_v_per_g or not np.isfinite(options.sensitivity_v_per_g):
            raise KilotuneError(
                "bad_argument",
                "volts need the sensor's sensitivity",
                "such as --sensitivity 0.02 (volts per g)",
            )
        out /= options.sensitivity_v_per_g
    result = out.astype(np.float32)
    require_finite(result, table.columns, name, table.first_row)
    return result


def _per_axis(given: tuple[str, ...], table: Table, axes: int, option: str, name: str) -> npt.NDArray[Any] | None:
    import numpy as np

    if not given:
        return None
    numbers: list[float] = []
    for text in given:
        try:
            numbers.append(float(text))
        except ValueError:
            if text not in table.constants:
                known = _listed(tuple(table.constants))
                raise KilotuneError(
                    "bad_argument",
                    f"{option} {text!r} is neither a number nor a value stored in {name} (it stores {known})",
                    "give a number",
                ) from None
            numbers += [float(v) for v in np.ravel(table.constants[text])]
    if not all(np.isfinite(numbers)):
        raise KilotuneError("bad_argument", f"{option} gives {numbers}, which are not all finite", "correct it")
    if len(numbers) not in (1, axes):
        raise KilotuneError(
            "bad_argument",
            f"{option} gives {len(numbers)} values for {axes} columns",
            "give one, or one a column",
        )
    return np.array(numbers, np.float64)


def require_modest(n_values: int, name: str) -> None:
    if n_values > MAX_VALUES:
        raise KilotuneError(
            "too_large",
            f"{name} holds {n_values:,} numbers; at most {MAX_VALUES:,} are read at once",
            "choose fewer columns with --columns, or split the file",
        )
