"""A machine's history, file by file in order of time: what a device that goes on learning says of it, record by record,
beside plain scores by the same policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kilotune.device.life_words import story_of
from kilotune.errors import KilotuneError
from kilotune.studies import life_policy
from kilotune.studies.life_policy import Watched
from kilotune.studies.windows import measure, require_all
from kilotune.terms import Q10, WindowFlag

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.device.learning import LearnOptions
    from kilotune.image.base_profile import LifeSettings
    from kilotune.image.image import Image
    from kilotune.recordings import Recording

    Tell = Callable[[float, float, str], None]

DEVICE = "the device"
MONTH_S = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class Record:
    """Windows that came together, as a device counts time."""

    recording: Recording  # without a gap
    file: int
    t_s: float  # since the history began


@dataclass(frozen=True, slots=True)
class Moment:
    """What the device said after one record; all in log2."""

    source: str
    t_s: float
    score: float | None  # median of its windows, above the held-back ones; None: not judged
    limit: float  # that the score was held against
    distance: float | None  # from the anchor, above the anchor's own
    watched: bool
    over: float  # share of its windows that were anomalous
    alarm: int  # age at which the alarm that stands began; 0: none
    phases: int
    drift: float | None  # of the last phase


@dataclass(frozen=True, slots=True)
class LifeRow:
    """One way to score; records count from 0."""

    name: str
    where: str  # device or computer
    watching_from: int | None
    false_alarms: int  # that began in the healthy part
    false_per_month: float | None  # None: the time between files is not known
    windows_over: float | None  # share of windows above the threshold, in the part that is watched and healthy
    first_alarm: int | None  # record of the first alarm after the healthy part
    lead_records: int | None  # from there to the end
    lead_s: float | None


@dataclass(frozen=True, slots=True)
class LifeStudy:
    rows: tuple[LifeRow, ...]
    moments: tuple[Moment, ...]  # of the device, record by record
    records: int
    healthy: int  # records that are taken for healthy
    first: int  # records of the first phase
    anchor: float  # log2 from the anchor that is an alarm
    seconds: float | None  # from the first record to the end
    verdict: str  # what the device says at the end
    alarm: int = 0  # age at which the alarm that stands at the end began; 0: none


def records_of(
    recordings: Sequence[Recording], image: Image, settings: LifeSettings, every_s: float | None
) -> list[Record]:
    """Every file cut into records. `every_s`: seconds from the start of one file to the next; None: end to end."""
    config = image.features
    if config is None:
        raise KilotuneError("no_features", "the model takes ready inputs, not samples", "use a model with features")
    for recording in recordings if every_s is not None else ():
        _require_within(recording, every_s)
    step, found, begin_s = settings.record * config.hop, [], 0.0
    size = config.window + (settings.record - 1) * config.hop
    for file, recording in enumerate(recordings):
        at_s = begin_s if every_s is None else file * every_s
        for stretch, offset_s in zip(recording.stretches, recording.times_s, strict=True):
            for start in range(0, max(0, len(stretch.samples) - config.window + 1), step):
                part = stretch.part(start, start + size)
                found.append(Record(part, file, at_s + offset_s + start / stretch.rate_hz))
        begin_s += recording.seconds
    return found


def _require_within(recording: Recording, every_s: float | None) -> None:
    """Raises KilotuneError `bad_argument` for a file that lasts into the next one."""
    lasts_s = recording.times_s[-1] + recording.stretches[-1].seconds
    if every_s is not None and lasts_s > every_s + 1 / recording.rate_hz:
        raise KilotuneError(
            "bad_argument",
            f"{recording.name} lasts {lasts_s:.6g} s, but --every says that the next file began after {every_s:g} s",
            "give the seconds from the start of one file to that of the next, or omit it",
        )


def study_life(
    device: Device,
    recordings: Sequence[Recording],
    *,
    options: LearnOptions,
    healthy_files: int | None,
    every_s: float | None,
    progress: Tell = lambda done, total, note: None,
) -> LifeStudy:
    """Lets the device live through the files, then scores by the same policy. Nothing but the first phase is told to
    it: it decides by itself. `healthy_files`: how many of the first files are healthy; None: half of all records."""
    image = device.image
    settings = image.settings.life if image is not None and image.settings is not None else None
    if image is None or settings is None:
        raise KilotuneError(
            "bad_argument", "the model image is of a device that learns once", "compile it without --once"
        )
    records = records_of(recordings, image, settings, every_s)
    if len(records) <= 2 * settings.first:
        raise KilotuneError(
            "too_few_windows",
            f"{len(records)} records are no history: a device does not watch before record {2 * settings.first}",
            f"give more than {2 * settings.first} records of {settings.record} windows, or less in --first or --record",
        )
    healthy = len(records) // 2 if healthy_files is None else sum(r.file < healthy_files for r in records)
    moments = _live(device, records, settings, options, progress)
    span_s = None if every_s is None else len(recordings) * every_s
    rows = [_row(DEVICE, "device", _watched(moments), records, healthy, span_s)]
    measured = [m.only(m.alive) for m in measure(image, [r.recording for r in records])]
    prior = image.profile.feature_std.astype(float) if image.profile is not None else None
    for k, name in enumerate(life_policy.ROWS):
        progress(len(records) + k, len(records) + len(life_policy.ROWS), name)
        seen = life_policy.watch(
            name, measured, settings, stored=image.reservoir.windows, seed=options.seed, prior_std=prior
        )
        rows.append(_row(name, "computer", seen, records, healthy, span_s))
    end = story_of(device)
    return LifeStudy(
        rows=tuple(rows),
        moments=tuple(moments),
        records=len(records),
        healthy=healthy,
        first=settings.first,
        anchor=settings.anchor,
        seconds=span_s,
        verdict=end.verdict,
        alarm=(end.since or 0) if end.state == "alarm" else 0,
    )


def _live(
    device: Device, records: Sequence[Record], settings: LifeSettings, options: LearnOptions, progress: Tell
) -> list[Moment]:
    first = records[: settings.first]
    device.learn_with(
        [r.recording.samples for r in first], replace(options, lives=True), rate_hz=first[0].recording.rate_hz
    )
    moments = [Moment(r.recording.name, r.t_s, None, 0.0, None, False, 0.0, 0, 1, None) for r in first]
    for t, record in enumerate(records[settings.first :], settings.first):
        progress(t, len(records) + len(life_policy.ROWS), DEVICE)
        moments.append(_moment(device, record))
    device.settled_phase()
    return moments


def _moment(device: Device, record: Record) -> Moment:
    device.settled_phase()
    before = device.life()
    scores = device.score(record.recording.samples, rate_hz=record.recording.rate_hz)
    require_all(scores, record.recording.name)
    after = device.life()
    over = [bool(r.flags & WindowFlag.anomaly) for r in scores]
    judged = bool(after.judged)
    return Moment(
        source=record.recording.name,
        t_s=record.t_s,
        score=after.score / Q10 if judged else None,
        limit=before.limit / Q10,
        distance=after.distance / Q10 if judged and before.anchored else None,
        watched=before.settled > 0,
        over=sum(over) / len(over) if over else 0.0,
        alarm=after.alarm,
        phases=before.phases,
        drift=before.drift_1 / Q10 if before.drifts else None,
    )


def _watched(moments: Sequence[Moment]) -> Watched:
    begins = [t for t, m in enumerate(moments) if m.watched]
    alarms = sorted({m.alarm - 1 for m in moments if m.alarm})  # ages count the record that is over
    return Watched(begins[0] if begins else None, tuple(m.over if m.watched else None for m in moments), tuple(alarms))


def _row(
    name: str, where: str, seen: Watched, records: Sequence[Record], healthy: int, span_s: float | None
) -> LifeRow:
    n = len(records)
    false = sum(t < healthy for t in seen.alarms)
    late = [t for t in seen.alarms if t >= healthy]
    over = [share for share in seen.over[:healthy] if share is not None]
    watched_s = None
    if span_s is not None and seen.watching_from is not None and seen.watching_from < healthy < n:
        watched_s = records[healthy].t_s - records[seen.watching_from].t_s
    elif span_s is not None and seen.watching_from is not None and seen.watching_from < healthy:
        watched_s = span_s - records[seen.watching_from].t_s
    return LifeRow(
        name=name,
        where=where,
        watching_from=seen.watching_from,
        false_alarms=false,
        false_per_month=false * MONTH_S / watched_s if watched_s else None,
        windows_over=sum(over) / len(over) if over else None,
        first_alarm=late[0] if late else None,
        lead_records=n - late[0] if late else None,
        lead_s=span_s - records[late[0]].t_s if late and span_s is not None else None,
    )
