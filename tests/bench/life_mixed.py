"""First phases that are partly of a fault, and clean ones: which the device flags, and what leaving them out saves.

    python tests/bench/life_mixed.py [--seeds 3] [--shares 0,10,20,30] [--windows 24] [--json FILE]

On the rig (ADI, three axes), one speed and load at a time: `--windows` windows at random, of which a share is of one
fault at the same speed and load; the detector is tested on windows of healthy and fault that it has not learned from.
Marks: `flagged`, the share of phases that the device reports as mixed; `apart`, of those, the share of fault windows
among the windows that it counts apart; `detection`, of the fault's other windows, learned as they came and with
windows apart left out; `false`, healthy windows over the threshold in the latter case.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import kilotune
import numpy as np

from tests.bench import learning, protocols


@dataclass(frozen=True)
class Phase:
    state: str  # speed and load
    fault: str
    seed: int
    share: int  # % of the phase that is of the fault
    windows: int  # that are
    flagged: int  # windows that the device counts apart
    detection: float
    detection_left_out: float
    false_left_out: float


def phases(seed: int, shares: list[int], windows: int) -> Iterator[Phase]:
    rig, _, _ = protocols.rigs(protocols.q10)
    for case in protocols.cases(protocols.q10):
        if case.protocol != "P1":
            continue
        image = kilotune.compile(learning.base_autoencoder(case, seed % 2), method="bias+head", reservoir=windows)
        for key in sorted(rig):
            if not key.startswith(case.name) or protocols.HEALTHY in key:
                continue
            healthy = rig[case.name + protocols.HEALTHY + key[-4:]]
            for share in shares:
                rng = np.random.default_rng([seed, share, len(key), hash_of(key)])
                yield one(image, key, healthy, rig[key], share, windows, seed, rng)


def hash_of(key: str) -> int:
    return zlib.crc32(key.encode())


def one(
    image: kilotune.Image, key: str, healthy: Any, fault: Any, share: int, windows: int, seed: int,
    rng: np.random.Generator,
) -> Phase:  # fmt: skip
    bad = round(windows * share / 100)
    good, ill = rng.permutation(len(healthy)), rng.permutation(len(fault))
    phase = np.concatenate([healthy[good[: windows - bad]], fault[ill[:bad]]])[rng.permutation(windows)]
    settings = {**learning.DETECT, "hold_period": 4, "hold_count": 1}
    found, alarms, apart = {}, {}, {}
    for what in ("report", "leave_out"):
        device = learning.learned(image, phase, None, {**settings, "apart": what}, seed)
        found[what] = float(device.score(fault[ill[bad:]], ready_features=True).anomalous.mean())
        alarms[what] = float(device.score(healthy[good[windows - bad :]], ready_features=True).anomalous.mean())
        apart[what] = device.status().report.apart
    state = f"{key[:4]} {key[-4:]}"
    return Phase(
        state, key[5:-5], seed, share, bad, apart["report"], found["report"], found["leave_out"], alarms["leave_out"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", default="0,10,20,30")
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    shares = [int(s) for s in args.shares.split(",")]
    every = [p for seed in range(args.seeds) for p in phases(seed, shares, args.windows)]
    print("| faulty % | phases | flagged % | windows apart | detection %, as it came | left out | false % |")
    print("|---" * 7 + "|")
    for share in shares:
        of = [p for p in every if p.share == share]
        flagged = [p for p in of if p.flagged]
        count = f"{np.mean([p.flagged for p in flagged]):.1f} of {of[0].windows}" if flagged else "-"
        rates = [
            100 * np.mean([getattr(p, k) for p in of]) for k in ("detection", "detection_left_out", "false_left_out")
        ]
        print(f"| {share} | {len(of)} | {100 * len(flagged) / len(of):.0f} | {count} | ", end="")
        print(" | ".join(f"{r:.1f}" for r in rates) + " |", flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(p) for p in every], indent=1) + "\n")


if __name__ == "__main__":
    main()
