"""The command that makes a base model of one's own: base."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.looking import tell_understood
from kilotune.cli.options import FILE, Real, refuse_unread, source_options
from kilotune.cli.output import Output, pairs

if TYPE_CHECKING:
    from kilotune.base.own import OwnBase
    from kilotune.recordings import ReadOptions

DEFAULT_STEPS = 6000  # base.training.STEPS, which is not imported at start-up; a test holds both together


@command(
    "base",
    example="kilotune base --healthy healthy/ -o base.tflite\n"
    "kilotune base --healthy 'week1/*.csv' --columns x,y --model-rate 3200 --full-scale 16 -o base.tflite --json",
)
@click.option("--healthy", multiple=True, required=True, help="Recording of a healthy machine; repeatable.")
@click.option("-o", "--out", "target", type=FILE, required=True, help="The .tflite to write.")
@click.option(
    "--model-rate",
    type=Real(min=0, min_open=True),
    metavar="HZ",
    help="Sampling rate of the model in Hz; faster recordings are resampled [default: the recordings' own].",
)
@click.option(
    "--full-scale",
    type=Real(min=0, min_open=True),
    metavar="G",
    help="Range of the sensor on the device in g [default: the smallest usual one above the highest peak].",
)
@click.option(
    "--steps", type=click.IntRange(1, 1_000_000), default=DEFAULT_STEPS, show_default=True, help="Training steps."
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 2), default=1, show_default=True, help="Random seed.")
@source_options
def base_command(
    out: Output,
    healthy: tuple[str, ...],
    target: Path,
    model_rate: float | None,
    full_scale: float | None,
    steps: int,
    seed: int,
    read: ReadOptions,
) -> None:
    """Train a base model on your own recordings of healthy machines (needs the tensorflow extra).

    An autoencoder of the features that the device computes, int8, ready for `kilotune compile`. Every fifth file, or
    the end of each if there are fewer than five, is held out: the model is judged on it.
    """
    from kilotune.base.own import base_from_recordings
    from kilotune.common.files import keep_apart, require_writable, write_atomically
    from kilotune.recordings import expand, read_all
    from kilotune.tflite.convert import import_tensorflow

    refuse_unread(healthy)
    keep_apart({"--out": target}, {name: Path(name) for name in expand(healthy) if not name.startswith("synthetic:")})
    require_writable(target)
    recordings = read_all(healthy, read, model_rate_hz=model_rate)
    tell_understood(out, recordings)
    import_tensorflow()  # says at once where it is missing
    with out.progress("training"):
        made = base_from_recordings(recordings, full_scale_g=full_scale, steps=steps, seed=seed)
    write_atomically(target, made.tflite)
    out.result(_json(made, target), _text(made, target))


def _json(made: OwnBase, target: Path) -> dict[str, object]:
    f = made.features
    return {
        "tflite": str(target),
        "bytes": len(made.tflite),
        "rate_hz": f.rate_hz,
        "axes": f.axes,
        "full_scale_g": f.full_scale_g,
        "layers": list(made.widths),
        "windows": made.windows,
        "held_out": made.held_out,
        "residual_variance": made.residual_variance,
        "held_out_residual_variance": made.held_out_residual_variance,
        "held_out_alarms": made.held_out_alarms,
    }


def _text(made: OwnBase, target: Path) -> str:
    f = made.features
    rows: list[tuple[str, object]] = [
        ("model", f"{target}, {len(made.tflite):,} bytes"),
        ("input", f"{f.axes} axes at {f.rate_hz:g} Hz, {f.full_scale_g:g} g full scale; {f.inputs} features"),
        ("layers", "-".join(map(str, made.widths))),
        ("windows", f"{made.windows:,} trained on, {made.held_out:,} held out"),
        ("unexplained", f"{100 * made.residual_variance:.1f} % of the features' variance"),
    ]
    if made.held_out_residual_variance is not None and made.held_out_alarms is not None:
        rows += [
            ("held out", f"{100 * made.held_out_residual_variance:.1f} % unexplained"),
            ("", f"{100 * made.held_out_alarms:.1f} % of windows above the threshold that 1 % of the others pass"),
        ]
    lines = [pairs(rows), "", f"next: kilotune compile {target} -o model.ktm --method bias+head"]
    if made.unlike:
        lines.insert(1, f"note: {made.unlike}")
    return "\n".join(lines)
