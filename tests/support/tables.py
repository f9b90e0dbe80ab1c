"""Text files of samples as loggers write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RATE_HZ = 1600.0
ROWS = 400


def noise(axes: int = 3, *, rows: int = ROWS, seed: int = 1) -> npt.NDArray[np.float64]:
    """(rows, axes), of as many decimals as are written."""
    return np.round(np.random.default_rng(seed).normal(size=(rows, axes)), 6)


def seconds(rows: int = ROWS, rate_hz: float = RATE_HZ) -> npt.NDArray[np.float64]:
    return np.arange(rows) / rate_hz


def table(
    columns: Sequence[Any], header: str = "", *, delimiter: str = ",", decimal: str = ".", form: str = "%.6f"
) -> str:
    """Rows of these columns below the header's lines; text and whole numbers as they are."""

    def cell(value: Any) -> str:
        text = form % value if isinstance(value, float) else str(value)
        return text if isinstance(value, str) else text.replace(".", decimal)

    rows = [
        delimiter.join(cell(v) for v in row) for row in zip(*(np.asarray(c).tolist() for c in columns), strict=True)
    ]
    return (header + "\n" if header else "") + "\n".join(rows) + "\n"


def write(folder: Path, text: str, name: str = "a.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path
