"""The data acquisition format of Edge Impulse, as JSON and as CBOR."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.recordings.limits import MAX_COLUMNS, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Column, Table

_MOST_BYTES = 200_000_000


def load_json(path: Path, options: ReadOptions) -> Table:
    _require_small(path)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise unreadable(path.name, error) from None
    return _table(content, path.name)


def load_cbor(path: Path, options: ReadOptions) -> Table:
    import cbor2

    _require_small(path)
    try:
        content = cbor2.loads(path.read_bytes())
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(path.name, error) from None
    return _table(content, path.name)


def _require_small(path: Path) -> None:
    if path.stat().st_size > _MOST_BYTES:
        raise KilotuneError("too_large", f"{path.name} is too large to be read as a whole", "store it as .npy or csv")


def _table(content: Any, name: str) -> Table:
    import numpy as np

    payload = content.get("payload") if isinstance(content, Mapping) else None
    if not isinstance(payload, Mapping) or not isinstance(payload.get("sensors"), list):
        raise KilotuneError(
            "bad_file", f"{name} is not one of Edge Impulse's: it has no payload with sensors", "export it as csv"
        )
    sensors = payload["sensors"]
    if not all(isinstance(s, Mapping) for s in sensors) or not 0 < len(sensors) <= MAX_COLUMNS:
        raise KilotuneError("bad_file", f"{name}: its sensors are no list of names and units", "export it again")
    try:
        values = np.asarray(payload.get("values"), dtype=np.float64)
        interval_ms = float(payload.get("interval_ms", 0))
    except (TypeError, ValueError, OverflowError) as error:
        raise unreadable(name, error, "its values are no table of numbers: export it again") from None
    if values.ndim == 1 and len(sensors) == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != len(sensors):
        raise KilotuneError(
            "bad_file", f"{name} has {len(sensors)} sensors and values of shape {values.shape}", "export it again"
        )
    rate_hz = 1000.0 / interval_ms if interval_ms > 0 else None
    if rate_hz is not None and round(rate_hz) and abs(rate_hz - round(rate_hz)) < 1e-6 * rate_hz:
        rate_hz = float(round(rate_hz))
    columns = tuple(
        Column(str(s.get("name", i)), values[:, i], str(s.get("units", "") or ""), "file" if s.get("units") else "")
        for i, s in enumerate(sensors)
    )
    return Table(name, columns, rate_hz, "interval_ms" if rate_hz else "")
