"""Folders of ST's High Speed Datalog, of its first and second form: a description in JSON, and a .dat file a sensor.

A .dat file is frames of int16 samples, each followed by a time stamp in seconds (float64). In the second form they are
cut into packets, each behind a counter of the bytes before it (uint32).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.recordings.limits import require_modest, unreadable
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.table import Column, Table, listed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CONFIGS = ("DeviceConfig.json", "device_config.json")
_MOST_CONFIG_BYTES = 20_000_000
_AXES = ("x", "y", "z")
_PACKETS = ("usb_dps", "sd_dps", "ble_dps", "serial_dps")


def is_hsdatalog(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGS)


@dataclass(frozen=True, slots=True)
class _Stream:
    """One accelerometer of a folder; `packets`: sizes that its packets may have, none in the first form."""

    name: str
    file: Path
    axes: int
    samples_per_stamp: int
    sensitivity: float
    unit: str
    rate_hz: float | None
    packets: tuple[int, ...]


def load(folder: Path, options: ReadOptions) -> Table:
    try:
        streams = list(_streams(folder))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OSError) as error:
        raise unreadable(folder.name, error, "its description is damaged") from None
    names = [s.name for s in streams]
    if options.variable is not None:
        streams = [s for s in streams if s.name.lower() == options.variable.lower()]
    if len(streams) != 1:
        raise KilotuneError(
            "no_column",
            f"{folder.name}: which accelerometer is the recording? It has {listed(names)}",
            "choose with --variable" if names else "is its .dat file there?",
        )
    return _read(streams[0], folder.name)


def _streams(folder: Path) -> Iterator[_Stream]:
    path = next(folder / name for name in _CONFIGS if (folder / name).is_file())
    if path.stat().st_size > _MOST_CONFIG_BYTES:
        raise ValueError("it is too large")
    content = json.loads(path.read_bytes())
    if "device" in content:
        yield from _first_form(content["device"], folder)
    for device in content.get("devices", ()):
        for component in device["components"]:
            for name, facts in component.items():
                if isinstance(facts, Mapping) and name.lower().endswith("_acc") and (folder / f"{name}.dat").is_file():
                    yield _second_form(name, facts, folder)


def _first_form(device: Mapping[str, Any], folder: Path) -> Iterator[_Stream]:
    for sensor in device["sensor"]:
        described = sensor["sensorDescriptor"]["subSensorDescriptor"]
        for one, status in zip(described, sensor["sensorStatus"]["subSensorStatus"], strict=True):
            file = folder / f"{sensor['name']}_{one['sensorType']}.dat"
            if str(one["sensorType"]).upper() != "ACC" or not status.get("isActive", True) or not file.is_file():
                continue
            if str(one.get("dataType", "int16_t")) not in ("int16_t", "int16"):
                raise ValueError(f"samples of type {one['dataType']} are not read")
            yield _Stream(
                file.stem, file, int(one["dimensions"]), int(status["samplesPerTs"]), float(status["sensitivity"]),
                str(one.get("unit") or "g"), float(status.get("ODRMeasured") or status.get("ODR") or 0) or None, (),
            )  # fmt: skip


def _second_form(name: str, facts: Mapping[str, Any], folder: Path) -> _Stream:
    if str(facts.get("data_type", "int16")) not in ("int16", "int16_t"):
        raise ValueError(f"samples of type {facts['data_type']} are not read")
    per_stamp = facts["samples_per_ts"]
    per_stamp = per_stamp.get("val", 0) if isinstance(per_stamp, Mapping) else per_stamp
    sizes = [int(facts[key]) for key in _PACKETS if facts.get(key)]
    packets = tuple(dict.fromkeys([*sizes, *(n - 4 for n in sizes if n > 4)]))
    return _Stream(
        name, folder / f"{name}.dat", int(facts["dim"]), int(per_stamp), float(facts["sensitivity"]),
        str(facts.get("unit") or "g"), float(facts.get("measodr") or 0) or None, packets,
    )  # fmt: skip


def _read(stream: _Stream, name: str) -> Table:
    import numpy as np

    if not (1 <= stream.axes <= 64 and stream.samples_per_stamp >= 1 and stream.sensitivity):
        raise KilotuneError("bad_file", f"{name}: {stream.name} has no stamps or no sensitivity", "export it as csv")
    require_modest(stream.file.stat().st_size // 2, name)
    content = _unpacked(stream, np.fromfile(stream.file, np.uint8), name)
    frame = np.dtype([("counts", "<i2", (stream.samples_per_stamp, stream.axes)), ("stamp_s", "<f8")])
    frames = np.frombuffer(content[: content.size // frame.itemsize * frame.itemsize].tobytes(), frame)
    stamps = frames["stamp_s"]
    steps = np.diff(stamps)
    if frames.size < 2 or not np.isfinite(stamps).all() or not (steps > 0).all():
        raise KilotuneError(
            "bad_file", f"{name}: the stamps of {stream.name} do not rise", "it is damaged, or of an unknown form"
        )
    counts = frames["counts"].reshape(-1, stream.axes)
    usual = float(np.median(steps))
    gaps = np.flatnonzero(steps > 1.5 * usual) + 1
    starts = (0, *(int(i) * stream.samples_per_stamp for i in gaps))
    times = (0.0, *(float(stamps[i] - stamps[0]) for i in gaps))
    measured = stream.samples_per_stamp / usual
    stated = stream.rate_hz is not None and abs(stream.rate_hz / measured - 1) < 0.05
    rate_hz, rate_from = (stream.rate_hz, "measured by the device") if stated else (measured, "time stamps")
    columns = tuple(
        Column(_AXES[i] if stream.axes <= 3 else str(i), counts[:, i] * stream.sensitivity, stream.unit, "description")
        for i in range(stream.axes)
    )
    return Table(name, columns, rate_hz, rate_from, starts=starts, times_s=times)


def _unpacked(stream: _Stream, content: npt.NDArray[np.uint8], name: str) -> npt.NDArray[np.uint8]:
    """The frames without the packets' counters; which size packets have, the counters themselves show."""
    import numpy as np

    if not stream.packets:
        return content
    fitting = []
    for size in stream.packets:
        whole = content[: content.size // (size + 4) * (size + 4)].reshape(-1, size + 4)
        counters = whole[:, :4].copy().view("<u4").ravel().astype(np.int64)
        if len(whole) and (np.diff(counters) % size == 0).all() and (np.diff(counters) > 0).all() and not counters[0]:
            fitting.append((size, whole, counters))
    if len(fitting) > 1:
        # A lone packet fits any size: the largest holds the most of it.
        fitting = [f for f in fitting if len(f[1]) > 1][:1] or fitting[:1]
    if not fitting:
        raise KilotuneError(
            "bad_file", f"{name}: the packets of {stream.name} have none of the sizes in its description",
            "it is damaged, or of an unknown form",
        )  # fmt: skip
    size, whole, counters = fitting[0]
    if (np.diff(counters) != size).any():
        raise KilotuneError("bad_file", f"{name}: packets of {stream.name} are missing", "convert it with ST's tools")
    tail = content[len(whole) * (size + 4) :][4:]
    body: npt.NDArray[np.uint8] = np.concatenate([whole[:, 4:].ravel(), tail])
    return body
