"""Learning under attack, on real recordings and the device's own integer code (the twin); prints all tables.

    python tests/bench/poisoning.py [--seeds 3] [--passes 10] [--cap 256] [--tables poison,narrow,sensor] [--json FILE]

poison: a device has learned from healthy windows and committed. Then it is fed windows of a fault as if they were
healthy, in learn phases of 16 (40 where it re-calibrates; `resume`, each committed), until it detects half as many of
the fault's other windows as before. `flood` feeds fault windows; `creep` healthy windows that are moved by
min(1, k / 100) of the distance, in log2 energies and at the same speed, from healthy to the fault; `healthy` is the
control: healthy windows that it has not learned from. Fault windows fed come from the first half of each recording,
those tested from the second; a pool that is used up begins again.

narrow: the same on the rig, also with the project's base model, in 48 phases of 16 windows of which only the 6 bands
are moved where the fault shows most, as far as a twin of the device would keep (tests/support/narrow.py). Tested on the
fault's windows, and (`alone`) on healthy windows that show the fault in these bands only.

sensor: a broken or wrong sensor on healthy recordings, in a first learn phase and in a later one.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.studies.base_models import base_model
from kilotune.terms import Refusal, word_of

from tests.bench import protocols
from tests.bench.learning import DETECT, base_autoencoder
from tests.bench.protocols import HEALTHY, LOADS, SPEEDS, Detection
from tests.support.narrow import Narrow, Twin, largest_kept

EARLY, PHASE = 8, 16
AGE_PHASE = 40  # re-calibration needs 32 accepted windows
LEVELS: dict[str, dict[str, Any]] = {  # what holds later windows: nothing, the score, everything
    "none": {"guard": "none"},
    "score": {"guard": "gate"},
    "all": {"guard": "all"},
    "all, re-calibrating": {"guard": "all", "recalibrate": True},
}
NARROW_CAP = 48 * PHASE
SHIPPED = "rig, the project's base model"
LEAST_DETECTION = 0.5  # faults that the device hardly detects cannot be forgotten


@dataclass(frozen=True)
class Fed:
    """One attack on one device: fault windows fed until detection had halved; None: not within the cap."""

    data: str
    fault: str
    attack: str
    level: str
    seed: int
    windows: int | None
    detection_before: float
    detection_after: float
    false_alarms_after: float
    refused: float  # share of the windows fed
    returned: int  # phases undone
    objections: str
    shifts: tuple[int, ...]  # of each phase, as in the device's status


@dataclass(frozen=True)
class Sensor:
    """One broken sensor on one device: shares of windows by refusal, in a first and in a later phase."""

    data: str
    attack: str
    seed: int
    first: dict[str, float]
    later: dict[str, float]


# --- devices -----------------------------------------------------------------------------------------


def twin_of(tflite: bytes, reservoir: int) -> Twin:
    image = kilotune.compile(tflite, method="bias+head", reservoir=reservoir, early=EARLY)
    return Twin(image, bytearray(b"\xff" * (1 << 19)))


@lru_cache(maxsize=1)
def shipped_rig() -> dict[str, npt.NDArray[Any]]:
    """The rig's windows as the project's base model takes them."""
    config = metadata.read(base_model().read_bytes()).features
    assert config is not None
    data = protocols.data_dir() / "adi_cbm_adxl356"
    return {p.stem: protocols.q10(config, protocols.adi(p)) for p in sorted(data.glob("*.npz"))}


def rig(name: str) -> dict[str, npt.NDArray[Any]]:
    return shipped_rig() if name == SHIPPED else protocols.rigs(protocols.q10)[0]


def base_of(name: str, case: Detection, seed: int) -> bytes:
    return base_model().read_bytes() if name == SHIPPED else base_autoencoder(case, seed)


def cases() -> dict[str, Detection]:
    """P2 without load (all speeds mixed), also with the project's base model, and the ceiling fan at each speed."""
    found = {SHIPPED: protocols.all_speeds(shipped_rig(), LOADS[0], "shipped")}
    for case in protocols.cases(protocols.q10):
        if case.protocol == "P2" and case.name == LOADS[0]:
            found["rig"] = case
        if case.protocol == "F":
            found[f"fan, {case.name}"] = case
    return found


@dataclass(frozen=True)
class Pools:
    """Of one fault, by speed: windows of the fault to feed, and healthy ones; windows of the fault to test on."""

    feed: list[npt.NDArray[Any]]
    healthy: list[npt.NDArray[Any]]
    test: npt.NDArray[Any]


