"""One recording in every format that is read, as its instrument or app writes it; and the table of the docs of them.

python tests/support/recording_examples.py    # writes the table in docs/RECORDINGS.md
"""

from __future__ import annotations

import gzip
import json
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from kilotune.recordings import ReadOptions, read
from kilotune.recordings.look import sentence

from tests.support.docs import replaced_table
from tests.support.paths import ROOT
from tests.support.tables import table

RATE_HZ, ROWS, FULL_SCALE_G = 1600.0, 800, 16.0
GRAVITY = 9.80665


def signal(axes: int = 3) -> npt.NDArray[np.float64]:
    """(rows, axes) in g: noise on a tone, and gravity on the last axis."""
    t = np.arange(ROWS) / RATE_HZ
    tone = np.sin(2 * np.pi * np.outer(t, [50, 120, 230][:axes]))
    found: npt.NDArray[np.float64] = tone + np.random.default_rng(7).normal(0, 0.5, (ROWS, axes))
    found[:, -1] += 1.0
    return found


T = np.arange(ROWS) / RATE_HZ
G = signal()


@dataclass(frozen=True, slots=True)
class Example:
    """`write` makes the file at the path; `g`: what it holds, in g. `options` are those that it takes to read it."""

    what: str
    name: str
    write: Callable[[Path], None]
    g: npt.NDArray[np.float64] = field(default_factory=lambda: G)
    options: ReadOptions = field(default_factory=ReadOptions)
    command: str = ""
    tolerance: float = 1e-6  # of the full scale; more where the file itself holds less
    rate_hz: float = RATE_HZ
    package: str = ""


