"""The command that says what is in recordings: look; and how the others say what they understood of theirs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.options import FILE, refuse_unread, source_options
from kilotune.cli.output import Output, pairs, table

if TYPE_CHECKING:
    from kilotune.recordings import ReadOptions, Recording
    from kilotune.recordings.look import AxisLook, Look

_MOST_TOLD = 5  # files alike are told of by their number


@command(
    "look",
    example="kilotune look healthy.csv\n"
    "kilotune look machine/ 'more/*.wav' --scale 0.00049 --plot look.html\n"
    "kilotune look measured.mat --variable bearing.gs --json",
)
@click.argument("sources", nargs=-1, required=True, metavar="FILE...")
@source_options
@click.option("--plot", "page", type=FILE, help="An HTML page to write: waveform, spectrum, envelope spectrum.")
def look_command(out: Output, sources: tuple[str, ...], read: ReadOptions, page: Path | None) -> None:
    """Say what is in recordings: axes, unit, rate, gaps, and each axis in figures.

    RMS, peak, crest factor and kurtosis are of the signal without its mean (dc). Kurtosis is 3 for noise.
    """
    from kilotune.common.files import keep_apart, require_writable, write_atomically
    from kilotune.recordings import expand
    from kilotune.recordings import read as read_file
    from kilotune.recordings.look import look_at

    refuse_unread(sources)
    files = expand(sources)
    if page is not None:
        keep_apart({"--plot": page}, {name: Path(name) for name in files})
        require_writable(page)
    looks = [(file, look_at(read_file(file, read))) for file in files]
    if page is not None:
        from kilotune.report.recording_page import render_looks

        write_atomically(page, render_looks([look for _, look in looks]).encode(errors="replace"))
    text = "\n\n".join(_text(look) for _, look in looks)
    out.result({"files": [_json(file, look) for file, look in looks]}, text + (f"\n\n{page}" if page else ""))


def _json(file: str, look: Look) -> dict[str, Any]:
    r = look.recording
    return {
        "file": file,
        "rate_hz": r.rate_hz,
        "rate_from": r.rate_from,
        "samples": len(r.samples),
        "seconds": r.seconds,
        "stretches": len(r.starts),
        "gaps": look.gaps,
        "unit": r.unit,
        "axes": [_axis_json(a, r.unit) for a in look.axes],
        "notes": list(r.notes),
    }


def _axis_json(axis: AxisLook, unit: str) -> dict[str, Any]:
    """`*_g` are null where only counts are known; `dc`, `rms` and `peak` are in the recording's own unit."""
    figures = {"dc": axis.dc, "rms": axis.rms, "peak": axis.peak}
    in_g = {f"{name}_g": value if unit == "g" else None for name, value in figures.items()}
    return {
        "name": axis.channel.name,
        "unit": axis.channel.unit,
        "unit_from": axis.channel.unit_from,
        **in_g,
        **figures,
        "crest": axis.crest,
        "kurtosis": axis.kurtosis,
        "clipped": axis.clipped,
        "constant": axis.constant,
    }


def _text(look: Look) -> str:
    r = look.recording
    head = [
        ("file", r.name),
        ("rate", f"{r.rate_hz:g} Hz, from {r.rate_from}"),
        ("length", f"{len(r.samples):,} samples, {r.seconds:.3f} s"),
        ("gaps", "none" if not look.gaps else f"{look.gaps}: {len(r.starts)} stretches"),
    ]
    rows = [_row(a) for a in look.axes]
    titles = ("axis", "unit", "from", "dc", "rms", "peak", "crest", "kurtosis", "clipped", "constant")
    lines = [pairs(list(head)), "", table(rows, titles)]
    if r.unit == "g" and any(a.channel.unit != "g" for a in look.axes):
        lines.append("dc, rms and peak are in g")
    return "\n".join([*lines, *(f"note: {note}" for note in r.notes)])


def _row(axis: AxisLook) -> tuple[str, ...]:
    def known(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    figures = (f"{axis.dc:.4g}", f"{axis.rms:.4g}", f"{axis.peak:.4g}", known(axis.crest), known(axis.kurtosis))
    counted = (str(axis.clipped or "-"), str(axis.constant or "-"))
    return (axis.channel.name, axis.channel.unit, axis.channel.unit_from, *figures, *counted)


def tell_understood(out: Output, recordings: Iterable[Recording]) -> None:
    """What was understood of each file, and once what had to be assumed."""
    from kilotune.recordings.look import sentence

    every = list(recordings)
    for recording in every[:_MOST_TOLD]:
        out.say(sentence(recording))
    if len(every) > _MOST_TOLD:
        out.say(f"and {len(every) - _MOST_TOLD} more, {sum(r.seconds for r in every):.1f} s in all")
    for note in dict.fromkeys(n for r in every for n in r.notes):
        out.note(note)
