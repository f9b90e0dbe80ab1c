"""Which format a file has, by its first bytes before its ending, and the reader of that format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Table

# (first bytes, format); a format is a name of _READERS
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"MATLAB 5.0 MAT-file", "mat"),
    (b"MATLAB 7.3 MAT-file", "hdf5"),
    (b"TDSm", "tdms"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "feather"),
    (b"FEA1", "feather"),
    (b"RIFF", "wav"),
    (b"RIFX", "wav"),
    (b"RF64", "wav"),
    (b"\x1f\x8b", "gz"),
)
_ENDINGS = {
    ".csv": "text", ".tsv": "text", ".txt": "text", ".dat": "text", ".asc": "text", ".lvm": "text", ".log": "text",
    ".npy": "npy", ".npz": "npz", ".mat": "mat", ".wav": "wav", ".h5": "hdf5", ".hdf5": "hdf5", ".hdf": "hdf5",
    ".tdms": "tdms", ".parquet": "parquet", ".pq": "parquet", ".feather": "feather", ".arrow": "feather",
    ".xlsx": "xlsx", ".xlsm": "xlsx", ".uff": "uff", ".unv": "uff", ".json": "json", ".cbor": "cbor", ".gz": "gz",
}  # fmt: skip
_READERS = {
    "text": "text:load",
    "npy": "numpy_file:load_npy",
    "npz": "numpy_file:load_npz",
    "mat": "matlab:load",
    "wav": "wav_file:load",
    "hdf5": "hdf5_file:load",
    "tdms": "tdms_file:load",
    "uff": "uff_file:load",
    "parquet": "arrow_file:load_parquet",
    "feather": "arrow_file:load_feather",
    "xlsx": "excel_file:load",
    "json": "edge_impulse:load_json",
    "cbor": "edge_impulse:load_cbor",
}
FORMATS = tuple(_ENDINGS)
_PROBE_ROWS = 20_000  # of text, from which rate and columns are known before the rest is read


def format_of(path: Path) -> str:
    """A name of _READERS. KilotuneError `bad_file` for what is not read."""
    with path.open("rb") as file:
        head = file.read(64)
    for magic, form in _MAGIC:
        if head.startswith(magic):
            return form
    ending = path.suffix.lower()
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    from kilotune.recordings.formats.text import text_encoding

    if text_encoding(path) is not None:
        return "text"
    raise _unknown(path)


def table_of_file(path: Path, options: ReadOptions) -> Table:
    if path.is_dir():
        from kilotune.recordings.formats.hsdatalog import load

        return load(path, options)
    form = format_of(path)
    if form == "gz":
        from kilotune.recordings.formats.gzip_file import unpacked

        with unpacked(path) as inner:
            table = table_of_file(inner, options) if format_of(inner) != "gz" else None
        if table is None:
            raise KilotuneError("bad_file", f"{path.name} is packed more than once", "unpack it")
        return replace(table, name=path.name)
    if form == "text":
        table = _text(path, options)
        if table.rows < 2 and path.suffix.lower() not in _ENDINGS:
            raise _unknown(path)
        return table
    return _reader(form, path)(path, options)


def _unknown(path: Path) -> KilotuneError:
    ending = path.suffix.lower() or "(none)"
    return KilotuneError("bad_file", f"{path.name}: files of type {ending} are not read", "use " + ", ".join(FORMATS))


def _reader(form: str, path: Path) -> Callable[[Path, ReadOptions], Table]:
    if form not in _READERS:
        raise KilotuneError("bad_file", f"{path.name}: {form} files are not read", "use " + ", ".join(FORMATS))
    module, function = _READERS[form].split(":")
    found = getattr(import_module(f"kilotune.recordings.formats.{module}"), function)
    return found  # type: ignore[no-any-return]


def _text(path: Path, options: ReadOptions) -> Table:
    """Text, of which no more is read than `options.seconds` need."""
    from kilotune.recordings.formats.text import load
    from kilotune.recordings.interpret import understand

    if options.seconds is None:
        return load(path, options)
    probe = load(path, options, _PROBE_ROWS)
    if probe.complete:
        return probe
    rate_hz = understand(probe, options).rate_hz
    if rate_hz is None:
        return probe  # which is refused for that
    wanted = (options.start_s + options.seconds) * rate_hz + 16
    return probe if wanted <= probe.rows else load(path, options, int(min(wanted, 1 << 40)))
