"""The protocols of the learning table: which windows a base model, a device and a test get.

Anomaly detection, adi_cbm_adxl356, windows of 1024 samples, hop 512:
  P1   one speed never seen (3 axes; 20 windows learned from, 6 held back, of two loads)
  P2   all speeds mixed, one load never seen (3 axes; 28 + 12 windows)
  P3   another machine: base model from a CWRU motor, target the ADI rig, z axis, all speeds and loads mixed
       (168 + 72 windows); P3s the same with 24 + 8 windows
Classification, cwru, 12 kHz drive end:
  P4   9 fault classes: base from one load (0 or 3 hp), 5 labelled windows a class at the other load
Ceiling fan, 200 Hz, 1 s windows, 3 axes, healthy at low, medium and high speed, a weight on a blade as the fault:
  F    base from the two other speeds' first 300 s; a window every 5 s of the first 300 s is learned from, every
       fifth of them held back (48 + 12); tested from second 310 on
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from kilotune.image.features import FeatureConfig
from kilotune.studies import baselines

from models import recipes  # how base models are made

SPEEDS, LOADS, HEALTHY = ("0600", "1200", "1800", "2400"), ("00lb", "11lb"), "_GoB_GS_BaLo_WA_"
CLASSES = {  # class: (file at 0 hp, file at 3 hp)
    "inner 7": ("105_0.mat", "108_3.mat"), "ball 7": ("118_0.mat", "121_3.mat"),
    "outer 7": ("130@6_0.mat", "133@6_3.mat"), "inner 14": ("169_0.npz", "172_3.npz"),
    "ball 14": ("185_0.npz", "188_3.npz"), "outer 14": ("197@6_0.npz", "200@6_3.npz"),
    "inner 21": ("209_0.npz", "212_3.npz"), "ball 21": ("222_0.npz", "225_3.npz"),
    "outer 21": ("234_0.npz", "237_3.npz"),
}  # fmt: skip
FAN_SPEEDS = ("low", "med", "high")
Windows = npt.NDArray[Any]  # (windows, features) int16 Q10


@dataclass(frozen=True)
class Detection:
    """One case: what the base model is made of, what the device learns from, what it is tested on."""

    protocol: str
    name: str
    features: str  # which feature configuration
    source: Windows
    learn: Windows
    held: Windows
    healthy: Windows
    fault: Windows
    hold_period: int  # so that the device's own rule holds back exactly `held`
    hold_count: int
    plain: tuple[Windows, Windows, Windows, Windows] | None = None  # of learn, held, healthy, fault: for baselines

    def stream(self) -> Windows:
        """`learn` and `held` in an order in which the device holds back the latter."""
        learn, held = list(self.learn), list(self.held)
        rows = []
        for i in range(len(learn) + len(held)):
            back = i % self.hold_period >= self.hold_period - self.hold_count
            rows.append((held if back else learn).pop(0))
        return np.array(rows, np.int16)


@dataclass(frozen=True)
class Classification:
    """Windows of each class: (class) of (windows, features)."""

    name: str
    features: str
    source: list[Windows]
    few: list[Windows]
    test: list[Windows]


def data_dir() -> Path:
    """Where the recordings are: $KILOTUNE_DATA, or ../shared/data next to the project."""
    given = os.environ.get("KILOTUNE_DATA")
    path = Path(given) if given else Path(__file__).parents[3] / "shared" / "data"
    if not (path / "adi_cbm_adxl356").is_dir():
        raise SystemExit(f"no recordings at {path}: set KILOTUNE_DATA to the folder that has adi_cbm_adxl356")
    return path


def adi(path: Path) -> npt.NDArray[Any]:
    """g, (samples, 3)"""
    d = np.load(path)
    return np.asarray(d["g_per_v"] * (d["v_1e8"] / 1e8 - d["zero_g_v"]))


def cwru(path: Path) -> npt.NDArray[Any]:
    """Drive-end g, (samples, 1)"""
    from scipy.io import loadmat

    d = loadmat(path) if path.suffix == ".mat" else np.load(path)
    return np.ravel(d[next(k for k in d if k.endswith("DE_time") or k == "DE")])[:, None]


def motor(data: Path) -> list[npt.NDArray[Any]]:
    """Both sensors of the healthy CWRU motor, resampled from 48 to 20 kHz: g, (samples, 1) each."""
    from scipy.io import loadmat
    from scipy.signal import resample_poly

    d = loadmat(data / "cwru" / "97_Normal_0.mat")
    return [resample_poly(d[k], 5, 12) for k in ("X097_DE_time", "X097_FE_time")]


def fan(path: Path) -> npt.NDArray[Any]:
    """g, (200 per record, 3); every record is one second."""
    with np.load(path) as d:
        assert (d["lengths"] == 200).all()
        return np.asarray(d["counts"] * d["g_per_count"])


def feature_configs() -> dict[str, FeatureConfig]:
    """The features of all base models, at the rates and axes of the recordings."""
    full_scale = 64.0  # g; the rig reaches 43.8
    fan_rate = 200.0
    return {
        "adi": recipes.band_energies(20_000.0, 3, full_scale),
        "adi z": recipes.band_energies(20_000.0, 1, full_scale),
        "cwru": recipes.band_energies(12_000.0, 1, full_scale),
        "fan": replace(
            recipes.band_energies(fan_rate, 3, 4.0),
            window=200, hop=200, fft_points=256, low_hz=0.75 * fan_rate / 256,
        ),
    }  # fmt: skip


Measure = Callable[[FeatureConfig, npt.NDArray[Any]], Windows]


@lru_cache(maxsize=2)
def rigs(of: Measure) -> tuple[dict[str, Windows], list[Windows], dict[str, Windows]]:
    """Everything that detectors are tried on: ADI by record (3 axes), the motor's two sensors, fan."""
    data, configs = data_dir(), feature_configs()
    rig = {p.stem: of(configs["adi"], adi(p)) for p in sorted((data / "adi_cbm_adxl356").glob("*.npz"))}
    other = [of(configs["adi z"], g) for g in motor(data)]
    blades = {p.stem: of(configs["fan"], fan(p)) for p in sorted((data / "ceiling_fan_msa301").glob("*.npz"))}
    return rig, other, blades


