"""Which method suits a machine: learns from its healthy recordings on the twin with each, and compares.

Healthy recordings are split by time, never by window: the first part of each is learned from, a window is
left out, the rest is the test. Neighbouring windows share what was going on and would flatter every figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.report.metrics import Separation, separation
from kilotune.terms import Method, Scorer
from kilotune.twin_library import twin_library

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kilotune.device.learning import LearnOptions
    from kilotune.image.image import Image
    from kilotune.recordings import Recording

    Floats = npt.NDArray[np.float64]

LEAST_LEARN, LEAST_TEST = 8, 8  # windows
AUC_TIE = 0.005  # rows this near in AUC are alike: the smaller one is recommended


@dataclass(frozen=True, slots=True)
class Row:
    """One way of scoring."""

    name: str
    where: str  # "device" or "host" (a plain baseline)
    separation: Separation
    ram_bytes: int | None  # model, adapter, training and reservoir on the device; None for a host baseline
    image_bytes: int | None
    detail: str = ""  # what the device reported


@dataclass(frozen=True, slots=True)
class Evaluation:
    rows: tuple[Row, ...]
    learn_windows: int
    recommended: str
    reason: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """A method and scorer to try on the device."""

    name: str
    method: Method
    scorer: Scorer
    passes: int | None  # None: as asked for
    force: bool


WAYS = (
    Way("calibration", Method.bias, Scorer.residual, 0, False),
    Way("bias", Method.bias, Scorer.residual, None, True),
    Way("head", Method.head, Scorer.residual, None, True),
    Way("bias+head", Method.bias_and_head, Scorer.residual, None, True),
    Way("nearest windows", Method.bias, Scorer.nearest, 0, False),
    Way("bias+head and nearest", Method.bias_and_head, Scorer.combined, None, True),
    Way("the device's own choice", Method.bias_and_head, Scorer.automatic, None, False),
)


def split_healthy(
    recordings: Sequence[Recording], *, share: float, window: int
) -> tuple[list[Recording], list[Recording]]:
    """(to learn from, to test on): the first `share` of each in time, a window between left out."""
    learn: list[Recording] = []
    test: list[Recording] = []
    for recording in recordings:
        at = int(recording.samples.shape[0] * share)
        if at < window or recording.samples.shape[0] - at - window < window:
            raise KilotuneError(
                "too_few_windows",
                f"{recording.name} has {recording.samples.shape[0]} samples; "
                f"a part to learn from and one to test on need more windows of {window}",
                "give longer healthy recordings",
            )
        learn.append(replace(recording, samples=recording.samples[:at]))
        test.append(replace(recording, samples=recording.samples[at + window :]))
    return learn, test


def evaluate(
    model: bytes | Path,
    healthy: Sequence[Recording],
    fault: Sequence[Recording],
    *,
    options: LearnOptions,
    share: float = 0.5,
    progress: Callable[[float, float, str], None] = lambda done, total, note: None,
) -> Evaluation:
    """Compares every way of `WAYS`, the untouched model and plain baselines on these recordings."""
    from kilotune.compiler.compile import CompileOptions, compile_with

    methods = dict.fromkeys(way.method for way in WAYS)
    images = {method: compile_with(model, CompileOptions(method=method)) for method in methods}
    plainest = images[Method.bias]
    config = plainest.features
    if config is None:
        raise KilotuneError(
            "no_features",
            "the model takes ready inputs, not samples",
            "use a model with features",
        )
    learn, test = split_healthy(healthy, share=share, window=config.window)
    learn_windows = sum(_windows(r, config.window, config.hop) for r in learn)
    notes = _notes(learn_windows, test, fault, config.window, config.hop)
    rows = [_untouched(plainest, test, fault)]
    for k, way in enumerate(WAYS):
        progress(k, len(WAYS) + 1, way.name)
        rows.append(_on_twin(images[way.method], way, learn, test, fault, options))
    progress(len(WAYS), len(WAYS) + 1, "baselines")
    rows += _baselines(plainest, learn, test, fault, options.seed)
    recommended, reason = recommend(rows)
    return Evaluation(tuple(rows), learn_windows, recommended, reason, tuple(notes))


def _windows(recording: Recording, window: int, hop: int) -> int:
    return max(0, (recording.samples.shape[0] - window) // hop + 1)


def _notes(
    learn_windows: int, test: Sequence[Recording], fault: Sequence[Recording], window: int, hop: int
) -> list[str]:
    tested = sum(_windows(r, window, hop) for r in test)
    faulty = sum(_windows(r, window, hop) for r in fault)
    if learn_windows < LEAST_LEARN or tested < LEAST_TEST or faulty < LEAST_TEST:
        raise KilotuneError(
            "too_few_windows",
            f"too few windows: {learn_windows} to learn from, {tested} healthy, {faulty} faulty to test on",
            f"give recordings of {window + (LEAST_TEST - 1) * hop} samples at least, {LEAST_TEST} windows",
        )
    notes = []
    if min(tested, faulty) < 50:
        notes.append(
            f"only {tested} healthy and {faulty} faulty windows were tested: "
            f"a rate is known to about {100 / min(tested, faulty):.0f} points"
        )
    if learn_windows < 24:
        notes.append(f"only {learn_windows} windows were learned from: the threshold will be rough")
    return notes


def _scores(device: Any, recordings: Sequence[Recording]) -> list[float]:
    from kilotune.studies.streaming import score

    return [w.score for r in recordings for w in score(device, r) if w.score is not None]


def _untouched(image: Image, test: Sequence[Recording], fault: Sequence[Recording]) -> Row:
    from kilotune.studies.streaming import threshold
    from kilotune.targets.connect import connect

    with connect("twin", image, fresh=True) as device:
        limit = threshold(device)
        found = separation(_scores(device, test), _scores(device, fault), float("inf") if limit is None else limit)
    return Row("nothing", "device", found, _ram(image), len(image.content), "the model as it was shipped")


def _on_twin(
    image: Image,
    way: Way,
    learn: Sequence[Recording],
    test: Sequence[Recording],
    fault: Sequence[Recording],
    options: LearnOptions,
) -> Row:
    from kilotune.device.wording import report_in_words
    from kilotune.studies.streaming import learn as learn_from
    from kilotune.targets.connect import connect
    from kilotune.terms import Q10

    asked = replace(
        options,
        scorer=way.scorer,
        passes=options.passes if way.passes is None else way.passes,
        force=way.force,
    )
    with connect("twin", image, fresh=True) as device:
        report = learn_from(device, learn, asked)
        found = separation(_scores(device, test), _scores(device, fault), report.threshold / Q10)
    return Row(way.name, "device", found, _ram(image), len(image.content), report_in_words(report))


def _ram(image: Image) -> int:
    from kilotune.targets.fit import ram_budget

    return sum(ram_budget(image).values())


def device_features(image: Image, recording: Recording) -> Floats:
    """(windows, features) as the device computes them, in log2 units."""
    import numpy as np

    from kilotune.device.samples import to_counts

    config = image.features
    assert config is not None
    counts = to_counts(recording, config.full_scale_g)
    found = twin_library().features(image.content, image.header.features, counts)
    return np.asarray(found, np.float64) / 1024.0


def _baselines(
    image: Image, learn: Sequence[Recording], test: Sequence[Recording], fault: Sequence[Recording], seed: int
) -> list[Row]:
    """Without a network, in floating point, from the same features; a quarter is held back."""
    import numpy as np

    x, t, f = (np.concatenate([device_features(image, r) for r in part]) for part in (learn, test, fault))
    held = np.arange(len(x)) % 4 == 3
    own, kept = x[~held], x[held]
    mean, deviation = own.mean(0), own.std(0) + 1e-3
    rows = [_host("z-score of the features", lambda v: (((v - mean) / deviation) ** 2).mean(1), kept, t, f)]
    try:
        from sklearn.ensemble import IsolationForest
    except ImportError:
        return rows
    forest = IsolationForest(random_state=seed).fit(own)
    rows.append(_host("isolation forest", lambda v: -forest.score_samples(v), kept, t, f))
    return rows


def _host(name: str, score: Callable[[Floats], Floats], held: Floats, test: Floats, fault: Floats) -> Row:
    s = score(held)
    limit = float(s.mean() + 3 * s.std())
    return Row(name, "host", separation(score(test).tolist(), score(fault).tolist(), limit), None, None)


def recommend(rows: Sequence[Row]) -> tuple[str, str]:
    """The least method that is as good as the best on the device, and why; a baseline that wins is named."""
    own = [r for r in rows if r.where == "device" and r.name != "the device's own choice"]
    best = max(own, key=lambda r: r.separation.auc)
    alike = [r for r in own if best.separation.auc - r.separation.auc <= AUC_TIE and _alarms_alike(r, best)]
    # The rows stand in the order of what they cost: calibration before training, biases before weights.
    chosen = min(alike or [best], key=own.index)
    parts = [f"AUC {chosen.separation.auc:.3f}, {_rates(chosen)}"]
    if chosen is not best:
        parts.append(f"{best.name} is no better by more than {AUC_TIE} ({best.separation.auc:.3f}) and costs more")
    nothing = next((r for r in own if r.name == "nothing"), None)
    if nothing is not None and chosen is not nothing:
        parts.append(f"without learning {nothing.separation.auc:.3f}, {_rates(nothing)}")
    host = max((r for r in rows if r.where == "host"), key=lambda r: r.separation.auc, default=None)
    if host is not None and host.separation.auc > best.separation.auc:
        parts.append(f"a plain baseline does better here: {host.name}, AUC {host.separation.auc:.3f}")
    if best.separation.auc < 0.7:
        parts.append("none separates well: is the fault in the measured band, and at this place?")
    return chosen.name, "; ".join(parts)


def _alarms_alike(row: Row, best: Row) -> bool:
    """No more than three points worse in false alarms and detection together."""
    return _cost(row.separation) - _cost(best.separation) <= 0.03


def _cost(found: Separation) -> float:
    return found.false_alarms - found.detection


def _rates(row: Row) -> str:
    s = row.separation
    return f"{100 * s.detection:.0f} % detected at {100 * s.false_alarms:.0f} % false alarms"
