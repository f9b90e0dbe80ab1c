"""What a device that goes on learning says of itself, as a verdict in words and as figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.link.messages import Life
from kilotune.terms import Q10, AlarmCause, Phase

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.image.image import Image

_ONCE = {
    Phase.idle: "it has learned no machine yet, and knows only what its base model was trained on",
    Phase.learn: "it collects windows to learn from, once",
    Phase.train: "it is training, once",
    Phase.detect: "it detects; it has learned once, and what it has learned stays until it is taught again",
}
CAUSES = {AlarmCause.threshold: "above the threshold", AlarmCause.anchor: "far from the anchor"}


_NO_LIFE = Life(**{f.name: 0 for f in fields(Life)})


@dataclass(frozen=True, slots=True)
class LifeStory:
    """Ages are in records since the life began; everything of a distance is in log2."""

    state: str  # learns once, settling, watching, alarm or accepting
    verdict: str  # a sentence on it
    learning: bool  # a phase is under way
    age: int
    since: int | None  # age at which the state began
    causes: tuple[str, ...]  # of the alarm
    bands: tuple[str, ...]  # in which the last alarmed record lay farthest out, the farthest first
    alarmed: int  # records, of the last `of`
    rule: tuple[int, int]  # so many alarmed records, of so many, are an alarm
    phases: int
    next_phase: int
    drifts: tuple[float, ...]  # of the last phases, the last one first
    allowance: float  # what the threshold includes for them
    anchored: bool
    score: float | None  # of the last record, above the held-back windows; None: none was judged since the start
    limit: float
    distance: float | None  # from the anchor
    anchor_limit: float  # above which a record is alarmed
    normals: int  # what an operator has said of alarms, and the age at the last time
    faults: int
    told: int


def story_of(device: Device) -> LifeStory:
    """What a device says now; the names of bands are those of its image, where the caller has that."""
    phase = device.status().phase
    try:
        life = device.life()
    except KilotuneError as error:
        if error.code != "no_life":
            raise
        story = life_story(_NO_LIFE, phase)
        return replace(story, verdict=f"{story.verdict}; its firmware was built without going on learning")
    return life_story(life, phase, device.image)


def life_story(life: Life, phase: Phase = Phase.detect, image: Image | None = None) -> LifeStory:
    """`image` gives names to the bands."""
    bands = _bands(life, () if image is None or image.features is None else image.features.names())
    of = life.rule_of or 1
    alarmed = (life.alarmed & ((1 << of) - 1)).bit_count()
    causes = tuple(words for cause, words in CAUSES.items() if life.causes & cause)
    drifts = (life.drift_1, life.drift_2, life.drift_3)[: life.drifts]
    state, since, verdict = _state(life, phase, causes, bands, alarmed)
    if phase is Phase.train and life.lives:
        verdict += "; learning on now"
    elif phase is Phase.learn and life.lives:
        verdict = f"in its first phase, of which {life.age} records are over: nothing is judged before that ends"
    return LifeStory(
        state=state,
        verdict=verdict,
        learning=bool(life.lives) and phase in (Phase.learn, Phase.train),
        age=life.age,
        since=since,
        causes=causes,
        bands=bands,
        alarmed=alarmed,
        rule=(life.rule_alarmed, life.rule_of),
        phases=life.phases,
        next_phase=life.next_phase,
        drifts=tuple(d / Q10 for d in drifts),
        allowance=life.allowance / Q10,
        anchored=bool(life.anchored),
        score=life.score / Q10 if life.judged else None,
        limit=life.limit / Q10,
        distance=life.distance / Q10 if life.judged and life.anchored else None,
        anchor_limit=life.anchor_limit / Q10,
        normals=life.normals,
        faults=life.faults,
        told=life.told,
    )


def _state(
    life: Life, phase: Phase, causes: tuple[str, ...], bands: tuple[str, ...], alarmed: int
) -> tuple[str, int | None, str]:
    if not life.lives:
        return "learns once", None, _ONCE[phase]
    if life.alarm:
        where = f"; most in {', '.join(bands)}" if bands else ""
        why = " and ".join(causes)
        return "alarm", life.alarm, f"ALARM since record {life.alarm}{_ago(life.age - life.alarm)}: {why}{where}"
    if life.age < life.accepting:
        until = f"until record {life.accepting}, now {life.age}"
        return "accepting", life.told, f"learning an alarm as normal, because an operator said so, {until}"
    if not life.settled:
        drift = f", and drifted by {life.drift_1 / Q10:.1f} log2 before the last phase" if life.drifts else ""
        text = f"still settling: it has seen {_records(life.age)}{drift}; it raises no alarms yet"
        return "settling", 0, text
    text = f"watching since record {life.settled}{_ago(life.age - life.settled)}"
    if alarmed:
        text += f"; {alarmed} of the last {life.rule_of} records alarmed, {life.rule_alarmed} make an alarm"
    return "watching", life.settled, text


def detail_in_words(story: LifeStory) -> list[tuple[str, str]]:
    """What stands behind the verdict, as rows for people."""
    if story.state == "learns once":
        return []
    drift = ", ".join(f"{d:.2f}" for d in story.drifts) or "not known yet"
    rows = [
        ("age", _records(story.age)),
        ("phases", f"{story.phases}; the next at record {story.next_phase}"),
        ("drift a phase", f"{drift} log2 (the last one first); the threshold includes {story.allowance:.2f} for it"),
        ("alarm rule", f"{story.rule[0]} of {story.rule[1]} records; {story.alarmed} are alarmed"),
    ]
    if story.score is not None:
        rows.append(("last record", f"{story.score:+.2f} log2, alarmed above {story.limit:+.2f}"))
    if story.distance is not None:
        rows.append(("from the anchor", f"{story.distance:+.2f} log2, alarmed above {story.anchor_limit:+.2f}"))
    elif not story.anchored:
        rows.append(("from the anchor", "there is none yet: it is taken when the machine has settled"))
    if story.bands and story.state != "alarm":
        rows.append(("last alarmed record", f"most in {', '.join(story.bands)}"))
    if story.normals or story.faults:
        said = f"normal {story.normals} times, fault {story.faults} times, the last time at record {story.told}"
        rows.append(("an operator said", said))
    return rows


def _bands(life: Life, names: Sequence[str]) -> tuple[str, ...]:
    found = []
    for band in (life.band_1, life.band_2, life.band_3):
        if band:
            at = abs(band) - 1
            name = names[at] if at < len(names) else f"feature {at}"
            found.append(f"{name} ({'more' if band > 0 else 'less'})")
    return tuple(found)


def _records(n: int) -> str:
    return f"{n} record{'' if n == 1 else 's'}"


def _ago(n: int) -> str:
    return f", {_records(n)} ago" if n else ""
