"""`kilotune evaluate --life` and `kilotune report --life`: what they read, and how they show a life."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.groups import OptionGroup, refuse_given
from kilotune.cli.looking import tell_understood
from kilotune.cli.options import Real, refuse_unread
from kilotune.cli.output import Output, plain, table
from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from kilotune.recordings import ReadOptions, Recording
    from kilotune.report.life_page import LifeData
    from kilotune.studies.lives import LifeRow, LifeStudy

HEADER = (
    "scored by",
    "on",
    "watches from",
    "false alarms",
    "a month",
    "windows over %",
    "found at",
    "lead, records",
    "lead",
)


class History:
    """A machine's files in order of time, and what is known of them."""

    def __init__(self, life: bool, files: tuple[str, ...], healthy_files: int | None, every: float | None) -> None:
        self.given, self.files, self.healthy_files, self.every_s = life, files, healthy_files, every
        if not life:
            refuse_given(("files", "healthy_files", "every"), "without --life there is no history")
            return
        refuse_given(
            ("healthy", "fault", "healthy_test", "hold_out", "share"), "--life takes all files in order of time"
        )
        if not files:
            raise KilotuneError("bad_argument", "--life was given no file", "name the files in order of time")
        refuse_unread(files)

    def read(self, out: Output, read: ReadOptions, rate_hz: float) -> list[Recording]:
        from kilotune.recordings import read_all

        recordings = read_all(self.files, read, model_rate_hz=rate_hz)
        tell_understood(out, recordings)
        if self.every_s is None:
            out.note(
                "without --every, nobody knows how much time lies between the files: times and months are not told"
            )
        if self.healthy_files is None:
            out.note("the first half is taken for healthy; --healthy-files says how many files are")
        elif self.healthy_files > len(recordings):
            raise KilotuneError(
                "bad_argument", f"--healthy-files {self.healthy_files}, but there are {len(recordings)} files",
                "give at most as many as there are files",
            )  # fmt: skip
        return recordings


history_options = OptionGroup(
    "history",
    History,
    {
        "life": click.option(
            "--life",
            is_flag=True,
            help="The files are one machine's history, in order of time: how does a device live with it?",
        ),
        "files": click.argument("files", nargs=-1, metavar="[FILES...]"),
        "healthy_files": click.option(
            "--healthy-files",
            type=click.IntRange(min=1),
            metavar="N",
            help="With --life: the first N files are healthy, and alarms in them false [default: half of the history].",
        ),
        "every": click.option(
            "--every",
            type=Real(min=0, min_open=True),
            metavar="S",
            help="With --life: seconds from the start of one file to that of the next.",
        ),
    },
)


def required(healthy: tuple[str, ...], fault: tuple[str, ...]) -> None:
    """What a comparison without --life cannot do without."""
    for name, value in (("--healthy", healthy), ("--fault", fault)):
        if not value:
            raise KilotuneError("bad_argument", f"{name} is missing", f"give {name}, or a history with --life")


def life_json(found: LifeStudy, model: Path) -> dict[str, object]:
    return {
        "model": str(model),
        "records": found.records,
        "healthy_records": found.healthy,
        "first_records": found.first,
        "seconds": found.seconds,
        "verdict": found.verdict,
        "rows": [plain(row) for row in found.rows],
        "life": [plain(moment) for moment in found.moments],
    }


def life_text(found: LifeStudy) -> str:
    return "\n".join((*story(found), "", table([cells(row) for row in found.rows], HEADER), "", *notes()))


def story(found: LifeStudy) -> tuple[str, ...]:
    span = "" if found.seconds is None else f" over {_duration(found.seconds)}"
    own = found.rows[0]
    said = f"the device raised {own.false_alarms} false alarms"
    if own.first_alarm is None:
        later = "no alarm after that part"
    else:
        lead = "" if own.lead_s is None else f", {_duration(own.lead_s)}"
        later = (
            f"an alarm at record {own.first_alarm}, {own.lead_records} records{lead} before the end"
            f"{_rest_of_alarm(found, own.first_alarm)}"
        )
    return (
        f"{found.records} records{span}, of which the first {found.healthy} are taken for healthy; in these {said}, "
        f"and {later}.",
        f"At the end it says: {found.verdict}.",
    )


def _rest_of_alarm(found: LifeStudy, begin: int) -> str:
    """When the device's alarm of record `begin` ended: what it learns later can make it normal."""
    moments, age = found.moments, begin + 1  # ages count the record that is over
    last = max((t for t, m in enumerate(moments) if m.alarm == age), default=None)
    if last is None or found.alarm == age:
        return ""
    if last == len(moments) - 1:
        return "; its last phase learned that away"
    learned = ", learned away by a phase" if moments[last + 1].phases != moments[last].phases else ""
    again = ", with others later" if any(m.alarm for m in moments[last + 1 :]) else ""
    return f"; that ended at record {last + 1}{learned}{again}"


def notes() -> tuple[str, ...]:
    return (
        "All rows follow the device's policy: phases that get rarer, the measured drift in the threshold, watching "
        "once settled, an anchor, and the image's alarm rule.",
        "One machine is one machine: what a row shows here may be chance.",
    )


def cells(row: LifeRow) -> tuple[str, ...]:
    return (
        row.name,
        row.where,
        _or_dash(row.watching_from),
        str(row.false_alarms),
        "-" if row.false_per_month is None else f"{row.false_per_month:.1f}",
        "-" if row.windows_over is None else f"{100 * row.windows_over:.1f}",
        _or_dash(row.first_alarm),
        _or_dash(row.lead_records),
        "-" if row.lead_s is None else _duration(row.lead_s),
    )


def life_data(found: LifeStudy, title: str, subtitle: str) -> LifeData:
    from kilotune.report.life_page import Beat, LifeData

    beats = [Beat(m.score, m.limit, m.distance, m.watched, m.alarm > 0, m.phases, m.drift) for m in found.moments]
    rows = tuple(cells(row) for row in found.rows)
    command = shlex.join(["kilotune", *sys.argv[1:]])
    return LifeData(
        title,
        subtitle,
        story(found),
        tuple(beats),
        found.healthy,
        found.anchor,
        HEADER,
        rows,
        (*notes(), f"Made by: {command}"),
    )


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)


def _duration(seconds: float) -> str:
    for size, name in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} seconds"
