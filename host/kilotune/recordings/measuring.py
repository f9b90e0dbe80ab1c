"""What the numbers of an axis are: its unit by what the user, the file and gravity say, and the samples in g."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.recording import Channel, require_finite
from kilotune.recordings.roles import Judged
from kilotune.recordings.table import FIRST_ROW, Table, listed
from kilotune.recordings.units import COUNTS, G, Unit, parse_unit

if TYPE_CHECKING:
    import numpy.typing as npt

    from kilotune.recordings.recording import Samples

_GRAVITY_MS2 = (8.5, 11.0)  # what a resting sensor shows, with its offset
_GRAVITY_MG = (850.0, 1150.0)
_MOST_G = 2_000.0  # more is beyond accelerometers for machines: then it is no g
_LEAST_COUNTS = 2  # whole numbers up to here may be a dead sensor


@dataclass(frozen=True, slots=True)
class Measured:
    samples: Samples
    unit: str  # "g" or "counts"
    channels: tuple[Channel, ...]
    notes: tuple[str, ...]


def measure(table: Table, axes: Sequence[Judged], values: npt.NDArray[Any], options: ReadOptions) -> Measured:
    """Samples of `values` (n, axes), which are finite and as the file has them.

    KilotuneError `ambiguous` where nothing says what they are, `bad_samples` where they cannot be that.
    """
    scale = _per_axis(options.scale, table, len(axes), "--scale")
    offset = _per_axis(options.offset, table, len(axes), "--offset")
    found = _units(table, axes, values, options)
    kinds = {unit.kind for unit, _ in found}
    if options.sensitivity_v_per_g is not None and "voltage" not in kinds:
        raise KilotuneError(
            "bad_argument", f"{table.name}: a sensitivity is for volts, and nothing says that this file is in volts",
            "say --unit V, or omit --sensitivity",
        )  # fmt: skip
    if "counts" in kinds and len(kinds) > 1:
        told = ", ".join(f"{j.column.name} {u.name}" for j, (u, _) in zip(axes, found, strict=True))
        raise KilotuneError("ambiguous", f"{table.name} mixes counts and other units: {told}", "choose with --columns")
    channels = tuple(Channel(j.bare, u.name, source) for j, (u, source) in zip(axes, found, strict=True))
    notes = list(_notes(axes, found, options))
    if kinds == {"counts"}:
        if scale is None and offset is None and values.dtype.kind == "i" and values.dtype.itemsize == 2:
            return Measured(_contiguous(values), "counts", channels, tuple(notes))
        samples, more = _as_counts(table, _affine(values, scale, offset), scale is not None)
        return Measured(samples, "counts", channels, (*notes, *more))
    factors = [_to_g(unit, options, table.name) for unit, _ in found]
    out = _affine(values, scale, offset) * factors
    import numpy as np

    with np.errstate(over="ignore"):
        result: npt.NDArray[np.float32] = out.astype(np.float32)
    require_finite(result, [j.column.name for j in axes], table.name, table.first_row)
    return Measured(result, "g", channels, tuple(notes))


def _contiguous(values: npt.NDArray[Any]) -> Any:
    import numpy as np

    return np.ascontiguousarray(values, dtype=np.int16)


def _affine(values: npt.NDArray[Any], scale: Any, offset: Any) -> Any:
    import numpy as np

    out = values.astype(np.float64)
    if scale is not None:
        out = out * scale
    return out - offset if offset is not None else out


def _as_counts(table: Table, values: Any, scaled: bool) -> tuple[Any, list[str]]:
    import numpy as np

    notes = []
    if table.full_scale is not None and not scaled and table.full_scale != 32768:
        if np.abs(values).max() > table.full_scale:
            raise KilotuneError(
                "ambiguous",
                f"{table.name}: values up to {np.abs(values).max():g} are not fractions of a full scale of 1",
                "say what they are with --unit, or with --scale",
            )
        values = np.clip(values * (32768.0 / table.full_scale), -32768, 32767)
        notes.append("samples are brought to 16 bits of the same full scale")
    out = np.rint(values)
    if out.min() < -32768 or out.max() > 32767:
        raise KilotuneError(
            "bad_samples",
            f"{table.name}: counts from {out.min():g} to {out.max():g} do not fit 16 bits",
            "bring them into -32768..32767 with --scale, or give g with --unit g",
        )
    return out.astype(np.int16), notes


def _to_g(unit: Unit, options: ReadOptions, name: str) -> float:
    if unit.kind == "acceleration":
        return unit.factor
    if unit.kind != "voltage":
        raise KilotuneError(
            "ambiguous",
            f"{name} is in {unit.name}, which is not an acceleration",
            "choose axes with --columns, or give --unit",
        )
    sensitivity = options.sensitivity_v_per_g
    if sensitivity and math.isfinite(sensitivity):
        return unit.factor / sensitivity
    what, hint = (
        f"{name} is in {unit.name}: volts need the sensor's sensitivity",
        "such as --sensitivity 0.02 (volts per g)",
    )
    if options.unit is not None:
        raise KilotuneError("bad_argument", what, hint)
    raise KilotuneError("ambiguous", what, hint)


def _units(
    table: Table, axes: Sequence[Judged], values: npt.NDArray[Any], options: ReadOptions
) -> list[tuple[Unit, str]]:
    """(unit, where from) of each axis."""
    if options.unit is not None:
        unit = parse_unit(options.unit)
        assert unit is not None
        return [(unit, "--unit")] * len(axes)
    if options.scale:
        return [(G, "--scale")] * len(axes)
    own = [_own_unit(table, j) for j in axes]
    if any(own) and not all(own):
        told, silent = (
            listed([j.column.name for j, u in zip(axes, own, strict=True) if bool(u) is b]) for b in (True, False)
        )
        raise KilotuneError(
            "ambiguous", f"{table.name} gives the unit of {told}, but not of {silent}", "give it with --unit"
        )
    return [unit or _guessed(table, axes, values, options) for unit in own]


def _own_unit(table: Table, judged: Judged) -> tuple[Unit, str] | None:
    if not judged.unit:
        return None
    unit = parse_unit(judged.unit)
    if unit is None or unit.kind == "time":
        raise KilotuneError(
            "ambiguous",
            f"{table.name}: the unit {judged.unit[:30]!r} of column {judged.column.name[:40]} is unknown",
            "give one of the known units with --unit",
        )
    return unit, judged.unit_from


def _guessed(table: Table, axes: Sequence[Judged], values: npt.NDArray[Any], options: ReadOptions) -> tuple[Unit, str]:
    """The unit of numbers that come without one; an error where they fit several."""
    import numpy as np

    if table.full_scale is not None or values.dtype == np.int16:
        return COUNTS, "16-bit integers" if table.full_scale is None else "file format"
    if FIRST_ROW in table.constants:
        raise KilotuneError(
            "ambiguous",
            f"{table.name}: its first row has further numbers, as files in volts have, and no unit is given",
            f"say --unit and, if those are zeros, --offset {FIRST_ROW}",
        )
    numbers = np.asarray(values, np.float64)
    most = float(np.abs(numbers).max())
    names = listed([j.column.name for j in axes])
    moving = bool((np.ptp(numbers, axis=0) > 0).any())
    if moving and most > _LEAST_COUNTS and bool((numbers == np.rint(numbers)).all()):
        raise KilotuneError(
            "ambiguous",
            f"{table.name}: {names} are whole numbers up to {most:g}, and no unit is given",
            "say --unit counts, mg or g; or --scale, the g of one count",
        )
    # Gravity, where it is in the recording, tells g from m/s^2 and mg.
    dc = np.abs(numbers.mean(axis=0))
    total = float(np.sqrt((dc**2).sum()))
    for (low, high), other in ((_GRAVITY_MS2, "m/s^2"), (_GRAVITY_MG, "mg")):
        if low <= total <= high or bool(((dc >= low) & (dc <= high)).any()):
            raise KilotuneError(
                "ambiguous",
                f"{table.name}: the unit of {names} is not given, and a mean of {max(total, float(dc.max())):.4g} "
                f"looks like gravity in {other}",
                f"say --unit {other}, or --unit g",
            )
    if most > _MOST_G:
        raise KilotuneError(
            "ambiguous",
            f"{table.name}: the unit of {names} is not given, and values up to {most:g} are unlikely to be g",
            "say --unit counts, mg, m/s^2 or g; or --scale, the g of one count",
        )
    return G, "guess"


def _notes(axes: Sequence[Judged], found: list[tuple[Unit, str]], options: ReadOptions) -> list[str]:
    notes = []
    if any(source == "guess" for _, source in found):
        notes.append("guess: the unit is g, as nothing in the file says it; --unit says it")
    for judged, (unit, source) in zip(axes, found, strict=True):
        own = parse_unit(judged.unit) if judged.unit else None
        if own is not None and source.startswith("--") and own.name != unit.name and own.kind != "counts":
            notes.append(f"{source} overrides the unit {own.name} of column {judged.column.name[:40]}")
    if found and found[0][0].kind == "counts" and not options.scale:
        notes.append(
            "counts are taken as those of the model's own sensor, whose full scale is 32768; "
            "--scale, the g of one count, makes them g"
        )
    return notes


def _per_axis(given: tuple[str, ...], table: Table, axes: int, option: str) -> npt.NDArray[Any] | None:
    import numpy as np

    if not given:
        return None
    numbers: list[float] = []
    for text in given:
        try:
            numbers.append(float(text))
        except ValueError:
            if text not in table.constants:
                raise KilotuneError(
                    "bad_argument",
                    f"{option} {text!r} is neither a number nor a value stored in {table.name} "
                    f"(it stores {listed(tuple(table.constants))})",
                    "give a number",
                ) from None
            numbers += [float(v) for v in np.ravel(table.constants[text])]
    if not all(np.isfinite(numbers)):
        raise KilotuneError("bad_argument", f"{option} gives {numbers}, which are not all finite", "correct it")
    if len(numbers) not in (1, axes):
        raise KilotuneError(
            "bad_argument", f"{option} gives {len(numbers)} values for {axes} columns", "give one, or one per column"
        )
    return np.array(numbers, np.float64)