def pools_of(name: str, case: Detection) -> dict[str, Pools]:
    if name.startswith("fan"):
        half = len(case.fault) // 2
        return {"weight on a blade": Pools([case.fault[: half - 5]], [case.healthy], case.fault[half + 5 :])}
    recorded = rig(name)
    kinds = sorted({k[4:-5] for k in recorded if HEALTHY not in k})
    healthy = [recorded[f"{speed}{HEALTHY}{LOADS[0]}"][11:] for speed in SPEEDS]
    out = {}
    for kind in kinds:
        records = [recorded[f"{speed}{kind}_{LOADS[0]}"] for speed in SPEEDS]
        half = len(records[0]) // 2
        out[kind.strip("_")] = Pools(
            [r[: half - 1] for r in records], healthy, np.concatenate([r[half + 1 :] for r in records])[::2]
        )
    return out


# --- poisoning ---------------------------------------------------------------------------------------


def rates(device: Device, case: Detection, test: npt.NDArray[Any]) -> tuple[float, float]:
    """Share of windows above the threshold: of the fault, of healthy ones."""
    fault, healthy = (float(device.score(x, ready_features=True).anomalous.mean()) for x in (test, case.healthy[::3]))
    return fault, healthy


def stream_of(attack: str, pools: Pools, cap: int, seed: int) -> npt.NDArray[Any]:
    """(cap, features): window k is of speed k modulo their number, drawn anew once a pool is used up."""
    rng = np.random.default_rng([seed, 77])
    speeds = len(pools.feed)
    each = -(-cap // speeds)

    def drawn(pool: npt.NDArray[Any]) -> npt.NDArray[Any]:
        order = np.concatenate([rng.permutation(len(pool)) for _ in range(each // len(pool) + 1)])
        return np.asarray(pool[order[:each]]).astype(float)

    rows = []
    for feed, healthy in zip(pools.feed, pools.healthy, strict=True):
        fault, calm = drawn(feed), drawn(healthy)
        rows.append(fault if attack == "flood" else calm)
    found = np.stack(rows, 1).reshape(-1, rows[0].shape[1])[:cap]
    if attack == "creep":
        away = np.stack([f.mean(0) - h.mean(0) for f, h in zip(pools.feed, pools.healthy, strict=True)])
        share = np.minimum(1, np.arange(1, cap + 1) / 100)[:, None]
        found += share * away[np.arange(cap) % speeds]
    return np.asarray(np.rint(found)).astype(np.int16)


@dataclass
class Watched:
    """Detection of one test set, and when it had halved."""

    attack: str
    test: npt.NDArray[Any]
    before: float
    now: float
    halved: int | None = None


def learn_on(settings: dict[str, Any], device: Device, windows: npt.NDArray[Any]) -> list[bool]:
    """One phase that resumes; which of the windows were refused."""
    refused: list[bool] = []
    device.learn(windows, resume=True, on_result=lambda result: refused.append(result.refused != 0), **settings)
    return refused


def poison(
    name: str, case: Detection, kind: str, attack: str, level: str, seed: int, passes: int, cap: int
) -> list[Fed]:
    """One attack on one device; `narrow` counts twice: by the fault as it was recorded, and alone."""
    pools = pools_of(name, case)[kind]
    twin = twin_of(base_of(name, case, seed), len(case.learn) + len(case.held))
    hold = {"hold_period": case.hold_period, "hold_count": case.hold_count}
    common: dict[str, Any] = {**DETECT, **hold, "ready_features": True}
    twin.device.learn(case.stream(), seed=seed + 1, **common)
    twin.device.commit()
    tests, narrow = {attack: pools.test}, None
    if attack == "narrow":
        narrow = Narrow.of(pools.feed, pools.healthy)
        tests["narrow, alone"] = narrow.alone
    found = [rates(twin.device, case, test)[0] for test in tests.values()]
    watched = [Watched(a, t, d, d) for (a, t), d in zip(tests.items(), found, strict=True) if d >= LEAST_DETECTION]
    stream = stream_of(attack, pools, cap, seed) if narrow is None else narrow.stream(cap, seed)
    refused: list[bool] = []
    returned, reasons, alarms = 0, Counter[str](), 0.0
    shifts: list[int] = []
    phase = AGE_PHASE if "recalibrate" in LEVELS[level] else PHASE
    if not watched:
        return []
    for at in range(0, cap, phase):
        settings = {**common, "passes": passes, **LEVELS[level], "seed": seed + 2 + at}
        windows = stream[at : at + phase]
        if narrow is None:
            refused += learn_on(settings, twin.device, windows)
        else:
            away = narrow.away[np.arange(at, at + len(windows)) % len(narrow.away)]
            twin, bits = largest_kept(twin, windows, away, partial(learn_on, settings))
            refused += bits
        guard = twin.device.status().guard
        returned += guard.returned
        shifts.append(guard.shift)
        reasons.update(r.name or "" for r in kilotune.link.messages.Reason if guard.reasons & r)
        if not guard.returned:
            twin.device.commit()
        for w in watched:
            w.now, alarms = rates(twin.device, case, w.test)
            if w.halved is None and w.now <= w.before / 2:
                w.halved = at + phase
        if all(w.halved is not None for w in watched):
            break
    told = ", ".join(f"{k} {v}" for k, v in reasons.most_common())
    return [
        Fed(name, kind, w.attack, level, seed, w.halved, w.before, w.now, alarms, float(np.mean(refused)), returned,
            told, tuple(shifts))
        for w in watched
    ]  # fmt: skip


# --- sensors -----------------------------------------------------------------------------------------

Signal = npt.NDArray[Any]  # (samples, axes) in g


def resonant(x: Signal, rate_hz: float, corner_hz: float) -> Signal:
    """A mass on a loose mount: second-order low pass with a damping of 0.1."""
    from scipy.signal import bilinear, lfilter

    w = 2 * np.pi * corner_hz
    b, a = bilinear([w * w], [1, 0.2 * w, w * w], rate_hz)
    return np.asarray(lfilter(b, a, x, axis=0))


def hang(x: Signal, window: int) -> Signal:
    """Stands still for a quarter of every window."""
    y = x.copy()
    for at in range(0, len(y) - window, window):
        y[at + window // 4 : at + window // 2] = y[at + window // 4]
    return y


def resampled(x: Signal, factor: float) -> Signal:
    """As a sensor at `factor` times the rate would have it, told to be at the model's."""
    from scipy.signal import resample_poly

    return np.asarray(resample_poly(x, round(100 * factor), 100, axis=0))


def sensors(config: Any) -> dict[str, Callable[[Signal], Signal]]:
    rate, window = config.rate_hz, config.window
    return {
        "none: healthy": lambda x: x,
        "stuck at one value": lambda x: np.zeros_like(x) + x[:1],
        "one axis stuck": lambda x: np.concatenate([np.zeros_like(x[:, :1]), x[:, 1:]], 1),
        "hangs for 1/4 of a window": lambda x: hang(x, window),
        "same buffer again and again": lambda x: np.tile(x[:window], (len(x) // window, 1)),
        "cut off at 2 sigma": lambda x: np.clip(x, -2 * x.std(0), 2 * x.std(0)),
        "cut off at 3 sigma": lambda x: np.clip(x, -3 * x.std(0), 3 * x.std(0)),
        "overdriven to full scale": lambda x: x * (config.full_scale_g / x.std()),
        "loose mount": lambda x: resonant(x, rate, rate / 40),
        "axes swapped": lambda x: x[:, [1, 0, 2]],
        "rate 10 % low": lambda x: resampled(x, 0.9),
        "rate 25 % low": lambda x: resampled(x, 0.75),
        "gain 1.5": lambda x: x * 1.5,
        "gain 3": lambda x: x * 3,
    }


def recordings_of(name: str) -> list[Signal]:
    """Healthy recordings of a case, in g, without their mean (the tilt)."""
    data = protocols.data_dir()
    if name == "rig":
        paths = [data / "adi_cbm_adxl356" / f"{s}{HEALTHY}{LOADS[0]}.npz" for s in SPEEDS]
        found = [protocols.adi(p) for p in paths]
    else:
        found = [protocols.fan(data / "ceiling_fan_msa301" / f"fan_0_{name[5:]}_0_weight.npz")]
    return [x - x.mean(0) for x in found]


def shares(bits: list[int]) -> dict[str, float]:
    counted = {word_of(bit): float(np.mean([(b & bit) != 0 for b in bits])) for bit in Refusal}
    return {"any": float(np.mean([b != 0 for b in bits])), **{k: v for k, v in counted.items() if v}}


def broken(name: str, case: Detection, attack: str, seed: int) -> Sensor:
    """First phases learn from the first half of each recording, later ones from the second, as the sensor gives it."""
    tflite = base_autoencoder(case, seed)
    device = twin_of(tflite, 60).device
    assert device.image is not None
    config = device.image.features
    change = sensors(config)[attack]
    halves = [(x[: len(x) // 2], x[len(x) // 2 :]) for x in recordings_of(name)]
    settings: dict[str, Any] = {**DETECT, "passes": 10, "seed": seed + 1}

    def phase(segments: list[Signal], **more: Any) -> dict[str, float]:
        bits: list[int] = []
        try:
            device.learn(segments, on_result=lambda r: bits.append(r.refused), **settings, **more)
        except KilotuneError as error:
            if error.code != "too_few_windows":
                raise
        return shares(bits)

    first = phase([change(a) for a, _ in halves])
    device.reset()
    phase([a for a, _ in halves])
    device.commit()
    return Sensor(name, attack, seed, first, phase([change(b) for _, b in halves], resume=True))


# --- tables ------------------------------------------------------------------------------------------


def poison_table(found: list[Fed], cap: int) -> str:
    lines = [
        "| data | attack | held by | fed windows until detection halves: median (least to most) | never within "
        f"{cap:,} | refused % | phases undone | detection % before, after | false alarms % after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    groups: dict[tuple[str, str, str], list[Fed]] = {}
    for f in found:
        groups.setdefault((f.data if f.data == SHIPPED else f.data.split(",")[0], f.attack, f.level), []).append(f)
    for (data, attack, level), group in groups.items():
        counts = sorted(cap + 1 if f.windows is None else f.windows for f in group)
        text = [f"> {cap:,}" if n > cap else f"{n:,}" for n in (int(np.median(counts)), counts[0], counts[-1])]
        mean = {k: float(np.mean([getattr(f, k) for f in group])) for k in (
            "refused", "returned", "detection_before", "detection_after", "false_alarms_after")}  # fmt: skip
        never = sum(f.windows is None for f in group)
        lines.append(
            f"| {data} | {attack} | {level} | {text[0]} ({text[1]} to {text[2]}) | {never} of {len(group)} | "
            f"{100 * mean['refused']:.0f} | {mean['returned']:.1f} | {100 * mean['detection_before']:.0f}, "
            f"{100 * mean['detection_after']:.0f} | {100 * mean['false_alarms_after']:.1f} |"
        )
    return "\n".join(lines)


def sensor_table(found: list[Sensor]) -> str:
    lines = ["| data | sensor | first phase: refused % | later phase: refused % | by |", "|---|---|---|---|---|"]
    groups: dict[tuple[str, str], list[Sensor]] = {}
    for s in found:
        groups.setdefault((s.data.split(",")[0], s.attack), []).append(s)
    for (data, attack), group in groups.items():
        first, later = (100 * float(np.mean([getattr(s, k)["any"] for s in group])) for k in ("first", "later"))
        least = 100 * min(s.later["any"] for s in group)
        names = sorted({n for s in group for n in s.later if n != "any"},
                       key=lambda n: -np.mean([s.later.get(n, 0) for s in group]))  # fmt: skip
        lines.append(f"| {data} | {attack} | {first:.0f} | {later:.0f} (least {least:.0f}) | {', '.join(names)} |")
    return "\n".join(lines)


# --- runs --------------------------------------------------------------------------------------------

Job = tuple[str, str, str, str, int, int, int]


def jobs_of(tables: list[str], data: str, levels: list[str], seeds: int, passes: int, cap: int) -> Iterator[Job]:
    for name, case in cases().items():
        if not name.startswith(data):
            continue
        if "narrow" in tables and name.startswith("rig"):
            for seed in range(seeds):
                for level in (level for level in levels if level in ("score", "all")):
                    for kind in pools_of(name, case):
                        yield name, kind, "narrow", level, seed, passes, NARROW_CAP
        if name == SHIPPED:
            continue
        if "poison" in tables:
            for seed in range(seeds):
                for attack in ("healthy", "flood", "creep"):
                    for level in levels:
                        for kind in pools_of(name, case):
                            yield name, kind, attack, level, seed, passes, cap
        if "sensor" in tables:
            for seed in range(seeds):
                for attack in sensors(twin_of(base_autoencoder(case, 0), 60).image.features):
                    yield name, "", attack, "", seed, 0, 0


def work(job: Job) -> list[Fed] | list[Sensor]:
    name, kind, attack, level, seed, passes, cap = job
    case = cases()[name]
    if not kind:
        return [broken(name, case, attack, seed)]
    return poison(name, case, kind, attack, level, seed, passes, cap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=10, help="of training in each phase of an attack")
    parser.add_argument("--cap", type=int, default=256, help="fault windows fed at most")
    parser.add_argument("--tables", default="poison,narrow,sensor")
    parser.add_argument("--data", default="", help="only data whose name begins so: rig, fan")
    parser.add_argument("--levels", default=";".join(LEVELS), help="of what holds later windows, by semicolons")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    jobs = list(
        jobs_of(
            arguments.tables.split(","), arguments.data, arguments.levels.split(";"), arguments.seeds,
            arguments.passes, arguments.cap,
        )
    )  # fmt: skip
    found: list[Fed | Sensor] = []
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for done, result in enumerate(pool.imap(work, jobs), 1):
            found += result
            print(f"\r{done} of {len(jobs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(f) for f in found], indent=1) + "\n")
    fed = [f for f in found if isinstance(f, Fed)]
    if others := [f for f in fed if not f.attack.startswith("narrow")]:
        print(poison_table(others, arguments.cap))
    if narrow := [f for f in fed if f.attack.startswith("narrow")]:
        print("\n" + poison_table(narrow, NARROW_CAP))
    if sensed := [f for f in found if isinstance(f, Sensor)]:
        print("\n" + sensor_table(sensed))


if __name__ == "__main__":
    main()
