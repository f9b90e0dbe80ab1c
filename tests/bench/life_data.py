"""Lives as files: windows of every record as the device's features, and what baselines make of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from kilotune.image.features import FeatureConfig

from models import recipes
from tests.bench import protocols

FULL_SCALE = 64.0  # g
BAND = (2000.0, 10_000.0)  # Hz, of envelopes: where bearings ring


@dataclass(frozen=True)
class Life:
    """One axis of one machine: (records, windows, ...) of all it ever did, in order of time."""

    name: str
    config: FeatureConfig
    features: npt.NDArray[np.int16]  # Q10
    plain: dict[str, npt.NDArray[np.float64]]  # (records, windows, 1) log2, by the row that scores by it

    def measured(self, row: str) -> npt.NDArray[Any]:
        return self.plain.get(row, self.features)


def life(path: Path, axis: int) -> Life:
    with np.load(path) as d:
        g = d["mg"][:, :, axis].astype(float) * float(d["g_per_count"])
        rate = float(d["rate_hz"])
    config = recipes.band_energies(rate, 1, FULL_SCALE)
    features = np.stack([protocols.q10(config, record[:, None]) for record in g])
    return Life(f"{path.stem} {axis}", config, features, plain_statistics(g, rate, config))


def plain_statistics(g: npt.NDArray[Any], rate: float, config: FeatureConfig) -> dict[str, npt.NDArray[np.float64]]:
    from scipy.signal import butter, hilbert, sosfilt

    high = min(BAND[1], 0.45 * rate)
    band = np.abs(hilbert(sosfilt(butter(4, (min(BAND[0], high / 5), high), "band", fs=rate, output="sos"), g)))
    starts = range(0, g.shape[1] - config.window + 1, config.hop)
    cut = [np.stack([v[:, s : s + config.window] for s in starts], 1) for v in (g, band)]
    w, e = (v - v.mean(-1, keepdims=True) for v in cut)
    rms, spectrum = np.sqrt((w**2).mean(-1)), np.abs(np.fft.rfft(e * np.hanning(config.window))) ** 2
    hz = rate / config.window
    energy = spectrum[..., round(50 / hz) : max(round(1000 / hz), round(50 / hz) + 1)].sum(-1)
    plain = {
        "rms": rms,
        "crest": np.abs(w).max(-1) / rms,
        "kurtosis": (w**4).mean(-1) / rms**4,
        "envelope kurtosis": (e**4).mean(-1) / (e**2).mean(-1) ** 2,
        "envelope energy": energy,
    }
    tiny = np.finfo(float).tiny  # a record of a dead sensor has neither energy nor shape
    return {k: np.log2(np.maximum(np.nan_to_num(v), tiny))[..., None] for k, v in plain.items()}


def lives_of(folder: Path) -> list[Life]:
    """Every axis of every file of `folder`, in order of names."""
    found = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as d:
            axes = d["mg"].shape[2]
        found += [life(path, axis) for axis in range(axes)]
    return found


def motor_windows(config: FeatureConfig) -> npt.NDArray[np.int16]:
    """Both sensors of the healthy CWRU motor at the rate of `config`, one axis."""
    from fractions import Fraction

    from scipy.io import loadmat
    from scipy.signal import resample_poly

    d = loadmat(protocols.data_dir() / "cwru" / "97_Normal_0.mat")
    ratio = Fraction(config.rate_hz / 48_000).limit_denominator(1000)
    parts = [
        resample_poly(np.ravel(d[k]), ratio.numerator, ratio.denominator) for k in ("X097_DE_time", "X097_FE_time")
    ]
    return np.concatenate([protocols.q10(config, g[:, None]) for g in parts])