@lru_cache(maxsize=1)
def bearings() -> list[list[Windows]]:
    """CWRU [load][class], int16 Q10."""
    data, config = data_dir() / "cwru", feature_configs()["cwru"]
    return [[q10(config, cwru(data / pair[i])) for pair in CLASSES.values()] for i in (0, 1)]


def q10(config: FeatureConfig, g: npt.NDArray[Any]) -> Windows:
    return np.asarray(np.rint(recipes.compute_features(config, g) * 1024)).astype(np.int16)


def plain_statistics(config: FeatureConfig, g: npt.NDArray[Any]) -> Windows:
    """(windows, axes, 6) of what baselines use, of the same windows."""
    return baselines.statistics(g, window=config.window, hop=config.hop)


def detections() -> Iterator[Detection]:
    """Every case twice over, in features and in plain statistics, as one."""
    for case, plain in zip(cases(q10), cases(plain_statistics), strict=True):
        yield with_plain(case, plain)


def with_plain(case: Detection, plain: Detection) -> Detection:
    return replace(case, plain=(plain.learn, plain.held, plain.healthy, plain.fault))


def cases(of: Measure) -> Iterator[Detection]:
    f, other, blades = rigs(of)
    cat = np.concatenate
    for speed in SPEEDS:
        source = cat([x for k, x in f.items() if HEALTHY in k and not k.startswith(speed)])
        target = [f[speed + HEALTHY + load] for load in LOADS]
        fault = cat([x for k, x in f.items() if k.startswith(speed) and HEALTHY not in k])
        yield Detection(
            "P1", speed, "adi", source, cat([x[:10] for x in target]), cat([x[10:13] for x in target]),
            cat([x[14:] for x in target]), fault, 8, 2,
        )  # fmt: skip
    yield from (all_speeds(f, load) for load in LOADS)
    one_axis = slice(64, None) if of is q10 else slice(2, None)  # z
    yield from another_machine({k: x[:, one_axis] for k, x in f.items()}, "adi z", cat(other))
    for speed in FAN_SPEEDS:
        healthy = blades[f"fan_0_{speed}_0_weight"]
        some = healthy[:300:5]
        source = cat([blades[f"fan_0_{o}_0_weight"][:300] for o in FAN_SPEEDS if o != speed])
        held = np.arange(len(some)) % 5 == 4
        yield Detection(
            "F", speed, "fan", source, some[~held], some[held], healthy[310:],
            blades[f"fan_0_{speed}_1_weight"], 5, 1,
        )  # fmt: skip


def all_speeds(f: dict[str, Windows], load: str, features: str = "adi") -> Detection:
    """P2 on features `f` of the rig."""
    cat = np.concatenate
    source = cat([f[s + HEALTHY + o] for s in SPEEDS for o in LOADS if o != load])
    target = [f[s + HEALTHY + load] for s in SPEEDS]
    fault = cat([x for k, x in f.items() if k.endswith(load) and HEALTHY not in k])
    return Detection(
        "P2", load, features, source, cat([x[:7] for x in target]), cat([x[7:10] for x in target]),
        cat([x[11:] for x in target]), fault, 10, 3,
    )  # fmt: skip


def another_machine(f: dict[str, Windows], features: str, source: Windows) -> Iterator[Detection]:
    """P3 and P3s on features `f` of the rig, for a base model made of `source`."""
    cat = np.concatenate
    target = [f[s + HEALTHY + load] for s in SPEEDS for load in LOADS]
    fault, test = cat([x for k, x in f.items() if HEALTHY not in k]), cat([x[31:] for x in target])
    yield Detection(
        "P3", "", features, source, cat([x[:21] for x in target]), cat([x[21:30] for x in target]),
        test, fault, 10, 3,
    )  # fmt: skip
    yield Detection(
        "P3s", "", features, source, cat([x[:3] for x in target]), cat([x[3:4] for x in target]),
        test, fault, 8, 2,
    )  # fmt: skip


def classifications() -> Iterator[Classification]:
    faults = bearings()
    for a, b in ((0, 1), (1, 0)):
        yield Classification(
            f"{(0, 3)[a]} hp to {(0, 3)[b]} hp", "cwru", faults[a], [x[:5] for x in faults[b]],
            [x[6:] for x in faults[b]],
        )  # fmt: skip
