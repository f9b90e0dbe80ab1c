"""Learning under attack, on real recordings and the device's own integer code (the twin); prints both tables.

    python tests/bench/poisoning.py [--seeds 3] [--passes 10] [--cap 256] [--tables poison,sensor] [--json FILE]

poison: a device has learned from healthy windows and committed. Then it is fed windows of a fault as if they were
healthy, in learn phases of 16 (40 where it re-calibrates; `resume`, each committed), until it detects half as many of
the fault's other windows as before. `flood` feeds fault windows; `creep` healthy windows that are moved by
min(1, k / 100) of the distance, in log2 energies and at the same speed, from healthy to the fault; `healthy` is the
control: healthy windows that it has not learned from. Fault windows fed come from the first half of each recording,
those tested from the second; a pool that is used up begins again.

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
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune import _native
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.link.transport import InProcess
from kilotune.terms import Refusal, word_of

from tests.bench import protocols
from tests.bench.learning import DETECT, base_autoencoder
from tests.bench.protocols import HEALTHY, LOADS, SPEEDS, Detection

EARLY, PHASE = 8, 16
AGE_PHASE = 40  # re-calibration needs 32 accepted windows
LEVELS: dict[str, dict[str, Any]] = {  # what holds later windows: nothing, the score, everything
    "none": {"guard": "none"},
    "score": {"guard": "gate"},
    "all": {"guard": "all"},
    "all, re-calibrating": {"guard": "all", "recalibrate": True},
}
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


def device_of(tflite: bytes, reservoir: int) -> Device:
    image = kilotune.compile(tflite, method="bias+head", reservoir=reservoir, early=EARLY)
    session = _native.Session(image.content, bytearray(b"\xff" * (1 << 19)))
    return Device(InProcess(session), image=image)


def cases() -> dict[str, Detection]:
    """P2 without load (all speeds mixed) and the ceiling fan at each speed."""
    found = {}
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
    if name != "rig":
        half = len(case.fault) // 2
        return {"weight on a blade": Pools([case.fault[: half - 5]], [case.healthy], case.fault[half + 5 :])}
    rig = protocols.rigs(protocols.q10)[0]
    kinds = sorted({k[4:-5] for k in rig if HEALTHY not in k})
    healthy = [rig[f"{speed}{HEALTHY}{LOADS[0]}"][11:] for speed in SPEEDS]
    out = {}
    for kind in kinds:
        records = [rig[f"{speed}{kind}_{LOADS[0]}"] for speed in SPEEDS]
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


def poison(
    name: str, case: Detection, kind: str, attack: str, level: str, seed: int, passes: int, cap: int
) -> Fed | None:
    pools = pools_of(name, case)[kind]
    test = pools.test
    device = device_of(base_autoencoder(case, seed), len(case.learn) + len(case.held))
    hold = {"hold_period": case.hold_period, "hold_count": case.hold_count}
    common: dict[str, Any] = {**DETECT, **hold, "ready_features": True}
    device.learn(case.stream(), seed=seed + 1, **common)
    device.commit()
    before, _ = rates(device, case, test)
    if before < LEAST_DETECTION:
        return None
    stream = stream_of(attack, pools, cap, seed)
    refused: list[bool] = []
    returned, reasons, found = 0, Counter[str](), None
    shifts: list[int] = []
    now, alarms = before, 0.0
    phase = AGE_PHASE if "recalibrate" in LEVELS[level] else PHASE
    for at in range(0, cap, phase):
        settings: dict[str, Any] = {**common, "passes": passes, **LEVELS[level]}
        device.learn(stream[at : at + phase], resume=True, seed=seed + 2 + at,
                     on_result=lambda r: refused.append(r.refused != 0), **settings)  # fmt: skip
        guard = device.status().guard
        returned += guard.returned
        shifts.append(guard.shift)
        reasons.update(r.name or "" for r in kilotune.link.messages.Reason if guard.reasons & r)
        if not guard.returned:
            device.commit()
        now, alarms = rates(device, case, test)
        if now <= before / 2:
            found = at + phase
            break
    told = ", ".join(f"{k} {v}" for k, v in reasons.most_common())
    return Fed(name, kind, attack, level, seed, found, before, now, alarms, float(np.mean(refused)), returned, told,
               tuple(shifts))  # fmt: skip


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
    device = device_of(tflite, 60)
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
        "| data | attack | held by | fault windows until detection halves: median (least to most) | never within "
        f"{cap:,} | refused % | phases undone | detection % before, after | false alarms % after |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    groups: dict[tuple[str, str, str], list[Fed]] = {}
    for f in found:
        groups.setdefault((f.data.split(",")[0], f.attack, f.level), []).append(f)
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
        if "poison" in tables:
            for seed in range(seeds):
                for attack in ("healthy", "flood", "creep"):
                    for level in levels:
                        for kind in pools_of(name, case):
                            yield name, kind, attack, level, seed, passes, cap
        if "sensor" in tables:
            for seed in range(seeds):
                image = device_of(base_autoencoder(case, 0), 60).image
                assert image is not None
                for attack in sensors(image.features):
                    yield name, "", attack, "", seed, 0, 0


def work(job: Job) -> Fed | Sensor | None:
    name, kind, attack, level, seed, passes, cap = job
    case = cases()[name]
    if not kind:
        return broken(name, case, attack, seed)
    return poison(name, case, kind, attack, level, seed, passes, cap)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--passes", type=int, default=10, help="of training in each phase of an attack")
    parser.add_argument("--cap", type=int, default=256, help="fault windows fed at most")
    parser.add_argument("--tables", default="poison,sensor")
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
    found = []
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for done, result in enumerate(pool.imap(work, jobs), 1):
            found += [result] if result is not None else []
            print(f"\r{done} of {len(jobs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(f) for f in found], indent=1) + "\n")
    fed = [f for f in found if isinstance(f, Fed)]
    if fed:
        print(poison_table(fed, arguments.cap))
    if sensed := [f for f in found if isinstance(f, Sensor)]:
        print("\n" + sensor_table(sensed))


if __name__ == "__main__":
    main()
