"""How to read a recording: the options that every command which reads one has."""

from __future__ import annotations

from dataclasses import dataclass

UNITS = ("g", "mg", "m/s^2", "ms2", "counts", "V", "volts")
NO_TIME = "none"  # as a time column: there is none


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user says of a file; empty and None leave it to what the file says of itself."""

    columns: tuple[str, ...] = ()  # names or indexes (from 0), in the order of the model's axes
    rate_hz: float | None = None
    unit: str | None = None  # one of UNITS, of (raw * scale - offset)
    scale: tuple[str, ...] = ()  # one for all columns or one a column; a number or the name of a value in the file
    offset: tuple[str, ...] = ()
    sensitivity_v_per_g: float | None = None  # for volts
    start_s: float = 0.0
    seconds: float | None = None
    upsample: bool = False  # let a rate below the model's be raised, though nothing fills the upper bands
    time_column: str | None = None  # name or index; NO_TIME: none of the columns is time
    variable: str | None = None  # path of the signal in a file of many arrays, sheets, groups or channels
    delimiter: str | None = None  # of text: one character, or "tab", "space"
    decimal: str | None = None  # of text: "." or ","
