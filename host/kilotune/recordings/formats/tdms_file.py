"""TDMS of National Instruments: groups of channels, each with its own interval and unit."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.recordings.formats.clipped import clipped
from kilotune.recordings.formats.leaves import Leaf, table_of
from kilotune.recordings.formats.packages import optional
from kilotune.recordings.limits import require_modest, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Table

_UNITS = ("unit_string", "NI_UnitDescription", "Unit", "unit", "Units", "NI_Unit")


def load(path: Path, options: ReadOptions) -> Table:
    nptdms = optional("nptdms", "npTDMS", path.name)
    try:
        optional("nptdms.log", "npTDMS", path.name).log_manager.set_level(logging.CRITICAL)  # tells of every damage
        with clipped(path) as content, nptdms.TdmsFile.open(content) as file:
            leaves = [_leaf(group, channel, path) for group in file.groups() for channel in group.channels()]
            return table_of(leaves, options, path.name)
    except KilotuneError:
        raise
    except Exception as error:  # of the library: whatever a damaged file makes of it
        raise unreadable(path.name, error) from None


def _leaf(group: Any, channel: Any, path: Path) -> Leaf:
    import numpy as np

    count = len(channel)
    # A damaged file may claim any number of values; those that it holds take a byte each at least.
    if count > path.stat().st_size:
        raise KilotuneError("bad_file", f"{path.name} claims {count:,} values in {channel.name}", "it is damaged")
    properties = channel.properties
    interval = properties.get("wf_increment")
    rate_hz = 1.0 / float(interval) if isinstance(interval, (int, float)) and interval > 0 else None
    if rate_hz is not None and round(rate_hz) and abs(rate_hz - round(rate_hz)) < 1e-6 * rate_hz:
        rate_hz = float(round(rate_hz))
    unit = next((str(properties[n]) for n in _UNITS if properties.get(n)), "")
    name = f"{group.name}.{channel.name}" if group.name else str(channel.name)
    dtype = np.dtype(channel.dtype) if channel.dtype is not None else np.dtype(object)

    def load() -> Any:
        require_modest(count, path.name)
        return np.asarray(channel[:])

    return Leaf(name, (count,), dtype, load, unit, rate_hz, label=str(channel.name))
