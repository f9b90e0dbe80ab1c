"""The rate and the gaps of a table: from its columns of time, from what the file states, or from the user."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.clock import Ticks, calendar_seconds, epoch_unit, plausible_units, rate_of, ticks_of
from kilotune.recordings.options import NO_TIME, ReadOptions
from kilotune.recordings.recording import CLOCK_TOLERANCE
from kilotune.recordings.roles import Judged, Role
from kilotune.recordings.table import Table, listed, pick_columns
from kilotune.recordings.units import parse_unit

if TYPE_CHECKING:
    import numpy.typing as npt

_AGREE = 0.02  # two columns of time may differ by so much in their rate
_NOMINAL = 1e-3  # a stated rate that the stamps confirm this well is exact
_CALENDAR = ("hour", "minute", "second", "microsecond")


@dataclass(frozen=True, slots=True)
class Timing:
    """`columns`: those that are time; `ticks` and `second`: of the one that counts, None where there is none."""

    rate_hz: float | None
    rate_from: str
    columns: frozenset[int]
    starts: tuple[int, ...] = (0,)
    times_s: tuple[float, ...] = (0.0,)
    jitter: float | None = None  # standard deviation of the steps, relative to one
    notes: tuple[str, ...] = ()
    why_not: str = ""  # what is missing where there is no rate


@dataclass(frozen=True, slots=True)
class _Reading:
    """One column of time, read."""

    index: int
    name: str
    ticks: Ticks
    second: float | None  # of its unit; None: nothing says which
    certain: bool  # said by the file or the user, not guessed
    unit: str


def find_timing(table: Table, judged: Sequence[Judged], options: ReadOptions) -> Timing:
    """Where samples lie in time. KilotuneError `ambiguous` where two readings fit."""
    calendar = _calendar(judged) if options.time_column is None else None
    if calendar is not None:
        ticks, columns = calendar
        reading = _Reading(0, "hour, minute, second, microsecond", ticks, 1.0, True, "s")
        return _timing(table, reading, columns, options, ())
    if options.time_column == NO_TIME:
        return _stated(table, options, frozenset(), "")
    candidates = _candidates(table, judged, options)
    taken = frozenset(candidates)
    readings = [r for r in (_read(judged[i], i, options) for i in candidates) if r is not None]
    if options.time_column is not None and not readings:
        raise KilotuneError(
            "bad_samples", f"{table.name}: column {options.time_column} does not run like time", "name another column"
        )
    dead = [i for i in candidates if i not in {r.index for r in readings}]
    notes = tuple(f"column {judged[i].column.name} has a name for time but does not run like time" for i in dead)
    if not readings:
        return _stated(table, options, taken, notes[0] if notes else "")
    return _timing(table, _best(table, readings, options), taken, options, notes)


def _candidates(table: Table, judged: Sequence[Judged], options: ReadOptions) -> list[int]:
    if options.time_column is not None:
        picked = pick_columns(table.names, (options.time_column,), table.name)
        return [*picked, *(i for i, j in enumerate(judged) if j.role is Role.time and i not in picked)][: len(judged)]
    asked = set(pick_columns(table.names, options.columns, table.name)) if options.columns else set()
    return [i for i, j in enumerate(judged) if j.role is Role.time and not (j.by_values and i in asked)]


def _calendar(judged: Sequence[Judged]) -> tuple[Ticks, frozenset[int]] | None:
    """Four first columns of hour, minute, second and microsecond, without names or with these."""
    if len(judged) < 5:
        return None
    first = judged[:4]
    named = tuple(j.bare.lower().rstrip("s") for j in first)
    if any(j.column.named for j in first) and named != _CALENDAR:
        return None
    seconds = calendar_seconds([j.column.values for j in first])
    ticks = ticks_of(seconds) if seconds is not None else None
    return None if ticks is None else (ticks, frozenset(range(4)))


def _read(judged: Judged, index: int, options: ReadOptions) -> _Reading | None:
    values = judged.column.values
    ticks = ticks_of(values)
    if ticks is None:
        return None
    name = judged.column.name
    unit = parse_unit(judged.unit) if judged.unit else None
    if judged.column.stamps:
        return _Reading(index, name, ticks, 1.0, True, "time stamps")
    if unit is not None and unit.kind == "time":
        return _Reading(index, name, ticks, unit.factor, True, unit.name)
    words = [parse_unit(w) for w in re.split(r"[^a-zA-Z]+", judged.bare) if len(w) > 2]
    spoken = next((u for u in words if u is not None and u.kind == "time" and u.factor <= 1), None)
    if spoken is not None:
        return _Reading(index, name, ticks, spoken.factor, True, spoken.name)
    epoch = epoch_unit(values)
    if epoch is not None:
        return _Reading(index, name, ticks, epoch[1], True, f"{epoch[0]} since 1970")
    fitting = plausible_units(ticks.step)
    if options.rate_hz is not None:
        near = [u for u in fitting if abs(rate_of(ticks, u[1]) / options.rate_hz - 1) <= CLOCK_TOLERANCE]
        fitting = near or fitting
    if len(fitting) == 1:
        return _Reading(index, name, ticks, fitting[0][1], False, fitting[0][0])
    return _Reading(index, name, ticks, None, False, " or ".join(u for u, _ in fitting))


def _best(table: Table, readings: list[_Reading], options: ReadOptions) -> _Reading:
    """The reading whose unit is known, and of those the finest; two that disagree are an error."""
    if options.time_column is not None:
        return readings[0]
    known = [r for r in readings if r.certain] or [r for r in readings if r.second is not None] or readings
    rates = [rate_of(r.ticks, r.second) for r in known if r.second is not None]
    if rates and max(rates) > min(rates) * (1 + _AGREE) and options.rate_hz is None:
        told = ", ".join(f"{r.name} {rate_of(r.ticks, r.second):g} Hz" for r in known if r.second is not None)
        raise KilotuneError(
            "ambiguous",
            f"{table.name} has several columns of time, which disagree: {told}",
            "choose with --time-column",
        )
    return min(known, key=lambda r: (r.ticks.resolution > 0, r.ticks.jitter))


def _timing(
    table: Table, reading: _Reading, columns: frozenset[int], options: ReadOptions, notes: tuple[str, ...]
) -> Timing:
    ticks = reading.ticks
    second = reading.second
    measured = rate_of(ticks, second) if second is not None else None
    rate_hz, rate_from, more = _settle(table, reading, measured, options)
    scale = second if second is not None else (1 / rate_hz / ticks.step if rate_hz else 1.0)
    starts: tuple[int, ...] = (0,)
    times: tuple[float, ...] = (0.0,)
    if table.starts:
        starts, times = table.starts, table.times_s or tuple(0.0 for _ in table.starts)
    elif len(ticks.starts) > 1:
        starts, times = ticks.starts, tuple(t * scale for t in ticks.offsets)
    why = ""
    if rate_hz is None:
        fits = reading.unit or "no usual unit"
        why = f"column {reading.name} steps by {ticks.step:g}, and nothing says in which unit ({fits} would fit)"
    told = (*notes, *more)
    if ticks.backward and not table.starts:
        told = (*told, f"time in column {reading.name} goes back {ticks.backward} times: a new stretch begins there")
    return Timing(rate_hz, rate_from, columns, starts, times, ticks.jitter, told, why)


def _settle(
    table: Table, reading: _Reading, measured: float | None, options: ReadOptions
) -> tuple[float | None, str, tuple[str, ...]]:
    """(rate, where from, notes) of what the user, the file's header and its stamps say."""
    where = f"column {reading.name}" + ("" if reading.certain or measured is None else f" (guess: in {reading.unit})")
    other = measured if measured is not None else table.rate_hz
    if options.rate_hz is not None:
        if other is not None and abs(other / options.rate_hz - 1) > _NOMINAL:
            origin = where if measured is not None else table.rate_from
            return options.rate_hz, "--rate", (f"--rate {options.rate_hz:g} overrides {other:g} Hz ({origin})",)
        return options.rate_hz, "--rate", ()
    if measured is None:
        return table.rate_hz, table.rate_from, ()
    if table.rate_hz is None:
        guess = () if reading.certain else (f"guess: {reading.name} is in {reading.unit}; --rate says it",)
        return measured, where, guess
    if abs(table.rate_hz / measured - 1) <= _NOMINAL:
        return table.rate_hz, table.rate_from, ()
    if abs(table.rate_hz / measured - 1) <= CLOCK_TOLERANCE:
        told = f"the file states {table.rate_hz:g} Hz ({table.rate_from}), its stamps {measured:g} Hz: the stamps count"
        return measured, where, (told,)
    raise KilotuneError(
        "ambiguous",
        f"{table.name} states {table.rate_hz:g} Hz ({table.rate_from}), but its {where} has {measured:g} Hz",
        "give the true one with --rate",
    )


