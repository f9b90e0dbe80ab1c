"""Where samples come from: files of several formats, and a simulated machine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.recordings.recording import Recording
from kilotune.recordings.table import UNITS, ReadOptions, to_recording

__all__ = ["FORMATS", "UNITS", "ReadOptions", "Recording", "read", "read_all"]

FORMATS = (".csv", ".tsv", ".txt", ".npy", ".npz", ".mat", ".wav")
_SYNTHETIC_RATE_HZ = 20_000.0


def read(source: str | Path, options: ReadOptions | None = None, *, model_rate_hz: float | None = None) -> Recording:
    """Samples of a file or of `synthetic:...`, resampled to `model_rate_hz` where that is given.

    Errors: `KilotuneError` that names the file and, for a bad value, its row and column.
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
    from dataclasses import replace

    from kilotune.recordings.table import pick_columns

    names = ("x", "y", "z")[: recording.axes]
    return replace(recording, samples=recording.samples[:, pick_columns(names, options.columns, text)])


def _from_file(path: Path, options: ReadOptions) -> Recording:
    if not path.exists():
        raise KilotuneError("no_file", f"there is no file {path}", "check the name and the folder")
    if path.is_dir():
        raise KilotuneError("no_file", f"{path} is a folder", "name its files, such as " + str(path / "*.csv"))
    if path.stat().st_size == 0:
        raise KilotuneError("empty", f"{path.name} is empty (0 bytes)", "check that the recording is complete")
    ending = path.suffix.lower()
    if ending in (".csv", ".tsv", ".txt"):
        from kilotune.recordings.text_file import load_text as load
    elif ending == ".npy":
        from kilotune.recordings.array_file import load_npy as load
    elif ending == ".npz":
        from kilotune.recordings.array_file import load_npz as load
    elif ending == ".mat":
        from kilotune.recordings.array_file import load_mat as load
    elif ending == ".wav":
        from kilotune.recordings.wav_file import load_wav as load
    else:
        raise KilotuneError(
            "bad_file",
            f"{path.name}: files of type {ending or '(none)'} are not read",
            "use " + ", ".join(FORMATS),
        )
    return to_recording(load(path, options), options, path.name)


def read_all(
    sources: Iterable[str | Path], options: ReadOptions | None = None, *, model_rate_hz: float | None = None
) -> list[Recording]:
    """`read` of each source; all must have one number of axes."""
    recordings = [read(source, options, model_rate_hz=model_rate_hz) for source in sources]
    axes = {r.axes for r in recordings}
    if len(axes) > 1:
        odd = ", ".join(f"{r.name} {r.axes}" for r in recordings[:6])
        raise KilotuneError("wrong_axes", f"the recordings differ in their axes: {odd}", "choose with --columns")
    return recordings
