"""What the domain has always measured: plain thresholds and textbook statistics, to hold every learned detector to.

All get the same windows as the device, the same share of them held back, and a threshold by the device's own rule.
RMS, peak, crest factor and kurtosis are those of ISO 20816 and ISO 13373; the envelope is that of a band-passed signal
by Hilbert's transform (Randall and Antoni, Mechanical Systems and Signal Processing 25 (2011) 485-520).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kilotune.image.base_profile import CalibrationSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

STATISTICS = ("RMS", "peak", "crest factor", "kurtosis", "envelope kurtosis", "envelope energy")
Z_SCORE, MAHALANOBIS, FOREST = "z-score of the features", "Mahalanobis of the statistics", "isolation forest"

# Shares of the sampling rate. The band lies where a bearing's housing rings; strikes repeat far below it.
ENVELOPE_BAND = (0.1, 0.4)
ENVELOPE_ORDER = 4
STRIKES_UP_TO = 0.05
FIRST_BIN = 2  # of the envelope's spectrum: those below hold its mean

# Of the statistics' covariance: learned windows that its diagonal alone counts for.
COVARIANCE_PSEUDO = 10
FOREST_TREES, FOREST_NODES = 100, 2 * 256  # scikit-learn's defaults
_LEAST_SPREAD = 1e-3  # log2: of a statistic that never changes
_DEVICE = CalibrationSettings()  # what devices calibrate by


@dataclass(frozen=True, slots=True)
class Measured:
    """Of windows, in order: `statistics` (windows, axes, 6) and `features` (windows, features), both log2."""

    statistics: Floats
    features: Floats

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, which: Any) -> Measured:
        return Measured(self.statistics[which], self.features[which])


def joined(parts: Sequence[Measured]) -> Measured:
    import numpy as np

    return Measured(
        np.concatenate([p.statistics for p in parts]),
        np.concatenate([p.features for p in parts]),
    )


def statistics(g: Any, *, window: int, hop: int) -> Floats:
    """(windows, axes, 6) log2 of `STATISTICS` of samples (n, axes) without a gap, the mean of each window removed."""
    import numpy as np

    g = np.asarray(g, np.float64)
    if len(g) < window:
        return np.zeros((0, g.shape[1], len(STATISTICS)))
    w, e = (_windows(x, window, hop) for x in (g, envelope(g)))
    rms = np.sqrt((w**2).mean(-1))
    peak = np.abs(w).max(-1)
    spectrum = np.abs(np.fft.rfft(e * np.hanning(window), axis=-1)) ** 2
    last = max(FIRST_BIN + 1, round(STRIKES_UP_TO * window))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (
            rms, peak, peak / rms, (w**4).mean(-1) / rms**4,
            (e**4).mean(-1) / (e**2).mean(-1) ** 2, spectrum[..., FIRST_BIN:last].sum(-1),
        )  # fmt: skip
        # A dead axis has no crest factor and no kurtosis: it counts as the least there is.
        stacked = np.log2(np.stack(found, -1))
    return np.where(np.isfinite(stacked), stacked, -60.0)


def _windows(x: Any, window: int, hop: int) -> Any:
    """(windows, axes, window) less the mean of each."""
    import numpy as np

    cut = np.lib.stride_tricks.sliding_window_view(x, window, axis=0)[::hop]
    return cut - cut.mean(-1, keepdims=True)


def envelope(g: Any) -> Any:
    """(n, axes) of the signal between the limits of `ENVELOPE_BAND`.

    All in the spectrum: a Butterworth filter without its delay, and Hilbert's transform. SciPy's take a second to load.
    """
    import numpy as np

    n = _of_small_factors(len(g))
    spectrum = np.fft.rfft(g - g.mean(0), n, axis=0)
    analytic = np.zeros((n, g.shape[1]), complex)
    analytic[: len(spectrum)] = 2 * spectrum * _band_pass(np.arange(len(spectrum)) / n)[:, None]
    return np.abs(np.fft.ifft(analytic, axis=0)[: len(g)])


def _band_pass(frequencies: Floats) -> Floats:
    """Gain of a digital Butterworth filter at shares of the sampling rate (bilinear transform)."""
    import numpy as np

    low, high = (math.tan(math.pi * share) for share in ENVELOPE_BAND)
    w = np.tan(np.pi * np.clip(frequencies, 1e-9, 0.5 - 1e-9))
    return np.asarray(1 / np.sqrt(1 + ((w**2 - low * high) / (w * (high - low))) ** (2 * ENVELOPE_ORDER)))


def _of_small_factors(n: int) -> int:
    """At least n: the transform of a prime number of samples takes many times longer."""
    block = 1 << max(0, n.bit_length() - 4)
    return -(-n // block) * block


# --- scorers ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Baseline:
    """One scorer, fitted to healthy windows; the higher the score, the less they are like those."""

    name: str
    numbers: int  # that it keeps: what it would cost
    threshold: float
    score: Callable[[Measured], Floats]


def held_back(windows: int, period: int, count: int) -> Any:
    """(windows,) bool: which of them a device holds back (firmware/runtime/learn/reservoir.cpp)."""
    import numpy as np

    return np.arange(windows) % period >= period - count


def fitted(learn: Measured, held: Measured, *, seed: int, prior_std: Floats | None = None) -> list[Baseline]:
    """All baselines, from the plainest to the costliest. `held`: windows that only the thresholds are made of.

    `prior_std` (features,): the base model's spread of each feature, which counts beside few windows as on the device.
    """
    made = [_statistic(k, learn) for k in range(len(STATISTICS))]
    made += [z_score(learn, prior_std), _mahalanobis(learn)]
    forest = _forest(learn, seed)
    if forest is not None:
        made.append(forest)
    return [Baseline(name, numbers, _threshold(score, learn, held), score) for name, numbers, score in made]


def missing() -> tuple[str, ...]:
    """Of the baselines, those that need a package which is not installed."""
    from importlib.util import find_spec

    return () if find_spec("sklearn") is not None else (f"{FOREST} (install scikit-learn)",)


Scorer = tuple[str, int, Callable[[Measured], "Floats"]]


def _statistic(k: int, learn: Measured) -> Scorer:
    """One threshold an axis, in units of the spread of the learned windows: the axis that is farthest above counts."""
    import numpy as np

    values = learn.statistics[:, :, k]
    mean, spread = values.mean(0), np.maximum(values.std(0), _LEAST_SPREAD)

    def score(m: Measured) -> Floats:
        return np.asarray(((m.statistics[:, :, k] - mean) / spread).max(1), np.float64)

    return STATISTICS[k], 2 * mean.size, score


def z_score(learn: Measured, prior_std: Floats | None) -> Scorer:
    import numpy as np

    x = learn.features
    mean, variance = x.mean(0), x.var(0)
    if prior_std is not None and variance.mean() > 0:
        variance = shrunk(variance, prior_std**2, len(x), _DEVICE.feature_pseudo)
    deviation = np.maximum(np.sqrt(variance), _LEAST_SPREAD)

    def score(m: Measured) -> Floats:
        return np.asarray(np.log2((((m.features - mean) / deviation) ** 2).mean(1) + 1e-6), np.float64)

    return Z_SCORE, 2 * mean.size, score


def _mahalanobis(learn: Measured) -> Scorer:
    """Of all statistics of all axes together; the peak is left out, being RMS times crest factor."""
    import numpy as np

    kept = [k for k, name in enumerate(STATISTICS) if name != "peak"]

    def flat(m: Measured) -> Floats:
        return m.statistics[:, :, kept].reshape(len(m.statistics), -1)

    x = flat(learn)
    mean = x.mean(0)
    scale = np.maximum(x.std(0), _LEAST_SPREAD)
    z = (x - mean) / scale
    n = len(z)
    covariance = (z.T @ z + COVARIANCE_PSEUDO * np.eye(z.shape[1])) / (n + COVARIANCE_PSEUDO)
    inverse = np.linalg.inv(covariance)

    def score(m: Measured) -> Floats:
        d = (flat(m) - mean) / scale
        return np.asarray(np.log2(np.einsum("ij,jk,ik->i", d, inverse, d) / d.shape[1] + 1e-6), np.float64)

    return MAHALANOBIS, mean.size * (mean.size + 5) // 2, score


def _forest(learn: Measured, seed: int) -> Scorer | None:
    """None where scikit-learn is not installed."""
    try:
        from sklearn.ensemble import IsolationForest
    except ImportError:
        return None
    import numpy as np

    forest = IsolationForest(n_estimators=FOREST_TREES, random_state=seed).fit(learn.features)

    def score(m: Measured) -> Floats:
        return np.asarray(-forest.score_samples(m.features), np.float64)

    return FOREST, FOREST_TREES * FOREST_NODES * 2, score


# --- thresholds --------------------------------------------------------------------------------------


def shrunk(variance: Any, base: Any, windows: int, pseudo: int) -> Any:
    """The device's: variances (features,) of few windows beside those of the base model, brought to their level."""
    return (windows * variance + pseudo * base * variance.mean() / base.mean()) / (windows + pseudo)


def student_threshold(held: Any, spread: float = _DEVICE.spread) -> float:
    """The device's rule in floating point (firmware/runtime/learn/score.h), of scores of held-back windows.

    `spread` stands for what is known of their deviation beforehand: of log2 scores of the device 0.5.
    """
    import numpy as np

    s = _DEVICE
    h = np.asarray(held, np.float64)
    n, freedom = len(h), len(h) - 1 + s.threshold_pseudo
    squares = ((h - h.mean()) ** 2).sum() + s.threshold_pseudo * spread**2
    t = s.quantile + s.quantile_tail / freedom
    return float(h.mean() + t * math.sqrt(1 + 1 / n) * math.sqrt(squares / freedom))


def _threshold(score: Callable[[Measured], Floats], learn: Measured, held: Measured) -> float:
    """The device's 0.5 suits its own scores. Each baseline has its own unit, so the learned windows say the spread."""
    own = score(learn)
    return student_threshold(score(held) if len(held) else own, max(float(own.std()), 1e-9))
