"""Streams recordings through a device: learns from some, scores the others, one result per window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kilotune.device.learning import LearnOptions
from kilotune.device.life_words import LifeStory, story_of
from kilotune.errors import KilotuneError
from kilotune.link.status import RefusedError
from kilotune.studies.mixed import Mixed, mixed
from kilotune.studies.verdict import Verdict, verdict
from kilotune.studies.windows import DEAD, Window, require_all
from kilotune.terms import Q10, Phase, Refusal, WindowFlag, word_of

if TYPE_CHECKING:
    from pathlib import Path

    from kilotune.device.device import Device
    from kilotune.device.results import ProgressCall
    from kilotune.image.features import FeatureConfig
    from kilotune.link.messages import GuardStatus, LearnReport, WindowResult
    from kilotune.recordings import Recording

# Reports progress: done, total, what.
Tell = Callable[[float, float, str], None]


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One window of one recording, in the order of the stream."""

    source: str
    phase: Phase  # learn or detect
    window: Window
    taught: bool = True  # whether the device has learned a machine to compare it with


@dataclass(frozen=True, slots=True)
class StreamSummary:
    learned: LearnReport | None  # the device's learn report; None if nothing was learned
    guard: GuardStatus | None  # what its guardrails found; None if nothing was learned
    windows: int
    anomalies: int
    refused: int
    committed: bool  # what was learned is in the device's flash
    verdicts: tuple[Verdict, ...] = ()  # one a recording that was scored
    life: LifeStory | None = None  # what a device that goes on learning says at the end; None: it learns once
    mixed: Mixed | None = None  # windows learned from that lie apart from the others
    stopped: bool = False  # before scoring: a device that goes on learning would have committed those


def learn(
    device: Device,
    recordings: Sequence[Recording],
    options: LearnOptions,
    *,
    labels: Sequence[int] | None = None,
    progress: Tell | None = None,
    emit: Callable[[Window], None] | None = None,
) -> LearnReport:
    """One learn phase over all recordings, each as a separate stream; gives the device's report.

    `labels`: one class per recording, for classifiers. `emit` gets every window.
    Returns when training has ended.
    """
    if labels is not None and len(labels) != len(recordings):
        raise KilotuneError(
            "bad_argument",
            f"{len(labels)} labels for {len(recordings)} recordings",
            "give one label per recording, in order",
        )
    model = device.info()
    # Windows are cut from stretches without a gap; those that are too short for one say nothing.
    each = [(s, k) for k, r in enumerate(recordings) for s in r.stretches if len(s.samples) >= model.window]
    if not each:
        raise KilotuneError(
            "too_few_windows",
            f"no recording to learn from has {model.window} samples without a gap, which is one window",
            "give longer recordings",
        )

    def pass_on(result: WindowResult) -> None:
        if emit is not None:
            emit(_window(result, model.window, model.hop, model.rate_hz))

    return device.learn_with(
        [stretch.samples for stretch, _ in each],
        options,
        None if labels is None else [labels[k] for _, k in each],
        rate_hz=recordings[0].rate_hz,
        progress=_relay(progress),
        on_result=pass_on,
    )


def score(device: Device, recording: Recording, *, emit: Callable[[Window], None] | None = None) -> list[Window]:
    """The device's result for every window of a recording; `emit` gets each as soon as it is known.

    No window crosses a gap, and stretches that are too short for one have none.
    """
    size = device.info().window
    out: list[Window] = []
    for stretch, begin_s in zip(recording.stretches, recording.times_s, strict=True):
        if len(stretch.samples) >= size or len(recording.starts) == 1:
            out += _score_stretch(device, stretch, begin_s, len(out), emit)
    return out


def _score_stretch(
    device: Device, stretch: Recording, begin_s: float, before: int, emit: Callable[[Window], None] | None
) -> list[Window]:
    """`before`: windows of the recording that came before this stretch, which began at `begin_s`."""
    model = device.info()

    def window(result: WindowResult) -> Window:
        found = _window(result, model.window, model.hop, stretch.rate_hz)
        return replace(found, index=found.index + before, t_s=found.t_s + begin_s)

    def pass_on(result: WindowResult) -> None:
        if emit is not None:
            emit(window(result))

    scores = device.score(stretch.samples, rate_hz=stretch.rate_hz, on_result=pass_on)
    require_all(scores, stretch.name)
    return [window(r) for r in scores]


def without_window(recordings: Sequence[Recording], window: int) -> list[str]:
    """What to tell of recordings, or stretches of them, that are too short for one window."""
    short = [r.name for r in recordings if not r.windows(window, window)]
    notes = []
    if short:
        names = ", ".join(short[:3]) + (", ..." if len(short) > 3 else "")
        what = "is shorter than one window" if len(short) == 1 else "are shorter than one window"
        count = "" if len(short) == 1 else f"{len(short)} recordings "
        notes.append(
            f"{count}{f'({names})' if count else names} {what}: nothing in {'it' if not count else 'them'} counts"
        )
    lost = sum(len(s.samples) < window for r in recordings if r.name not in short for s in r.stretches)
    if lost:
        notes.append(f"{lost} stretch{'es' if lost > 1 else ''} between gaps, shorter than one window, left out")
    return notes


