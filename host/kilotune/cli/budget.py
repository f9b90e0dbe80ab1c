"""`kilotune compile --ram`: searches for what to train within a budget; shows the trade-off as table and picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from kilotune.cli.groups import OptionGroup
from kilotune.cli.options import EXISTING, FILE
from kilotune.cli.output import Output, table
from kilotune.errors import KilotuneError
from kilotune.terms import Loss, Method

if TYPE_CHECKING:
    from kilotune.compiler.options import CompileOptions
    from kilotune.compiler.search import Budget, Found, Point, Samples
    from kilotune.image.image import Image

UNITS = {"": 1, "k": 1000, "ki": 1024, "m": 1_000_000}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The options as given."""

    ram: str
    instructions: str | None
    calibration: Path
    labels: Path | None
    targets: Path | None
    steps: int
    plot: Path | None

    @property
    def inputs(self) -> dict[str, Path | None]:
        """The files that are read."""
        return {"the calibration": self.calibration, "the labels": self.labels, "the targets": self.targets}

    def budget(self) -> Budget:
        from kilotune.compiler.search import Budget

        wanted = None if self.instructions is None else count(self.instructions, "--instructions")
        return Budget(count(self.ram, "--ram"), wanted)


def count(text: str, option: str) -> int:
    """16k is 16,000, 16ki is 16,384."""
    digits = text.strip().lower().rstrip("kim")
    unit = text.strip().lower()[len(digits) :]
    try:
        value = round(float(digits) * UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        value = 0
    if value < 1:
        raise KilotuneError(
            "bad_argument",
            f"{option} {text} is not understood: it must be a number above 0",
            "write 16000, 16k or 16ki",
        )
    return value


def _wanted(
    ram: str | None,
    instructions: str | None,
    calibration: Path | None,
    labels: Path | None,
    targets: Path | None,
    search_steps: int,
    plot: Path | None,
) -> Wanted | None:
    if ram is None:
        budget_options.refuse("these options need --ram")
        return None
    if calibration is None:
        raise KilotuneError("bad_argument", "--ram needs data to measure on", "add --calibration FILE.npy")
    return Wanted(ram, instructions, calibration, labels, targets, search_steps, plot)


# Limits of a search, and the data it measures on: `Wanted`, None without --ram.
budget_options = OptionGroup(
    "wanted",
    _wanted,
    {
        "ram": click.option(
            "--ram",
            metavar="BYTES",
            help="Choose by measurement what to train so that arena, adapter and optimiser state fit (16k = 16,000).",
        ),
        "instructions": click.option(
            "--instructions", metavar="N", help="With --ram: at most N instructions per training step on a Cortex-M4F."
        ),
        "calibration": click.option(
            "--calibration",
            type=EXISTING,
            help="With --ram: inputs to measure on (.npy, one row per sample: int8, or floats in the input's units).",
        ),
        "labels": click.option(
            "--labels", type=EXISTING, help="Classes of the calibration inputs (.npy), for a classifier."
        ),
        "targets": click.option(
            "--targets", type=EXISTING, help="Targets of the calibration inputs (.npy), for regression."
        ),
        "search_steps": click.option(
            "--search-steps",
            type=click.IntRange(1, 1_000_000),
            default=400,
            show_default=True,
            help="Training steps per measurement.",
        ),
        "plot": click.option("--plot", type=FILE, help="Draw gain over RAM for each measured set (.svg)."),
    },
)


def load_samples(wanted: Wanted, model: Path, loss: Loss | None) -> Samples:
    """The calibration data, checked against the model and its loss."""
    from kilotune.common.arrays import load_calibration, load_labels, load_targets
    from kilotune.compiler.compile import CompileOptions, compile_with
    from kilotune.compiler.search import Samples

    bare = compile_with(model, CompileOptions(method=Method.none, loss=loss))
    scale, zero = bare.input_quantisation
    inputs = load_calibration(wanted.calibration, bare.input_bytes, scale, zero)
    labels = None if wanted.labels is None else load_labels(wanted.labels, len(inputs))
    targets = None
    if wanted.targets is not None:
        targets = load_targets(wanted.targets, len(inputs), bare.output_bytes, *bare.output_quantisation)
    for needed, given, option in ((Loss.classification, labels, "--labels"), (Loss.regression, targets, "--targets")):
        if (bare.loss is needed) != (given is not None):
            raise KilotuneError(
                "bad_argument",
                f"the model does {bare.loss}, " + ("which takes no " if given is not None else "which needs ") + option,
                f"omit {option}" if given is not None else f"give {option} FILE.npy",
            )
    return Samples(inputs, labels, targets)


def compile_within(out: Output, model: Path, wanted: Wanted, options: CompileOptions) -> tuple[Image, Found]:
    """The image that trains the best set, and the measurements."""
    from kilotune.compiler.compile import compile_within as search

    samples = load_samples(wanted, model, options.loss)
    with out.progress("measuring") as bar:
        image, found = search(
            model,
            wanted.budget(),
            samples,
            options=options,
            steps=wanted.steps,
            progress=lambda done, total, name: bar(done, total, name),
        )
    if wanted.plot is not None:
        from kilotune.common.files import write_atomically
        from kilotune.report.tradeoff import tradeoff

        write_atomically(wanted.plot, tradeoff(found, wanted.budget()).encode())
    return image, found


def described(found: Found) -> str:
    """Sets by RAM, then what each layer contributes alone."""
    sets = [
        (
            ">" if p is found.best else "",
            p.name,
            f"{p.ram_bytes:,}",
            f"{p.instructions:,}",
            f"{100 * p.gain:.1f}",
            "yes" if p.fits else "no",
        )
        for p in found.points
    ]
    parts = [
        (p.name, p.what, f"{100 * p.contribution:.1f}")
        for p in sorted(found.parts, key=lambda p: (-p.contribution, p.op))
    ]
    return "\n\n".join(
        (
            f"Gain: fall of the loss on {found.held} held-back samples, in %.",
            table(sets, ("", "set", "RAM, bytes", "instructions", "gain", "fits")),
            "Each layer alone:",
            table(parts, ("layer", "trained", "gain")),
        )
    )


def as_json(found: Found) -> dict[str, Any]:
    def point(p: Point) -> dict[str, Any]:
        trained = {
            str(i): {"bias": c.bias, "weights": c.weights, "channels": list(c.channels), "rank": c.rank}
            for i, c in sorted(p.chosen.items())
        }
        return {
            "name": p.name,
            "trained": trained,
            "ram_bytes": p.ram_bytes,
            "instructions": p.instructions,
            "gain": p.gain,
            "fits": p.fits,
        }

    parts = [{"op": p.op, "layer": p.name, "trained": p.what, "contribution": p.contribution} for p in found.parts]
    return {
        "best": point(found.best),
        "sets": [point(p) for p in found.points],
        "layers": parts,
        "held_back": found.held,
    }