def _text(text: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    return lambda path: _put(path, text.encode(encoding))


def _put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _csv(header: str, *columns: Any, form: str = "%.9f", **how: str) -> str:
    return table(columns, header, form=form, **how)


def _npz(path: Path) -> None:
    np.savez(path, acc=G, fs=RATE_HZ)


def _npy(path: Path) -> None:
    np.save(path, np.column_stack([T, G]))


def _mfpt(path: Path) -> None:
    from scipy.io import savemat

    savemat(path, {"bearing": {"sr": 97656.0, "rate": 25.0, "load": 270.0, "gs": G[:, :1]}})


def _paderborn(path: Path) -> None:
    from scipy.io import savemat

    slow = np.arange(ROWS // 16) / 4000.0
    x = [{"Name": "Mech_4kHz", "Data": slow}, {"Name": "HostService", "Data": np.arange(ROWS) / 64_000}]
    y = [
        {"Name": "force", "Data": np.ones(ROWS // 16), "Raster": "Mech_4kHz"},
        {"Name": "phase_current_1", "Data": G[:, 1], "Raster": "HostService"},
        {"Name": "vibration_1", "Data": G[:, 0], "Raster": "HostService"},
    ]
    savemat(path, {"N15_M07_F10_KA01_1": {"X": x, "Y": y}})


def _matlab73(path: Path) -> None:
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in (("acc", G.T), ("fs", np.array([[RATE_HZ]]))):
            made = file.create_dataset(name, data=value)
            made.attrs["MATLAB_class"] = np.bytes_("double")
    content = bytearray(path.read_bytes())
    content[:19] = b"MATLAB 7.3 MAT-file"
    path.write_bytes(content)


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        made = file.create_dataset("machine/vibration", data=G * GRAVITY, compression="gzip")
        made.attrs["units"] = "m/s^2"
        made.attrs["sampling_rate"] = RATE_HZ


def _tdms(path: Path) -> None:
    from nptdms import ChannelObject, TdmsWriter

    facts = {"wf_increment": 1 / RATE_HZ, "wf_start_offset": 0.0, "unit_string": "g"}
    with TdmsWriter(path) as writer:
        writer.write_segment([ChannelObject("cDAQ1", f"Acc {a}", G[:, i], facts) for i, a in enumerate("XYZ")])


def _uff(path: Path) -> None:
    import pyuff

    sets = [
        pyuff.prepare_58(
            binary=1, func_type=1, rsp_node=7, rsp_dir=i + 1, ref_node=0, ref_dir=0, x=T, data=G[:, i] * GRAVITY,
            ordinate_spec_data_type=12, ordinate_axis_units_lab="m/s^2", abscissa_spec_data_type=17,
            abscissa_inc=1 / RATE_HZ, num_pts=ROWS, abscissa_spacing=1, ord_data_type=4, orddenom_spec_data_type=0,
            z_axis_spec_data_type=0,
        )
        for i in range(3)
    ]  # fmt: skip
    pyuff.UFF(str(path)).write_sets(sets, mode="add")


def _arrow() -> Any:
    import pyarrow

    return pyarrow.table({"time_s": T, **{f"acc_{a} (g)": G[:, i] for i, a in enumerate("xyz")}})


def _parquet(path: Path) -> None:
    from pyarrow import parquet

    parquet.write_table(_arrow(), path)


def _feather(path: Path) -> None:
    from pyarrow import feather

    feather.write_feather(_arrow(), str(path))


def _excel(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Time", "Acc X", "Acc Y", "Acc Z"])
    sheet.append(["s", "m/s²", "m/s²", "m/s²"])
    for row in np.column_stack([T, G * GRAVITY]).tolist():
        sheet.append(row)
    book.save(path)


def _edge_impulse() -> dict[str, Any]:
    sensors = [{"name": f"acc{a}", "units": "m/s2"} for a in "XYZ"]
    payload = {"device_type": "BOARD", "interval_ms": 1000 / RATE_HZ, "sensors": sensors}
    return {
        "protected": {"ver": "v1", "alg": "none"},
        "signature": "0" * 64,
        "payload": {**payload, "values": (G * GRAVITY).tolist()},
    }


def _cbor(path: Path) -> None:
    import cbor2

    _put(path, cbor2.dumps(_edge_impulse()))


def _frames(samples_per_stamp: int, sensitivity: float) -> bytes:
    counts = np.rint(G / sensitivity).astype("<i2")
    out = b""
    for k in range(0, ROWS, samples_per_stamp):
        out += counts[k : k + samples_per_stamp].tobytes() + struct.pack("<d", (k + samples_per_stamp) / RATE_HZ)
    return out


SENSITIVITY = 0.000488


def _hsdatalog_1(folder: Path) -> None:
    folder.mkdir()
    described = {"id": 0, "sensorType": "ACC", "dimensions": 3, "unit": "g", "dataType": "int16_t"}
    status = {"ODR": RATE_HZ, "ODRMeasured": RATE_HZ, "sensitivity": SENSITIVITY, "isActive": True, "samplesPerTs": 100}
    sensor = {
        "name": "IIS3DWB",
        "sensorDescriptor": {"subSensorDescriptor": [described]},
        "sensorStatus": {"subSensorStatus": [status]},
    }
    (folder / "DeviceConfig.json").write_text(json.dumps({"device": {"sensor": [sensor]}}), encoding="utf-8")
    (folder / "IIS3DWB_ACC.dat").write_bytes(_frames(100, SENSITIVITY))


def _hsdatalog_2(folder: Path) -> None:
    folder.mkdir()
    facts = {"odr": 3, "measodr": RATE_HZ, "dim": 3, "samples_per_ts": 100, "sensitivity": SENSITIVITY, "unit": "g"}
    facts |= {"data_type": "int16", "usb_dps": 960, "sd_dps": 1024, "enable": True}
    config = {"devices": [{"components": [{"iis3dwb_acc": facts}, {"stts22h_temp": {"dim": 1}}]}]}
    (folder / "device_config.json").write_text(json.dumps(config), encoding="utf-8")
    content = _frames(100, SENSITIVITY)
    packets = [struct.pack("<I", k) + content[k : k + 1020] for k in range(0, len(content), 1020)]
    (folder / "iis3dwb_acc.dat").write_bytes(b"".join(packets))


def _wav(bits: int) -> Callable[[Path], None]:
    """Samples of a full scale of 16 g, as integers of so many bits, or as float (0)."""

    def write(path: Path) -> None:
        kind, width = (3, 4) if bits == 0 else (1, bits // 8)
        if bits == 0:
            content = (G / FULL_SCALE_G).astype("<f4").tobytes()
        else:
            whole = np.rint(G / FULL_SCALE_G * (1 << (bits - 1))).astype("<i4")
            content = whole.reshape(-1).view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
        form = struct.pack("<HHIIHH", kind, 3, int(RATE_HZ), int(RATE_HZ) * 3 * width, 3 * width, 8 * width)
        head = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(content))
        _put(path, b"RIFF" + struct.pack("<I", len(head) + len(content)) + head + content)

    return write


def _scaled(bits: int) -> ReadOptions:
    return ReadOptions(scale=(repr(FULL_SCALE_G / (1 << (bits - 1)) if bits else FULL_SCALE_G),))


def _femto() -> str:
    us = 65_664 + np.arange(ROWS) * 1e6 / 25_600
    whole = [np.full(ROWS, 9), np.full(ROWS, 39), np.full(ROWS, 39), np.rint(us).astype(int)]
    return _csv("", *whole, *G[:, :2].T)


def _lvm() -> str:
    head = (
        "LabVIEW Measurement\t\nWriter_Version\t2\nSeparator\tTab\nDecimal_Separator\t.\nMulti_Headings\tNo\n"
        "X_Columns\tOne\nDate\t2020/01/01\nTime\t10:00:00.123\n***End_of_Header***\t\n\t\nChannels\t3\t\t\t\n"
        "Samples\t800\t800\t800\t\nY_Unit_Label\tg\tg\tg\t\nX_Dimension\tTime\tTime\tTime\t\n"
        "X0\t0.0E+0\t0.0E+0\t0.0E+0\t\nDelta_X\t0.000625\t0.000625\t0.000625\t\n***End_of_Header***\t\t\t\t\n"
        "X_Value\tAcc X\tAcc Y\tAcc Z\tComment"
    )
    return _csv(head, T, *G.T, [""] * ROWS, delimiter="\t")


def _phyphox() -> str:
    names = "\t".join(f'"Acceleration {a} (m/s^2)"' for a in "xyz")
    absolute = np.linalg.norm(G * GRAVITY, axis=1)
    header = f'"Time (s)"\t{names}\t"Absolute acceleration (m/s^2)"'
    return _csv(header, T, *(G * GRAVITY).T, absolute, form="%.9E", delimiter="\t")


def _sensor_logger() -> str:
    epoch = 1_700_000_000_000_000_000 + (T * 1e9).astype(np.int64)
    return _csv("time,seconds_elapsed,z,y,x", epoch, T, *(G * GRAVITY).T[::-1])


_EUROPE = _csv("Zeit (s);X (m/s²);Y (m/s²);Z (m/s²)", T, *(G * GRAVITY).T, delimiter=";", decimal=",")
_KEYS = _csv("Device: logger 7\nSample rate: 1600 Hz\n\nX,Y,Z\nmg,mg,mg", *(G * 1000).T)

EXAMPLES = (
    Example("csv", "healthy.csv", _text(_csv("time_s,x (g),y (g),z (g)", T, *G.T))),
    Example("csv of Europe, cp1252", "messung.csv", _text(_EUROPE, "cp1252")),
    Example("text, UTF-16", "export.txt", _text(_EUROPE, "utf-16")),
    Example("csv with keys and units", "logger.csv", _text(_KEYS)),
    Example("csv, packed", "healthy.csv.gz", lambda p: _put(p, gzip.compress(_KEYS.encode()))),
    Example("IMS", "2003.10.22.12.06.24", _text(_csv("", *G.T, delimiter="\t", form="%.3f")),
            options=ReadOptions(rate_hz=RATE_HZ), command="--rate 1600", tolerance=5.1e-4 / FULL_SCALE_G),
    Example("FEMTO", "acc_00001.csv", _text(_femto()), g=G[:, :2], rate_hz=25_600.0),
    Example("LabVIEW", "run.lvm", _text(_lvm())),
    Example("phyphox", "Raw Data.csv", _text(_phyphox())),
    Example("Sensor Logger", "Accelerometer.csv", _text(_sensor_logger())),
    Example("NumPy", "a.npy", _npy),
    Example("NumPy, several arrays", "a.npz", _npz),
    Example("MATLAB, MFPT", "baseline_1.mat", _mfpt, g=G[:, :1], rate_hz=97_656.0),
    Example("MATLAB, Paderborn", "N15_M07_F10_KA01_1.mat", _paderborn, g=G[:, :1], rate_hz=64_000.0,
            options=ReadOptions(variable="vibration_1"), command="--variable vibration_1"),
    Example("MATLAB 7.3", "new.mat", _matlab73, package="h5py"),
    Example("HDF5", "run.h5", _hdf5, package="h5py"),
    Example("NI TDMS", "run.tdms", _tdms, package="nptdms"),
    Example("UFF 58", "run.uff", _uff, package="pyuff"),
    Example("Parquet", "run.parquet", _parquet, package="pyarrow"),
    Example("Feather", "run.feather", _feather, package="pyarrow"),
    Example("Excel", "run.xlsx", _excel, package="openpyxl"),
    Example("Edge Impulse, JSON", "sample.json", lambda p: _put(p, json.dumps(_edge_impulse()).encode())),
    Example("Edge Impulse, CBOR", "sample.cbor", _cbor),
    Example("ST HSDatalog, first form", "STWIN_00001", _hsdatalog_1, tolerance=SENSITIVITY / FULL_SCALE_G),
    Example("ST HSDatalog, second form", "20240501_120000", _hsdatalog_2, tolerance=SENSITIVITY / FULL_SCALE_G),
    Example("wav, 16 bits", "16.wav", _wav(16), options=_scaled(16), command="--scale 0.00048828125",
            tolerance=2**-16),
    Example("wav, 24 bits", "24.wav", _wav(24), options=_scaled(24), command="--scale 1.9073486328125e-06"),
    Example("wav, 32 bits", "32.wav", _wav(32), options=_scaled(32), command="--scale 7.450580596923828e-09"),
    Example("wav, float", "float.wav", _wav(0), options=_scaled(0), command="--scale 16"),
)  # fmt: skip


def examples_table() -> str:
    """Format, file, options that it takes to read it, and what was read, of every example."""
    rows = ["| format | example | options | what was read |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for example in EXAMPLES:
            path = Path(folder) / example.name
            example.write(path)
            told = sentence(read(path, example.options)).partition(": ")[2]
            command = f"`{example.command}`" if example.command else ""
            rows.append(f"| {example.what} | `{example.name}` | {command} | {told} |")
    return "\n".join(rows)


PAGE = ROOT / "docs" / "RECORDINGS.md"

if __name__ == "__main__":
    PAGE.write_text(replaced_table(PAGE.read_text(encoding="utf-8"), "formats", examples_table()), encoding="utf-8")