def _relay(progress: Tell | None) -> ProgressCall | None:
    if progress is None:
        return None
    return lambda p: progress(p.done, p.total, p.what)


def _window(result: WindowResult, window: int, hop: int, rate_hz: float) -> Window:
    refused = tuple(word_of(bit) for bit in Refusal if result.refused & bit)
    scored = bool(result.flags & WindowFlag.scored)
    dead = bool(result.refused & DEAD)
    return Window(
        index=result.index,
        t_s=(result.index * hop + window) / rate_hz,
        score=result.score / Q10 if scored else None,
        anomaly=bool(result.flags & WindowFlag.anomaly) and not dead,
        learned=bool(result.flags & WindowFlag.learned),
        refused=refused,
        category=result.category,
        dead=dead,
    )


def split(
    recordings: Sequence[Recording], *, files: int | None, seconds: float | None
) -> tuple[list[Recording], list[Recording]]:
    """(to learn from, to detect in): the first `files`, or the first `seconds` of the whole stream."""
    if seconds is None:
        count = 1 if files is None else files
        if len(recordings) <= count and files is None and len(recordings) == 1:
            half = recordings[0].seconds / 2
            return [recordings[0].cut(seconds=half)], [recordings[0].cut(start_s=half)]
        return list(recordings[:count]), list(recordings[count:])
    first: list[Recording] = []
    rest: list[Recording] = []
    left = seconds
    for recording in recordings:
        if left <= 0:
            rest.append(recording)
        elif recording.seconds <= left:
            first.append(recording)
        else:
            first.append(recording.cut(seconds=left))
            rest.append(recording.cut(start_s=left))
        left -= recording.seconds
    return first, rest


def run(
    device: Device,
    *,
    to_learn: Sequence[Recording],
    to_detect: Sequence[Recording],
    options: LearnOptions,
    labels: Sequence[int] | None,
    commit: bool,
    emit: Callable[[StreamEvent], None],
    progress: Tell | None = None,
    on_refused_commit: Callable[[RefusedError], None] | None = None,
) -> StreamSummary:
    """Learns from the first recordings, commits where asked to, then scores the others window by window.

    `on_refused_commit`: told where the device did not take the commit; the stream then goes on with what it learned,
    which is in its RAM. Without it, that is raised. Where windows lie apart from the others and were not left out,
    nothing is committed; nor is anything scored by a device that goes on learning, whose next phase would commit.
    """
    report = learn(device, to_learn, options, labels=labels, progress=progress) if to_learn else None
    guard = device.status().guard if to_learn else None
    found = mixed(device, report, options.apart) if report is not None else None
    doubtful = found is not None and not found.left_out
    stopped = doubtful and options.lives
    committed = False
    if (
        commit and guard is not None and not guard.returned and not doubtful
    ):  # after a return, the device is at its checkpoint already
        committed = _commit(device, on_refused_commit)
    known = taught(device)
    verdicts = []
    seen: list[Window] = []
    for recording in () if stopped else to_detect:

        def pass_on(window: Window, source: str = recording.name) -> None:
            emit(StreamEvent(source, Phase.detect, window, known))

        windows = score(device, recording, emit=pass_on)
        verdicts.append(verdict(recording.name, windows, taught=known))
        seen += windows
    anomalies, refused = sum(w.anomaly for w in seen), sum(bool(w.refused) for w in seen)
    story = story_of(device)
    life = story if story.state != "learns once" else None
    return StreamSummary(report, guard, len(seen), anomalies, refused, committed, tuple(verdicts), life, found, stopped)


def _commit(device: Device, on_refused: Callable[[RefusedError], None] | None) -> bool:
    try:
        device.commit()
    except RefusedError as error:
        if on_refused is None:
            raise
        on_refused(error)
        return False
    return True


# --- facts about a device and its model, in SI units -----------------------------------------------


def model_rate_hz(device: Device) -> float:
    """Sampling rate of the device's model; an error if it has no features."""
    model = device.info()
    if model.axes == 0:
        device.require_model()
        raise KilotuneError(
            "no_features",
            "the device's model takes ready inputs, not samples",
            "use `kilotune infer` and `kilotune train`",
        )
    return model.rate_hz


def taught(device: Device) -> bool:
    """Whether the device has learned a machine; a classifier judges without."""
    head = device.calibration_head()
    return head is None or bool(head.calibrated) or device.info().classes > 0


def threshold(device: Device) -> float | None:
    """The threshold in force, log2 of the score: the adapter's, else the base model's; None: not known."""
    head = device.calibration_head()
    if head is None:
        return None
    if head.calibrated:
        return head.threshold_q10 / Q10
    profile = device.image.profile if device.image is not None else None
    return None if profile is None else profile.base_threshold


def features_of(model: Path) -> FeatureConfig:
    """The features in a .tflite's metadata; an error if it has none."""
    from kilotune.compiler.compile import read_file
    from kilotune.image import metadata
    from kilotune.tflite import model as tflite_model

    features = metadata.from_model(tflite_model.read(read_file(model))).features
    if features is None:
        raise KilotuneError(
            "no_features",
            f"{model.name} takes ready inputs, as its metadata has no features",
            "use a model made with features",
        )
    return features
