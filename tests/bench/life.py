"""Machines that live for months, here bearings that run to failure: what a device says of each life, record by record.

    python tests/bench/life.py [--data FOLDER] [--rows device,...] [--seeds 3] [--json FILE] [--stored 160]

FOLDER has one file a machine, `*.npz` as FEMTO's in `femto_life` of the recordings (the default): `mg` (records,
samples, axes) in counts, `g_per_count`, `rate_hz`. Every axis is a machine of its own. The base model is a motor's that
has nothing to do with them (CWRU).

Rows. `device`: the device decides by itself what it does about time. All others live by a policy written in Python
(`--policies`): `pick`, `calibration` and `bias` are the twin, taught anew from the windows that the policy has kept,
the rest are baselines of the host. Everything is causal and single-pass: a policy sees record after record, keeps at
most `--stored` windows, and never knows how long the machine will live. Marks:

  false, episodes  machines with a sustained alarm before half of their life, and all such alarms
  windows          share of single windows above the threshold, from the first watched record to half of life, %
  found            machines whose first sustained alarm is in the second half
  lead             records from there to the end: median and least
  from             share of life at which watching begins, %: the most

"Before half of life" is not certainly healthy: some bearings have worn for good by then.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune.image.base_profile import LifeSettings
from kilotune.terms import Phase

from tests.bench import learning, protocols
from tests.bench.life_data import Life, lives_of
from tests.bench.life_policies import FIRST, HOST, POLICIES, TWIN, Watch, image, watch

SUSTAINED = (3, 5)  # alarmed records of consecutive ones


@dataclass(frozen=True)
class Marks:
    """Of one row and seed, as in --json. Without a machine found, leads are -1."""

    row: str
    seed: int
    lives: int
    false: int
    episodes: int
    windows: float
    found: int
    lead_median: float
    lead_least: int
    from_most: float


# --- the device by itself ------------------------------------------------------------------------------


def watch_device(image: kilotune.Image, lived: npt.NDArray[np.int16], seed: int) -> Watch:
    """A device that is fed (records, windows, features), and decides by itself once its first phase has ended."""
    records, windows = lived.shape[:2]
    device = learning.twin(image)
    device.learn(list(lived[:FIRST]), ready_features=True, seed=seed + 1, lives=True, **learning.DETECT)
    above, alarmed, begin = np.full((records, windows), np.nan), np.zeros(records, bool), records
    for t in range(FIRST, records):
        while (status := device.status()).phase is Phase.train:
            pass  # every exchange is time for the twin to learn
        before = device.life()
        scores = device.score(lived[t], ready_features=True).values
        if before.settled:
            begin = min(begin, t)
            above[t] = scores - (status.report.threshold + before.allowance) / 1024
            alarmed[t] = device.life().alarmed & 1
    return Watch(above, alarmed, begin)


def watch_life(life: Life, seed: int, stored: int) -> Watch:
    settings = LifeSettings(record=life.features.shape[1], first=FIRST)
    return watch_device(image(seed % 2, life.config, "bias+head", stored, settings), life.features, seed)


# --- marks ---------------------------------------------------------------------------------------------


def onsets(alarmed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Where sustained alarms begin."""
    k, n = SUSTAINED
    on = np.array([alarmed[max(0, t - n + 1) : t + 1].sum() >= k for t in range(len(alarmed))])
    return np.flatnonzero(on & ~np.r_[False, on[:-1]])


def marks(row: str, seed: int, watches: list[Watch]) -> Marks:
    false = episodes = 0
    leads, windows, begins = [], [], []
    for w in watches:
        n, first = len(w.alarmed), onsets(w.alarmed)
        early = int((first < n // 2).sum())
        false, episodes = false + bool(early), episodes + early
        if not early and len(first):
            leads.append(int(n - first[0]))
        begins.append(100 * w.begin / n)
        if w.begin < n // 2:
            windows.append(100 * float((w.above[w.begin : n // 2] > 0).mean()))
    share = float(np.mean(windows)) if windows else float("nan")
    median, least = (float(np.median(leads)), min(leads)) if leads else (-1.0, -1)
    return Marks(row, seed, len(watches), false, episodes, share, len(leads), median, least, max(begins))


def table(args: argparse.Namespace, lives: list[Life]) -> Iterator[Marks]:
    for row in args.rows.split(","):
        for name in ["itself"] if row == "device" else args.policies.split(";"):
            for seed in range(args.seeds):
                if row == "device":
                    watches = [watch_life(life, seed, args.stored) for life in lives]
                else:
                    watches = [watch(life, row, POLICIES[name], seed, args.stored) for life in lives]
                m = marks(row, seed, watches)
                lead = f"{m.lead_median:.0f} ({m.lead_least})"
                print(f"| {row} | {name} | {seed} | {m.false} of {m.lives} ({m.episodes}) | {m.windows:.1f} | ", end="")
                print(f"{m.found} | {lead} | {m.from_most:.0f} |", flush=True)
                yield m


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="default: femto_life of the recordings")
    parser.add_argument("--rows", default=",".join(("device", *TWIN, *HOST)))
    parser.add_argument("--policies", default="all, measured", help="of all rows but `device`; several with ; between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--stored", type=int, default=160, help="windows that a device has room for (default: 160)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    unknown = [r for r in args.rows.split(",") if r not in ("device", *TWIN, *HOST)]
    unknown += [p for p in args.policies.split(";") if p not in POLICIES]
    if unknown:
        parser.error(f"no such row or policy: {', '.join(unknown)}")
    folder = args.data or protocols.data_dir() / "femto_life"
    lives = lives_of(folder)
    if not lives:
        parser.error(f"{folder} has no .npz file of a life")
    print("| row | policy | seed | false (episodes) | windows % | found | lead (least) | from % (most) |")
    print("|---" * 8 + "|")
    figures = list(table(args, lives))
    if args.json:
        args.json.write_text(json.dumps([asdict(m) for m in figures], indent=1) + "\n")


if __name__ == "__main__":
    main()
