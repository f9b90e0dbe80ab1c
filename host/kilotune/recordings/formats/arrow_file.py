"""Parquet and Feather: tables of columns, by Apache Arrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.packages import optional
from kilotune.recordings.limits import MAX_COLUMNS, require_modest, require_unpackable, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Column, Table, stated_rate

_UNIT_KEYS = (b"unit", b"units")


def load_parquet(path: Path, options: ReadOptions) -> Table:
    parquet = optional("pyarrow.parquet", "pyarrow", path.name)
    try:
        file = parquet.ParquetFile(path)
        _require_modest(path, file.metadata.num_rows, file.schema_arrow)
        sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
        require_unpackable(path.stat().st_size, sum(sizes), path.name)
        return _table(path.name, file.read())
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(path.name, error) from None


def load_feather(path: Path, options: ReadOptions) -> Table:
    ipc = optional("pyarrow.ipc", "pyarrow", path.name)
    feather = optional("pyarrow.feather", "pyarrow", path.name)
    try:
        with path.open("rb") as head:
            if head.read(4) == b"FEA1":
                return _table(path.name, feather.read_table(path))
        with ipc.open_file(str(path)) as file:
            _require_modest(path, 0, file.schema)
            batches, rows = [], 0
            for i in range(file.num_record_batches):
                batches.append(file.get_batch(i))
                rows += batches[-1].num_rows
                _require_modest(path, rows, file.schema)
        pyarrow = optional("pyarrow", "pyarrow", path.name)
        return _table(path.name, pyarrow.Table.from_batches(batches, file.schema))
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(path.name, error) from None


def _require_modest(path: Path, rows: int, schema: Any) -> None:
    if len(schema) > MAX_COLUMNS:
        raise KilotuneError("too_large", f"{path.name} has {len(schema):,} columns", "store fewer")
    require_modest(rows * len(schema), path.name)
    require_unpackable(path.stat().st_size, 8 * rows * len(schema), path.name)


def _table(name: str, found: Any) -> Table:
    import numpy as np

    columns, away = [], []
    for field in found.schema:
        column = _column(field, found.column(field.name))
        if column is None:
            away.append(field.name)
        else:
            columns.append(column)
    constants = {
        (key.decode("utf-8", "replace")): np.array(float(value))
        for key, value in (found.schema.metadata or {}).items()
        if _is_number(value)
    }
    rate_hz, rate_from = stated_rate(constants)
    notes = tuple(f"not read: column {str(n)[:40]}, which is no number" for n in away)
    return Table(name, tuple(columns), rate_hz, rate_from, constants, notes=notes)


def _column(field: Any, chunked: Any) -> Column | None:
    """None for columns of words and the like. Missing values are NaN, which is refused later."""
    import numpy as np

    kind = str(field.type)
    unit = next((field.metadata[k].decode("utf-8", "replace") for k in _UNIT_KEYS if k in (field.metadata or {})), "")
    if kind.startswith("timestamp"):
        stamps = chunked.to_numpy().astype("datetime64[ns]").astype(np.int64)
        return Column(field.name, (stamps - stamps[0]) / 1e9 if stamps.size else stamps, "s", "file", stamps=True)
    if not kind.startswith(("int", "uint", "float", "double", "halffloat")):
        return None
    values = chunked.to_numpy()
    return Column(field.name, values, unit, "file" if unit else "") if values.dtype.kind in "iuf" else None


def _is_number(value: bytes) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
