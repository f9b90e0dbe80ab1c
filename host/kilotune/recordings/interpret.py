"""From a table to a recording: which columns are axes, their rate, their unit, their gaps; and what was assumed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.limits import MAX_COLUMNS, require_modest
from kilotune.recordings.measuring import measure
from kilotune.recordings.options import NO_TIME, ReadOptions
from kilotune.recordings.recording import Recording, require_finite
from kilotune.recordings.roles import Judged, Role, choose_axes, judge
from kilotune.recordings.table import Table, pick_columns
from kilotune.recordings.timing import Timing, find_timing, require_no_lone_ramp

if TYPE_CHECKING:
    import numpy.typing as npt

_JITTER_TOLD = 0.01  # relative: steadier clocks need no word


@dataclass(frozen=True, slots=True)
class Understood:
    """What the columns of a table are."""

    judged: list[Judged]
    axes: list[int]
    timing: Timing
    notes: list[str]

    @property
    def rate_hz(self) -> float | None:
        return self.timing.rate_hz


def understand(table: Table, options: ReadOptions) -> Understood:
    if not table.columns or table.rows == 0:
        raise KilotuneError("empty", f"{table.name} holds no samples", "check that the recording is complete")
    if len(table.columns) > MAX_COLUMNS:
        raise KilotuneError(
            "too_large", f"{table.name} has {len(table.columns):,} columns", "choose one signal with --variable"
        )
    judged = judge(table)
    if options.time_column == NO_TIME:  # a ramp is a signal then
        judged = [_opened(j) for j in judged]
    timing = find_timing(table, judged, options)
    notes: list[str] = []
    if options.columns:
        axes = pick_columns(table.names, options.columns, table.name)
    else:
        axes, notes = choose_axes(table, judged, timing.columns)
        require_no_lone_ramp(table, judged, axes, timing, [table.columns[i].values for i in axes])
    return Understood(judged, axes, timing, notes)


def _opened(judged: Judged) -> Judged:
    if judged.role is not Role.time or not judged.by_values:
        return judged
    return Judged(judged.column, Role.open, judged.bare, judged.unit, judged.unit_from)


def interpret(table: Table, options: ReadOptions) -> Recording:
    """The recording; KilotuneError where a table does not say what it is, or says what cannot be."""
    import numpy as np

    with np.errstate(all="ignore"):  # damaged numbers may be of any size; what is not finite is refused
        return _interpreted(table, options)


def _interpreted(table: Table, options: ReadOptions) -> Recording:
    found = understand(table, options)
    timing = found.timing
    rate_hz = timing.rate_hz
    if rate_hz is None:
        why = f": {timing.why_not}" if timing.why_not else ""
        hint = "give it in Hz, such as --rate 20000; or the column of time with --time-column"
        raise KilotuneError("no_rate", f"{table.name} does not say its sampling rate{why}", hint)
    if not rate_hz > 0 or not math.isfinite(rate_hz):
        raise KilotuneError(
            "bad_argument", f"{table.name}: a rate of {rate_hz:g} Hz is impossible", "give it with --rate"
        )
    first, end = _bounds(table.rows, options, rate_hz, table.name)
    axes = [found.judged[i] for i in found.axes]
    require_modest((end - first) * len(axes), table.name)
    values = _stacked([j.column.values[first:end] for j in axes], table.name)
    require_finite(values, [j.column.name for j in axes], table.name, table.first_row + first)
    measured = measure(table, axes, values, options)
    whole = Recording(
        measured.samples, rate_hz, table.name, measured.unit, (), (0,), (0.0,), measured.channels, timing.rate_from
    )
    recording = _with_gaps(whole, timing, first, end)
    notes = [*table.notes, *found.notes, *timing.notes, *measured.notes, *_clock_notes(recording, timing)]
    from dataclasses import replace

    return replace(recording, notes=tuple(dict.fromkeys(notes)))


def _stacked(columns: Sequence[npt.NDArray[Any]], name: str) -> npt.NDArray[Any]:
    import numpy as np

    if any(c.dtype.kind not in "iufb" for c in columns):
        kinds = ", ".join(sorted({str(c.dtype) for c in columns}))
        raise KilotuneError("bad_samples", f"{name} holds {kinds}, not real numbers", "choose with --columns")
    return np.column_stack([np.asarray(c) for c in columns])


def _bounds(rows: int, options: ReadOptions, rate_hz: float, name: str) -> tuple[int, int]:
    start, seconds = options.start_s, options.seconds
    if not 0 <= start < math.inf or not (seconds is None or 0 < seconds < math.inf):
        raise KilotuneError(
            "bad_argument", "--start must be 0 or more, --seconds above 0", "omit them to read all of it"
        )
    first = round(min(start * rate_hz, rows))
    if first >= rows:
        raise KilotuneError(
            "bad_argument",
            f"{name} has {rows / rate_hz:.3f} s: nothing is left after {start:g} s",
            "choose a smaller --start",
        )
    wanted = rows if seconds is None else round(min(seconds * rate_hz, rows))
    return first, min(rows, first + max(1, wanted))


def _with_gaps(recording: Recording, timing: Timing, first: int, end: int) -> Recording:
    """Its stretches, of what lies between rows `first` and `end` of the table."""
    from dataclasses import replace

    inside = [(s - first, t) for s, t in zip(timing.starts, timing.times_s, strict=True) if first < s < end]
    before = [(s, t) for s, t in zip(timing.starts, timing.times_s, strict=True) if s <= first]
    at, time_s = before[-1] if before else (0, 0.0)
    origin_s = time_s + (first - at) / recording.rate_hz
    starts = (0, *(s for s, _ in inside))
    return replace(recording, starts=starts, times_s=(0.0, *(t - origin_s for _, t in inside)))


def _clock_notes(recording: Recording, timing: Timing) -> list[str]:
    notes = []
    if len(recording.starts) > 1:
        count = len(recording.starts)
        notes.append(f"{count - 1} gap{'s' if count > 2 else ''}: read as {count} stretches, none joined to the next")
    if timing.jitter is not None and timing.jitter > _JITTER_TOLD:
        notes.append(f"steps of time vary by {100 * timing.jitter:.1f} % around their mean")
    return notes
