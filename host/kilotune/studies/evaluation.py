"""Which method suits a machine: learns from its healthy recordings on the twin with each, and compares.

Samples go through the twin once. It computes the features of every window, and says which windows a dead or overdriven
sensor has spoiled. Every method then learns from the same features, and scores the same features.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.report.intervals import intervals
from kilotune.report.metrics import separation
from kilotune.studies import baselines
from kilotune.studies.alarms import episodes, sustained, windows_per_hour
from kilotune.studies.holding_out import Held, hold_out, split_healthy
from kilotune.studies.recommending import FileRow, Row, on_device, recommend
from kilotune.studies.sides import Doubt, compare, judge
from kilotune.studies.windows import UNLEARNED, Measured, measure
from kilotune.terms import Q10, Method, Scorer

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.device.learning import LearnOptions
    from kilotune.image.features import FeatureConfig
    from kilotune.image.image import Image
    from kilotune.link.messages import LearnReport
    from kilotune.recordings import Recording

__all__ = ["WAYS", "Evaluation", "Learned", "Row", "evaluate", "recommend", "split_healthy"]

LEAST_LEARN, LEAST_TEST = 8, 8  # windows
NO_RECOMMENDATION = "none"

Files = list[list[float]]  # scores, file by file


@dataclass(frozen=True, slots=True)
class Learned:
    """Windows to learn from: offered, and refused because of a broken sensor; and those that the device kept."""

    offered: int
    refused: int
    stored: int
    held: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    rows: tuple[Row, ...]
    learned: Learned
    how: str  # what the test is
    recommended: str
    on_device: str
    reason: str
    warnings: tuple[str, ...]

    @property
    def learn_windows(self) -> int:
        return self.learned.offered


@dataclass(frozen=True, slots=True)
class Way:
    """A method and scorer to try on the device."""

    name: str
    method: Method
    scorer: Scorer
    passes: int | None  # None: as requested
    force: bool


# In the order of cost: calibration before training, biases before weights.
WAYS = (
    Way("calibration", Method.bias, Scorer.residual, 0, False),
    Way("nearest windows", Method.bias, Scorer.nearest, 0, False),
    Way("bias", Method.bias, Scorer.residual, None, True),
    Way("head", Method.head, Scorer.residual, None, True),
    Way("bias+head", Method.bias_and_head, Scorer.residual, None, True),
    Way("bias+head and nearest", Method.bias_and_head, Scorer.combined, None, True),
    Way("the device's own choice", Method.bias_and_head, Scorer.automatic, None, False),
)


@dataclass(frozen=True, slots=True)
class Windows:
    """All data of a study, file by file, and how the device is to learn."""

    learn: tuple[Measured, ...]
    test: tuple[Measured, ...]
    fault: tuple[Measured, ...]
    config: FeatureConfig
    options: LearnOptions


def evaluate(
    model: bytes | Path,
    healthy: Sequence[Recording],
    fault: Sequence[Recording],
    *,
    options: LearnOptions,
    healthy_test: Sequence[Recording] = (),
    share: float = 0.5,
    by: str = "auto",
    reservoir: int | None = None,
    progress: Callable[[float, float, str], None] = lambda done, total, note: None,
) -> Evaluation:
    """Compares every method of `WAYS`, the unchanged model and simple baselines on these recordings.

    `healthy_test`: healthy recordings to test on only; without them, `hold_out` chooses by `by` and `share`.
    `reservoir`: windows that the device stores.
    """
    images = _images(model, reservoir)
    plainest = images[Method.bias]
    config = plainest.features
    if config is None:
        raise KilotuneError("no_features", "the model takes ready inputs, not samples", "use a model with features")
    steps = len(WAYS) + 2
    progress(0, steps, "windows")
    parts = hold_out(healthy, healthy_test, fault=fault, share=share, window=config.window, by=by)
    doubts = compare([*parts.learn, *parts.test], fault, config.full_scale_g)
    found = _windows(plainest, parts, fault, doubts, options)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the twin and NumPy leave Python to the others
        plain = pool.submit(baseline_rows, plainest, found)
        rows, reports = _device_rows(images, found, pool, lambda done, note: progress(done, steps, note))
        progress(len(WAYS) + 1, steps, "baselines")
        rows = plain.result() + rows
    recommended, reason = recommend(rows)
    warnings = [d.text for d in doubts] + _notes(found) + list(parts.notes)
    if because := judge(doubts):
        reason = f"do not trust this: the sides differ in how they were recorded ({because}). The figures say: {reason}"
        recommended = NO_RECOMMENDATION
    stored = reports[0] if reports else None
    learned = Learned(
        sum(len(m) for m in found.learn),
        sum(int((~m.learnable).sum()) for m in found.learn),
        0 if stored is None else stored.learned,
        0 if stored is None else stored.held,
    )
    return Evaluation(
        tuple(rows), learned, parts.how, recommended, on_device(rows) if not because else NO_RECOMMENDATION, reason,
        tuple(warnings),
    )  # fmt: skip


def _images(model: bytes | Path, reservoir: int | None) -> dict[Method, Image]:
    from kilotune.compiler.compile import CompileOptions, compile_with

    chosen = CompileOptions() if reservoir is None else CompileOptions(reservoir=reservoir)
    methods = dict.fromkeys(way.method for way in WAYS)
    return {method: compile_with(model, replace(chosen, method=method)) for method in methods}


def _windows(
    image: Image, parts: Held, fault: Sequence[Recording], doubts: Sequence[Doubt], options: LearnOptions
) -> Windows:
    config = image.features
    assert config is not None
    learn, test, bad = (tuple(measure(image, side)) for side in (parts.learn, parts.test, fault))
    found = Windows(learn, test, bad, config, options)
    counts = _counts(found)
    if counts[0] < LEAST_LEARN or min(counts[1:]) < LEAST_TEST:
        because = "".join(f"; {text}" for text in (*_troubles(found), *(d.text for d in doubts)))
        raise KilotuneError(
            "too_few_windows",
            f"too few windows: {counts[0]} to learn from, {counts[1]} healthy, {counts[2]} faulty to test on{because}",
            f"give recordings of {config.window + (LEAST_TEST - 1) * config.hop} samples or more, {LEAST_TEST} windows",
        )
    return found


def _counts(found: Windows) -> tuple[int, int, int]:
    """Numbers of windows: to learn from, and healthy and faulty ones to test on."""
    test, bad = (sum(int(m.alive.sum()) for m in side) for side in (found.test, found.fault))
    return sum(int(m.learnable.sum()) for m in found.learn), test, bad


def _troubles(found: Windows) -> list[str]:
    """Notes on sensor faults, file by file."""
    out = []
    for side in (found.learn, found.test, found.fault):
        for m in side:
            lost = int((~(m.learnable if side is found.learn else m.alive)).sum())
            if m.troubles:
                spoiled = int((m.refused & UNLEARNED).astype(bool).sum())
                what = ", ".join(m.troubles)
                dead = " (a dead sensor?)" if "constant" in m.troubles else ""
                out.append(
                    f"{m.name}: the sensor spoiled {spoiled} of {len(m)} windows, {what}{dead}; {lost} do not count"
                )
    return out


def _notes(found: Windows) -> list[str]:
    notes = _troubles(found)
    learned, *sizes = _counts(found)
    if min(sizes) < 50:
        notes.append(
            f"only {sizes[0]} healthy and {sizes[1]} faulty windows were tested: "
            f"so rates are accurate to about {100 / min(sizes):.0f} percentage points"
        )
    if learned < 24:
        notes.append(f"only {learned} windows were learned from, so the threshold is rough")
    if missing := baselines.missing():
        notes.append(f"not compared: {', '.join(missing)}")
    return notes


# --- rows of the device --------------------------------------------------------------------------------


def _device_rows(
    images: dict[Method, Image], found: Windows, pool: Executor, progress: Callable[[float, str], None]
) -> tuple[list[Row], list[LearnReport]]:
    untouched = pool.submit(_untouched, images[Method.bias], found)
    learning = [pool.submit(_on_twin, images[way.method], way, found) for way in WAYS]
    rows = [untouched.result()]
    reports = []
    for k, (way, learned) in enumerate(zip(WAYS, learning, strict=True), 1):
        progress(k, way.name)
        row, report = learned.result()
        rows.append(row)
        reports.append(report)
    return rows, reports


def _untouched(image: Image, found: Windows) -> Row:
    from kilotune.studies.streaming import threshold
    from kilotune.targets.connect import connect

    with connect("twin", image, fresh=True) as device:
        limit = threshold(device)
        scores = _scores(device, found.test), _scores(device, found.fault)
    row = judged("nothing", "device", *scores, float("inf") if limit is None else limit, found)
    return replace(row, ram_bytes=_ram(image), image_bytes=len(image.content), detail="the model as shipped")


def _on_twin(image: Image, way: Way, found: Windows) -> tuple[Row, LearnReport]:
    from kilotune.device.wording import report_in_words
    from kilotune.targets.connect import connect

    asked = replace(
        found.options,
        scorer=way.scorer,
        passes=found.options.passes if way.passes is None else way.passes,
        force=way.force,
    )
    with connect("twin", image, fresh=True) as device:
        report = device.learn_with([m.features_q10[m.learnable] for m in found.learn], asked, ready_features=True)
        scores = _scores(device, found.test), _scores(device, found.fault)
    row = judged(way.name, "device", *scores, report.threshold / Q10, found)
    done = replace(row, ram_bytes=_ram(image), image_bytes=len(image.content), detail=report_in_words(report))
    return done, report


def _scores(device: Device, files: Sequence[Measured]) -> Files:
    scored = device.score([m.features_q10[m.alive] for m in files], ready_features=True)
    out: Files = [[] for _ in files]
    for owner, value in zip(scored.segments, scored.values, strict=True):
        out[owner].append(float(value))
    return out


def _ram(image: Image) -> int:
    from kilotune.targets.fit import ram_budget

    return sum(ram_budget(image).values())


# --- rows of the host -----------------------------------------------------------------------------------


def baseline_rows(image: Image, found: Windows) -> list[Row]:
    """Baselines without a network, in floating point, on the same windows, with the same hold-back and threshold."""
    learn = baselines.joined([m.only(m.learnable) for m in found.learn])
    options = found.options
    held = baselines.held_back(len(learn), options.hold_period, options.hold_count)
    prior = None if image.profile is None else image.profile.feature_std.astype(float)
    made = baselines.fitted(learn[~held], learn[held], seed=options.seed, prior_std=prior)
    rows = []
    for one in made:
        healthy, fault = ([one.score(m.only(m.alive)).tolist() for m in side] for side in (found.test, found.fault))
        row = judged(one.name, "host", healthy, fault, one.threshold, found)
        rows.append(replace(row, cost_bytes=4 * one.numbers))
    return rows


def judged(name: str, where: str, healthy: Files, fault: Files, threshold: float, found: Windows) -> Row:
    """Figures of one scoring method, with their intervals, file by file."""
    config = found.config
    tested, faulty = ([s for file in side for s in file] for side in (healthy, fault))
    files = []
    false_episodes = 0
    for truth, side, scores in (("healthy", found.test, healthy), ("fault", found.fault, fault)):
        for measured, values in zip(side, scores, strict=True):
            above = [v > threshold for v in values]
            files.append(FileRow(measured.name, truth, len(above), sum(above), any(sustained(above))))
            if truth == "healthy":
                false_episodes += episodes(above)
    figures = separation(tested, faulty, threshold)
    pace = windows_per_hour(config.rate_hz, config.hop)
    return Row(
        name,
        where,
        figures,
        threshold=threshold,
        intervals=intervals(healthy, fault, threshold, independent=config.hop / config.window),
        alarms_per_hour=pace * figures.false_alarms,
        sustained_per_hour=pace * false_episodes / max(1, len(tested)),
        files=tuple(files),
    )
