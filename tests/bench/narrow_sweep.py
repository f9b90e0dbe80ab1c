"""A blind of a few bands, swept over which bands, how many, and the steps that the adversary takes; prints a table.

    python tests/bench/narrow_sweep.py [--phases 48] [--early 8] [--places low,middle,high,scattered] [--json FILE]

A device with the project's base model learns 40 healthy windows of the rig and commits. A fault is then a shift of the
chosen bands, up, by the least size at which the device detects 95 % of healthy windows that are shifted so. In later
phases of 16 windows, each committed, healthy windows are fed whose bands are moved towards that fault: by the largest
share that a twin of the device would keep (`largest`, tests/support/narrow.py), or by the same share more in each
phase (`0 %` is the control: healthy windows). The figure is the least detection of the fault after any phase.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import rig
from tests.support.narrow import Creep, Narrow, Pool, Step, Twin, detected, largest_kept, least_detection

WIDTHS = (1, 3, 6, 12)
STEPS = ("0 %", "largest", "25 %", "10 %", "5 %", "2 %")
PLACES = ("low", "middle", "high", "scattered")
AXES = 3
SEEN = 0.95  # of the fault's windows, before
LARGEST = 60.0  # standard deviations
SETTINGS: dict[str, Any] = {"ready_features": True, "hold_period": 10, "hold_count": 3, "passes": 10}


@dataclass(frozen=True)
class Swept:
    """One attack."""

    place: str
    width: int
    step: str
    size: float  # of the fault, in standard deviations of a band
    before: float
    least: float


def bands_at(place: str, width: int, features: int) -> list[int]:
    """Of every axis the same part of the spectrum, as a fault shows itself; of fewer than three bands, one axis."""
    if place == "scattered":
        return sorted(np.random.default_rng(width).permutation(features)[:width].tolist())
    axes = min(AXES, width)
    each, total = width // axes, features // AXES
    first = {"low": 0, "middle": (total - each) // 2, "high": total - each}[place]
    return [axis * total + first + i for axis in range(axes) for i in range(each)]


def taught(healthy: list[Pool], early: int) -> Twin:
    twin = Twin(rig.image(early=early, reservoir=40), bytearray(b"\xff" * (1 << 19)))
    learned = np.stack([h[:10] for h in healthy], 1).reshape(40, -1)
    twin.device.learn(learned, seed=1, **{**SETTINGS, "passes": 40})
    twin.device.commit()
    return twin


def least_fault(twin: Twin, bands: list[int], pools: list[Pool]) -> tuple[float, float] | None:
    """The least size that is detected, and how surely; None: no size is, for what goes into the network is bounded."""
    for size in np.arange(1.0, LARGEST, 0.5):
        share = detected(twin.device, Narrow.in_bands(bands, float(size), pools).alone)
        if share >= SEEN:
            return float(size), share
    return None


def step_of(name: str) -> Step:
    return largest_kept if name == "largest" else Creep(float(name.split()[0]) / 100)


def sweep(
    phases: int,
    early: int,
    places: list[str],
    *,
    widths: tuple[int, ...] = WIDTHS,
    steps: tuple[str, ...] = STEPS,
) -> Iterator[Swept]:
    healthy = [rig.healthy(speed) for speed in rig.SPEEDS]
    pools = [h[11:] for h in healthy]
    twin = taught(healthy, early)
    for place in places:
        for width in widths:
            bands = bands_at(place, width, healthy[0].shape[1])
            fault = least_fault(twin, bands, pools)
            if fault is None:
                print(f"{place}, {width}: no fault in these bands alone is detected", file=sys.stderr)
                continue
            size, before = fault
            attack = Narrow.in_bands(bands, size, pools)
            for step in steps:
                least = least_detection(twin.copy(), attack, phases, SETTINGS, step_of(step))
                yield Swept(place, width, step, size, before, least)


def table(found: list[Swept]) -> str:
    rows = ["| bands | how many | size of the fault, sigma | detection before | " + " | ".join(STEPS) + " |"]
    rows.append("|---|" + "---:|" * (len(STEPS) + 3))
    for at in range(0, len(found), len(STEPS)):
        group = found[at : at + len(STEPS)]
        cells = " | ".join(f"{100 * s.least:.0f}" for s in group)
        first = group[0]
        rows.append(f"| {first.place} | {first.width} | {first.size:.1f} | {100 * first.before:.0f} | {cells} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", type=int, default=48)
    parser.add_argument("--early", type=int, default=8, help="early windows of the image")
    parser.add_argument("--places", default=",".join(PLACES))
    parser.add_argument("--json", type=Path, help="also write every figure there")
    options = parser.parse_args()
    found = []
    for swept in sweep(options.phases, options.early, options.places.split(",")):
        found.append(swept)
        print(f"\r{len(found)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps([asdict(s) for s in found], indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
