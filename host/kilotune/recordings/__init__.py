"""Recordings of vibration: files of many formats, and a simulated machine; what they hold and where that is known from.

A reader of `formats` makes a `Table` of a file. `interpret` makes a `Recording` of that, or refuses: nothing is taken
for what it may not be without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.recordings.alike import require_alike
from kilotune.recordings.formats.hsdatalog import is_hsdatalog
from kilotune.recordings.opening import FORMATS
from kilotune.recordings.options import UNITS, ReadOptions
from kilotune.recordings.paths import expand
from kilotune.recordings.recording import Channel, Recording

__all__ = ["FORMATS", "UNITS", "Channel", "ReadOptions", "Recording", "expand", "read", "read_all", "require_alike"]

_SYNTHETIC_RATE_HZ = 20_000.0


def read(source: str | Path, options: ReadOptions | None = None, *, model_rate_hz: float | None = None) -> Recording:
    """Samples of a file or of `synthetic:...`, resampled to `model_rate_hz` where that is given.

    Errors: `KilotuneError` that names the file and, for a bad value, its row and column; `ambiguous` where the file
    can be read in two ways, with the option that decides.
    """
    options = options or ReadOptions()
    text = str(source)
    if text.startswith("synthetic:"):
        recording = _simulated(text, options, model_rate_hz)
    else:
        recording = _from_file(Path(source), options)
    if model_rate_hz is None:
        return recording
    return recording.resampled(model_rate_hz, upsample=options.upsample)


def _simulated(text: str, options: ReadOptions, model_rate_hz: float | None) -> Recording:
    from kilotune.recordings.synthetic import simulate

    rate_hz = options.rate_hz or model_rate_hz or _SYNTHETIC_RATE_HZ
    recording = simulate(text, rate_hz=rate_hz, seconds=options.seconds)
    if not options.columns:
        return recording
    from kilotune.recordings.table import pick_columns

    picked = pick_columns([c.name for c in recording.channels], options.columns, text)
    channels = tuple(recording.channels[i] for i in picked)
    return replace(recording, samples=recording.samples[:, picked], channels=channels)


def _from_file(path: Path, options: ReadOptions) -> Recording:
    from kilotune.recordings.interpret import interpret
    from kilotune.recordings.opening import table_of_file

    if not path.exists():
        raise KilotuneError("no_file", f"there is no file {path}", "check the name and the folder")
    if path.is_dir() and not is_hsdatalog(path):
        raise KilotuneError("no_file", f"{path} is a folder", "name its files, such as " + str(path / "*.csv"))
    if path.is_file() and path.stat().st_size == 0:
        raise KilotuneError("empty", f"{path.name} is empty (0 bytes)", "check that the recording is complete")
    return interpret(table_of_file(path, options), options)


def read_all(
    sources: Iterable[str | Path], options: ReadOptions | None = None, *, model_rate_hz: float | None = None
) -> list[Recording]:
    """`read` of each file of all sources, folders and patterns; all must have the same axes in the same unit."""
    recordings = [read(source, options, model_rate_hz=model_rate_hz) for source in expand(sources)]
    axes = {r.axes for r in recordings}
    if len(axes) > 1:
        odd = ", ".join(f"{r.name} {r.axes}" for r in recordings[:6])
        raise KilotuneError("wrong_axes", f"the recordings differ in their axes: {odd}", "choose with --columns")
    require_alike(recordings, options or ReadOptions())
    return recordings
