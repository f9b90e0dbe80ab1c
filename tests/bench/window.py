"""Prints what a device's whole job takes, in instructions: windows by stage, a learn phase, a commit, a start.

    python tests/bench/window.py [model.ktm]

Without a model: the shipped `vibration_ae_20k`, three axes of 1,024 samples, method bias+head. It is the section
"The whole job" of docs/PERFORMANCE.md, which `tests/bench/performance.py` writes.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

import kilotune
from kilotune.studies.base_models import base_model
from kilotune.targets.window_costs import WindowCosts, count_window

# The cores, by the emulated board that executes their code.
CORES = {"Cortex-M4F": ("mps2-an386", ""), "Cortex-M0": ("mps2-an385", "-mcpu=cortex-m0")}
REST = ("learn_phase", "commit", "find_model", "start")
WORDS = {
    "mean_and_hann": "mean, Hann window",
    "fft": "FFT",
    "learn_phase": "learn phase, 40 passes",
    "find_model": "start: search of a partition of 4 MB",
    "start": "start: model and checkpoint opened",
}
# The same, counted before any work on these stages: this command at the commit that added it.
BEFORE: dict[str, dict[str, int]] = {
    "Cortex-M4F": {
        "intake": 41_793,
        "gate": 207_022,
        "mean_and_hann": 144_558,
        "fft": 204_912,
        "bands": 73_359,
        "log": 25_877,
        "statistics": 0,
        "normalise": 11_458,
        "network": 52_260,
        "scorers": 29_296,
        "reservoir": 0,
        "rest": 90,
        "window": 790_625,
        "learned window": 702_867,
        "learn_phase": 226_510_035,
        "commit": 856_247,
        "find_model": 5_356_908,
        "start": 1_747_828,
    },
    "Cortex-M0": {
        "intake": 56_466,
        "gate": 347_404,
        "mean_and_hann": 286_586,
        "fft": 1_532_548,
        "bands": 531_395,
        "log": 73_676,
        "statistics": 0,
        "normalise": 42_911,
        "network": 176_622,
        "scorers": 49_913,
        "reservoir": 0,
        "rest": 170,
        "window": 3_097_691,
        "learned window": 2_837_150,
        "learn_phase": 542_353_461,
        "commit": 1_163_619,
        "find_model": 7_613_695,
        "start": 2_819_737,
    },
}
ABOUT = """Made by `python tests/bench/window.py`: the shipped `vibration_ae_20k` with method bias+head, 3 axes of 1,024
samples, hop 512, on random samples with a fixed seed. A window is all that 512 new frames cause, from their arrival in
the engine to the result. `kilotune bench M.ktm --target qemu:mps2-an386 --window --json` gives the same of your own
model."""
LEGEND = """Code for the Cortex-M0 runs on an emulated Cortex-M3, which executes the same instructions. The stages
are those of `firmware/runtime/signal/stages.h`; what their counting takes is deducted. *Learned window*: of a first
learn phase, which stores windows and does not score them. *Before*: 0.1.0 without the work on these stages."""


def measured(image: Path) -> dict[str, WindowCosts]:
    return {core: count_window(board, image, cpu_flags=flags) for core, (board, flags) in CORES.items()}


def lines(costs: WindowCosts) -> dict[str, int]:
    """The rows of the table by name."""
    rest = asdict(costs)
    return {
        **costs.window,
        "window": costs.window_total,
        "learned window": costs.learned_window_total,
        **{name: rest[name] for name in REST},
    }


def table(costs: dict[str, WindowCosts], before: dict[str, dict[str, int]]) -> str:
    columns = {core: lines(counted) for core, counted in costs.items()}
    head = [f"{core}{when}" for core in columns for when in (", before", "") if not when or before.get(core)]
    rows = [["instructions", *head], ["---"] * (len(head) + 1)]
    for name in next(iter(columns.values())):
        cells = [WORDS.get(name, name)]
        for core, counted in columns.items():
            cells += [f"{before[core][name]:,}"] if before.get(core) else []
            cells.append(f"{counted[name]:,}")
        rows.append(cells)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shipped() -> bytes:
    return kilotune.compile(base_model("vibration_ae_20k"), method="bias+head").content


def section() -> str:
    """The section of docs/PERFORMANCE.md."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "m.ktm"
        image.write_bytes(shipped())
        return f"## The whole job\n\n{ABOUT}\n\n{table(measured(image), BEFORE)}\n\n{LEGEND}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions of a device's whole job.")
    parser.add_argument("model", type=Path, nargs="?")
    model: Path | None = parser.parse_args().model
    print(section() if model is None else table(measured(model), {}))


if __name__ == "__main__":
    main()
