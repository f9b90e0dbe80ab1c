"""The demo's machine and its faults: one that a plain threshold finds, and one that none does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.report.data import Table
from kilotune.report.metrics import Separation
from kilotune.studies.before_after import Stage, Study
from kilotune.studies.findings import AFTER, Findings, findings
from kilotune.studies.recommending import Row, best, gain, rates

if TYPE_CHECKING:
    from kilotune.device.learning import LearnOptions
    from kilotune.image.features import FeatureConfig
    from kilotune.image.image import Image
    from kilotune.recordings import ReadOptions, Recording

# Of the simulator; the base models are trained on machines below 1,000,000. Machine, faults and the two operating
# points were picked after trying three machines with 14 faults each: a demonstration, no measure.
MACHINE = 1_000_102
LEARN_WINDOWS, TEST_WINDOWS, FAULT_WINDOWS = 80, 40, 40
# A machine that runs slow and idle or fast and loaded, healthy and faulty: what is told apart is the fault, not the
# operating point. One mean and one scale cannot describe it, so training pays.
POINTS = ((600.0, 0.1), (3400.0, 0.9))
FAULTS = (("outer,severity=0.5", "a defect of the bearing's outer race"), ("misalignment,severity=0.6", "misalignment"))
PICKED = (
    "The machine is simulated. It and its faults were picked after trying three machines with seven faults at two "
    "severities each, to show one case of either kind. In those 42, the AUC after learning was 0.52 to 1.00, and the "
    "best plain baseline had a higher one in 29. What learning is worth on yours, kilotune evaluate tells from your "
    "recordings."
)


@dataclass(frozen=True, slots=True)
class Case:
    """One fault: which of the faulty recordings have it."""

    name: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Streams:
    """What the machine gives, at the model's rate."""

    learn: list[Recording]
    healthy: list[Recording]
    fault: list[Recording]
    words: str
    cases: tuple[Case, ...]


SUFFICES = "a plain threshold suffices"
PAYS = "plain thresholds fail, learning pays"
NEITHER = "neither plain thresholds nor the device find it reliably"
_RELIABLE = 0.9  # detection minus false alarms


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What the device and the best plain baseline make of one fault."""

    name: str
    verdict: str  # one of the three above
    device: Separation
    baseline: str
    plain: Separation
    words: str


def simulated(image: Image) -> Streams:
    """A machine that the base model was not trained on, healthy and then with each fault."""
    config = _features(image)
    from kilotune.recordings import read

    def records(kind: str, windows: int, seed: int) -> list[Recording]:
        """One per operating point."""
        count = windows // len(POINTS)
        seconds = (config.window + (count - 1) * config.hop) / config.rate_hz
        about = f"synthetic:{kind},machine={MACHINE},seconds={seconds!r}"
        return [
            read(f"{about},seed={seed + k},rpm={speed:g},load={load:g}", model_rate_hz=config.rate_hz)
            for k, (speed, load) in enumerate(POINTS)
        ]

    fault = [r for kind, _ in FAULTS for r in records(kind, FAULT_WINDOWS, 30)]
    words = (
        f"simulated, never seen by the model, at two speeds and loads; {config.axes} axes at {config.rate_hz:g} Hz, "
        f"{LEARN_WINDOWS} healthy windows to learn from; later {' or '.join(name for _, name in FAULTS)}"
    )
    cases = tuple(Case(name, k * len(POINTS), len(POINTS)) for k, (_, name) in enumerate(FAULTS))
    return Streams(
        records("healthy", LEARN_WINDOWS, 10), records("healthy", TEST_WINDOWS, 20), fault, words, cases
    )  # fmt: skip


def own(image: Image, healthy: Sequence[str], fault: Sequence[str], read: ReadOptions | None) -> Streams:
    """The same of a user's recordings; all faulty ones are one case."""
    from kilotune.recordings import ReadOptions, read_all, require_alike
    from kilotune.studies.holding_out import hold_out

    config = _features(image)
    ok = read_all(healthy, read, model_rate_hz=config.rate_hz)
    bad = read_all(fault, read, model_rate_hz=config.rate_hz)
    require_alike((*ok, *bad), read or ReadOptions())
    parts = hold_out(ok, fault=bad, window=config.window)
    words = f"your recordings; {parts.how}, {len(bad)} faulty"
    return Streams([*parts.learn], [*parts.test], bad, words, (Case("your fault", 0, len(bad)),))


def _features(image: Image) -> FeatureConfig:
    if image.features is None:
        raise KilotuneError("no_features", "the base model takes ready inputs", "use a model with features")
    return image.features


def judge_cases(
    found: Study, image: Image, streams: Streams, options: LearnOptions, whole: Findings
) -> tuple[tuple[CaseResult, ...], tuple[Table, ...]]:
    """Fault by fault: whether a plain threshold suffices, and the table that shows it.

    `whole`: of all faults together.
    """
    if len(streams.cases) == 1:
        return (_judged(streams.cases[0].name, whole.rows),), ()
    results, tables = [], []
    for case in streams.cases:
        fault = streams.fault[case.first : case.first + case.count]
        part = replace(found, before=_only(found.before, case, streams), after=_only(found.after, case, streams))
        told = findings(part, image, learn=streams.learn, healthy=streams.healthy, fault=fault, options=options)
        results.append(_judged(case.name, told.rows))
        title = f"Beside plain baselines: {case.name}"
        tables.append(replace(told.tables[0], title=title, about=results[-1].words))
    return tuple(results), tuple(tables)


def _only(stage: Stage, case: Case, streams: Streams) -> Stage:
    at = len(streams.healthy) + case.first
    return Stage((*stage.parts[: len(streams.healthy)], *stage.parts[at : at + case.count]), stage.threshold)


def _judged(name: str, rows: Sequence[Row]) -> CaseResult:
    device = next(r for r in rows if r.name == AFTER)
    host = [r for r in rows if r.where == "host"]
    reliable = [r for r in host if gain(r) >= _RELIABLE]
    plain = best(reliable) if reliable else max(host, key=gain)
    verdict = SUFFICES if reliable else PAYS if gain(device) >= _RELIABLE else NEITHER
    return CaseResult(
        name, verdict, device.separation, plain.name, plain.separation,
        f"{name[0].upper()}{name[1:]}: {verdict} (the best plain one, {plain.name}: AUC {plain.separation.auc:.3f}, "
        f"{rates(plain)}; the device: AUC {device.separation.auc:.3f}, {rates(device)})",
    )  # fmt: skip