def _stated(table: Table, options: ReadOptions, taken: frozenset[int], why: str) -> Timing:
    """Without a column of time."""
    starts = table.starts or (0,)
    times = table.times_s if table.starts and table.times_s else tuple(0.0 for _ in starts)
    if options.rate_hz is None:
        return Timing(table.rate_hz, table.rate_from, taken, starts, times, None, (why,) if why else (), why)
    notes = (why,) if why else ()
    if table.rate_hz is not None and table.rate_hz != options.rate_hz:
        notes = (*notes, f"--rate {options.rate_hz:g} overrides {table.rate_hz:g} Hz ({table.rate_from})")
    return Timing(options.rate_hz, "--rate", taken, starts, times, None, notes)


def require_no_lone_ramp(
    table: Table, judged: Sequence[Judged], axes: Sequence[int], timing: Timing, stamps: Sequence[npt.NDArray[Any]]
) -> None:
    """A file whose `x` runs like time and whose `y` is the signal is no recording of two axes."""
    if timing.columns or len(axes) < 2 or table.rows < 16:
        return
    ramps = [i for i, values in zip(axes, stamps, strict=True) if _is_ramp(values)]
    if len(ramps) == 1:
        names = listed([judged[i].column.name for i in ramps])
        raise KilotuneError(
            "ambiguous",
            f"{table.name}: column {names} rises evenly, as time does, but has the name of an axis",
            f"say --time-column {names}, or name the axes with --columns",
        )


def _is_ramp(values: npt.NDArray[Any]) -> bool:
    ticks = ticks_of(values)
    return ticks is not None and len(ticks.starts) == 1 and ticks.jitter < 1e-3 and not ticks.resolution
