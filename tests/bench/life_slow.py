"""Slow faults, and a sudden one, on devices that go on learning: what they say record by record.

    python tests/bench.life_slow.py [--protocols bearings,rig,fan,sudden] [--seeds 3] [--records 300,900] [--json FILE]

bearings: a life of `femto_life` up to its half, then a creep: healthy windows of that half, drawn at random and moved
by k / N of the way (in log2 energies) to the mean of the life's last 2 % of records, k = 1 ... N.
rig, fan: the same with healthy windows in random order for 60 records (rig: one speed and load; fan: one speed), then
the creep to each fault.
sudden: the fan as a life: its 585 healthy seconds in order, then the weight.

A record is four windows. Marks: `at`, the share of the way to the fault at which the first sustained alarm began, in %
(median, most); `never`, creeps without one; `false`, machines with an alarm before the creep; for `sudden` the share
alarmed within 8 records and the records it took (median).
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune.image.base_profile import LifeSettings

from tests.bench import learning, life, protocols
from tests.bench.life_data import lives_of
from tests.bench.life_policies import FIRST, image

RECORD, HEALTHY_RECORDS = 4, 60
Records = npt.NDArray[np.int16]  # (records, windows, features) Q10


@dataclass(frozen=True)
class Machine:
    """Healthy records in order of time, windows to creep from, and the fault's."""

    protocol: str
    name: str
    image: kilotune.Image
    before: Records
    healthy: npt.NDArray[np.int16]
    fault: npt.NDArray[np.int16]


@dataclass(frozen=True)
class Said:
    """Of one machine: alarms before the fault began; the first sustained one after, -1: never."""

    protocol: str
    name: str
    seed: int
    records: int  # of the creep; 0: sudden
    false: int
    settled: bool
    at: int  # record


def records_of(windows: npt.NDArray[Any], n: int, rng: np.random.Generator) -> Records:
    """`n` records of windows drawn from `windows`."""
    return np.asarray(windows[rng.integers(len(windows), size=(n, RECORD))], np.int16)


def creeping(machine: Machine, n: int, rng: np.random.Generator) -> Records:
    way = machine.fault.mean(0) - machine.healthy.mean(0)
    moved = records_of(machine.healthy, n, rng) + (np.arange(1, n + 1) / n)[:, None, None] * way
    return np.asarray(np.rint(moved).clip(-32768, 32767), np.int16)


def machines(protocol: str, seed: int, stored: int, anchor: float = 4.0) -> Iterator[Machine]:
    rng = np.random.default_rng([seed, 7])
    settings = LifeSettings(record=RECORD, first=FIRST, anchor=anchor)
    if protocol == "bearings":
        for one in lives_of(protocols.data_dir() / "femto_life"):
            n = len(one.features)
            before, end = one.features[: n // 2], one.features[-max(3, n // 50) :]
            own = image(seed % 2, one.config, "bias+head", stored, settings)
            flat = [x.reshape(-1, x.shape[-1]) for x in (before, end)]
            yield Machine(protocol, one.name, own, before, *flat)
        return
    rig, _, _ = protocols.rigs(protocols.q10)
    for case in protocols.cases(protocols.q10):
        if not (case.protocol == "F" or (case.protocol == "P1" and protocol == "rig")):
            continue
        if (case.protocol == "F") != (protocol != "rig"):
            continue
        tflite = learning.base_autoencoder(case, seed % 2)
        own = kilotune.compile(tflite, method="bias+head", reservoir=stored, life=settings)
        if protocol == "rig":
            for load in protocols.LOADS:
                healthy = rig[case.name + protocols.HEALTHY + load]
                for key in sorted(rig):
                    if key.startswith(case.name) and key.endswith(load) and protocols.HEALTHY not in key:
                        before = records_of(healthy, HEALTHY_RECORDS, rng)
                        yield Machine(protocol, key, own, before, healthy, rig[key])
            continue
        healthy = protocols.rigs(protocols.q10)[2][f"fan_0_{case.name}_0_weight"]
        ordered = healthy[: len(healthy) // RECORD * RECORD].reshape(-1, RECORD, healthy.shape[-1])
        before = ordered if protocol == "sudden" else records_of(healthy, HEALTHY_RECORDS, rng)
        yield Machine(protocol, case.name, own, before, healthy, case.fault)


def said(machine: Machine, seed: int, n: int) -> Said:
    """`n`: records of the creep; 0: the fault itself, as it is."""
    if n:
        after = creeping(machine, n, np.random.default_rng([seed, n]))
    else:
        fault = machine.fault
        after = fault[: len(fault) // RECORD * RECORD].reshape(-1, RECORD, fault.shape[-1])
    watch = life.watch_device(machine.image, np.concatenate([machine.before, after]), seed)
    begin, onsets = len(machine.before), life.onsets(watch.alarmed)
    late = onsets[onsets >= begin]
    at = int(late[0]) - begin + 1 if len(late) else -1
    false = int((onsets < begin).sum())
    return Said(machine.protocol, machine.name, seed, n, false, watch.begin < begin, at)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocols", default="bearings,rig,fan,sudden")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--records", default="300,900", help="lengths of creeps")
    parser.add_argument("--stored", type=int, default=160)
    parser.add_argument("--anchor", type=float, default=4.0, help="log2 (default: 4)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    every: list[Said] = []
    print("| protocol | records | machines | false | at % (most) | never |")
    print("|---" * 6 + "|")
    for protocol in args.protocols.split(","):
        for n in [0] if protocol == "sudden" else [int(r) for r in args.records.split(",")]:
            got = [said(m, s, n) for s in range(args.seeds) for m in machines(protocol, s, args.stored, args.anchor)]
            every += got
            at = [s.at for s in got if s.at > 0]
            false, never = sum(s.false > 0 for s in got), len(got) - len(at)
            if n:
                share = f"{100 * np.median(at) / n:.0f} ({100 * max(at) / n:.0f})" if at else "-"
                print(f"| {protocol} | {n} | {len(got)} | {false} | {share} | {never} |", flush=True)
                continue
            for name in sorted({s.name for s in got}):
                own = [s.at for s in got if s.name == name]
                soon = sum(0 < a <= 8 for a in own)
                early = sum(s.false > 0 for s in got if s.name == name)
                print(f"| {protocol}, {name} | {len(own)} | {early} | {soon} soon | {own} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(s) for s in every], indent=1) + "\n")


if __name__ == "__main__":
    main()
