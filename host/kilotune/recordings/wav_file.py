"""Sound files: the rate is in the header, 16-bit samples are counts."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.recordings.table import ReadOptions, Table, pick_columns, require_modest


def load_wav(path: Path, options: ReadOptions) -> Table:
    import numpy as np
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", wavfile.WavFileWarning)
            rate, data = wavfile.read(path)
    except (ValueError, EOFError, OSError, struct.error, wavfile.WavFileWarning) as error:
        short = str(error).rstrip(".").splitlines()[0] if str(error) else "unknown format"
        raise KilotuneError(
            "bad_file", f"{path.name} could not be read as a sound file: {short}", "it is damaged or cut off"
        ) from None
    if data.dtype == np.uint8:  # 8-bit sound is stored with its zero at 128
        data = data.astype(np.int16) - 128
    matrix = data[:, None] if data.ndim == 1 else data
    names = tuple(str(i) for i in range(matrix.shape[1]))
    chosen = pick_columns(names, options.columns, path.name) if options.columns else list(range(len(names)))
    require_modest(matrix.shape[0] * len(chosen), path.name)
    return Table(np.ascontiguousarray(matrix[:, chosen]), tuple(names[i] for i in chosen), float(rate), "file header")
