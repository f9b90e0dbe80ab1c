"""The data of a report. Scores are log2 of the anomaly score, as the device gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Point:
    """One window of the stream."""

    t_s: float  # time of its last sample since the stream's start
    score: float
    truth: str = ""  # "healthy", "fault" or "" (unknown)
    learned: bool = False
    refused: bool = False  # the gate did not learn from it, or it could not be scored


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the timeline under one heading, such as the learn phase."""

    start_s: float
    end_s: float
    label: str
    kind: str = ""  # "learn" is shaded
    threshold: float | None = None  # in force during it


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of windows whose state is known, under one state of the device."""

    healthy: tuple[float, ...]
    fault: tuple[float, ...]
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Amplitudes of one healthy and one anomalous window of one axis."""

    axis: str
    freq_hz: tuple[float, ...]
    healthy_g: tuple[float, ...]  # amplitude per bin, g rms
    anomalous_g: tuple[float, ...]
    healthy_name: str = ""  # which windows: file and time
    anomalous_name: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows and columns."""

    title: str
    about: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """Use of one resource by parts, and how much of it the board has."""

    title: str  # "RAM", "Flash"
    unit: str  # "bytes" or "instructions"
    parts: tuple[tuple[str, int], ...]
    available: int | None = None


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything on the page; empty parts are omitted."""

    title: str
    subtitle: str = ""
    story: tuple[str, ...] = ()  # sentences at the top
    timeline: tuple[Point, ...] = ()
    spans: tuple[Span, ...] = ()
    before: Scores | None = None
    after: Scores | None = None
    spectra: tuple[Spectrum, ...] = ()
    tables: tuple[Table, ...] = ()
    budgets: tuple[Budget, ...] = ()
    scorer: str = ""  # residual, nearest or combined
    scorer_why: str = ""
    facts: tuple[tuple[str, str], ...] = ()  # what was learned, where and from what
    checks: tuple[tuple[str, bool, str], ...] = ()  # what was verified: name, outcome, detail
    notes: tuple[str, ...] = ()  # what a reader should know
    commands: tuple[str, ...] = ()  # that made it


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions per call; None if the target cannot count them."""

    inference: int | None
    step: int | None  # None also for an image that is not trained


@dataclass(frozen=True, slots=True)
class Ram:
    """Bytes; None if the target does not know."""

    arena: int
    adapter: int
    static: int | None  # everything else: firmware, window buffers, reservoir
    stack_peak: int | None


@dataclass(frozen=True, slots=True)
class Benchmark:
    instructions: Instructions
    macs: int  # of one inference
    ram_bytes: Ram
    flash_bytes: int | None  # firmware and model image; None if the firmware's size is not known
    model_bytes: int
