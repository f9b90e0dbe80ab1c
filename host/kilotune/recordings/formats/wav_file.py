"""Sound files: the rate is in the header, samples are parts of a full scale that the file does not know."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.recordings.limits import require_modest, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Column, Table

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


def load(path: Path, options: ReadOptions) -> Table:
    import numpy as np
    from scipy.io import wavfile

    name = path.name
    tag, channels, bits, data_bytes = _checked(path)
    require_modest(data_bytes // max(1, bits // 8), name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)
            rate, data = wavfile.read(path)
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(name, error) from None
    if bits == 8:  # stored with its zero at 128
        data = data.astype(np.int16) - 128
    elif bits == 24:  # in the upper bits of 32
        data = data >> 8
    full_scale = 1.0 if tag == _FLOAT else float(1 << (bits - 1))
    matrix = data[:, None] if data.ndim == 1 else data
    columns = tuple(Column(str(i), matrix[:, i], named=False) for i in range(channels))
    return Table(name, columns, float(rate), "file header", full_scale=full_scale)


def _checked(path: Path) -> tuple[int, int, int, int]:
    """(format, channels, bits of a sample, bytes of data) by the file's own header, held against its size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if len(head) < 12 or head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
            raise _bad(path, "it does not begin as one")
        order = ">" if head[:4] == b"RIFX" else "<"
        form: tuple[int, int, int] | None = None
        for _ in range(1000):
            chunk = file.read(8)
            if len(chunk) < 8:
                raise _bad(path, "it has no samples")
            kind, length = chunk[:4], struct.unpack(order + "I", chunk[4:])[0]
            if kind == b"data":
                break
            if kind == b"fmt ":
                form = _form(path, file.read(min(length, 40)), order)
                file.seek(max(0, length - 40) + length % 2, 1)
            else:
                file.seek(length + length % 2, 1)
        else:
            raise _bad(path, "it has too many parts")
        if form is None:
            raise _bad(path, "it does not say the form of its samples")
        if length > size - file.tell():
            raise _bad(path, f"it claims {length:,} bytes of samples and holds {size - file.tell():,}")
        return (*form, length)


def _form(path: Path, content: bytes, order: str) -> tuple[int, int, int]:
    if len(content) < 16:
        raise _bad(path, "its header is cut off")
    tag, channels, rate, _, block, bits = struct.unpack(order + "HHIIHH", content[:16])
    if tag == _EXTENSIBLE and len(content) >= 26:
        tag = struct.unpack(order + "H", content[24:26])[0]
    widths = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
    if tag not in widths or bits not in widths[tag]:
        raise _bad(path, f"samples of {bits} bits in format {tag} are not read")
    if channels < 1 or rate < 1 or block != channels * bits // 8:
        raise _bad(path, f"its header is inconsistent: {channels} channels, {rate} Hz, {block} bytes a frame")
    return tag, channels, bits


def _bad(path: Path, why: str) -> KilotuneError:
    return KilotuneError(
        "bad_file",
        f"{path.name} could not be read as a sound file: {why}",
        "it is damaged, cut off, or of another format",
    )
