"""A base model from somebody's own recordings of healthy machines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kilotune.base.features import band_energies, compute_features
from kilotune.base.training import STEPS, run_int8, standardise, train_autoencoder, widths_for
from kilotune.errors import KilotuneError
from kilotune.tflite.convert import import_tensorflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kilotune.base.training import Trained
    from kilotune.image.features import FeatureConfig
    from kilotune.recordings import Recording

    Floats = npt.NDArray[np.float32]

HELD_OUT = 0.2  # the model is judged on every fifth file, or on the end of each where there are fewer than five
LEAST_WINDOWS = 64  # to train on; fewer do not cover what a machine does from minute to minute
FULL_SCALES_G = tuple(2.0**n for n in range(1, 12))
UNLIKE = 0.1  # held-out alarms that say that the recordings do not cover the machine
HEADROOM = 1.5  # a fault shakes harder than the healthy machine that is seen here


@dataclass(frozen=True, slots=True)
class OwnBase:
    """A base model and what is known of it. Variances are of standardised features: 1 is a model that knows nothing."""

    tflite: bytes
    features: FeatureConfig
    widths: tuple[int, ...]
    windows: int
    held_out: int
    residual_variance: float
    # Of windows held out; None where the recordings are too short to hold any out.
    held_out_residual_variance: float | None
    held_out_alarms: float | None  # share above the threshold that 1 % of the others pass

    @property
    def unlike(self) -> str:
        """What the held-out windows say against the model; empty where they say nothing."""
        if self.held_out_alarms is None:
            return "no recording is long enough to hold a part out: nothing is known of the model but its training"
        if self.held_out_alarms > UNLIKE:
            return (
                f"{100 * self.held_out_alarms:.0f} % of the held-out windows would raise an alarm: what was held out "
                "is not like the rest. Add recordings of every state in which the machine is healthy"
            )
        return ""


def base_from_recordings(
    recordings: Sequence[Recording], *, full_scale_g: float | None = None, steps: int = STEPS, seed: int = 1
) -> OwnBase:
    """Train an autoencoder on recordings in g of one rate and one number of axes.

    `full_scale_g`: range of the sensor on the device; None: the smallest usual one with room above the highest peak.
    Errors: KilotuneError `bad_argument`, `wrong_axes`, `wrong_rate`, `too_few_windows`, `no_tensorflow`.
    """
    rate_hz, axes = _common(recordings)
    features = band_energies(rate_hz, axes, full_scale_g or _full_scale(recordings))
    learned, held = _split(features, recordings)
    if len(learned) < LEAST_WINDOWS:
        seconds = (LEAST_WINDOWS * features.hop + features.window) / rate_hz / (1 - HELD_OUT)
        raise KilotuneError(
            "too_few_windows",
            f"the recordings give {len(learned)} windows to train on, and a base model takes {LEAST_WINDOWS} or more",
            f"give at least {math.ceil(seconds)} s of healthy recordings; windows of {features.window / rate_hz:.3g} s "
            "are cut within each file",
        )
    widths = widths_for(features.inputs)
    trained = train_autoencoder(learned, features, widths, steps=steps, seed=seed)
    variance, alarms = _judged(trained, held) if len(held) else (None, None)
    return OwnBase(
        trained.tflite, features, widths, len(learned), len(held), trained.residual_variance, variance, alarms
    )


def _common(recordings: Sequence[Recording]) -> tuple[float, int]:
    """The one rate and number of axes of all recordings."""
    if not recordings:
        raise KilotuneError("bad_argument", "there are no recordings to train on", "name at least one file")
    for r in recordings:
        if r.unit != "g":
            raise KilotuneError(
                "bad_argument",
                f"{r.name} is in counts of a sensor, and a base model is trained in g",
                "say what a count is with --scale, in g per count",
            )
        if r.axes != recordings[0].axes:
            raise KilotuneError(
                "wrong_axes",
                f"{r.name} has {r.axes} axes, {recordings[0].name} has {recordings[0].axes}",
                "choose the same ones with --columns",
            )
        if abs(r.rate_hz - recordings[0].rate_hz) > 1e-4 * r.rate_hz:
            raise KilotuneError(
                "wrong_rate",
                f"{r.name} has {r.rate_hz:g} Hz, {recordings[0].name} has {recordings[0].rate_hz:g} Hz",
                "name the rate of the model with --model-rate: faster recordings are resampled to it",
            )
    return float(recordings[0].rate_hz), recordings[0].axes


def _full_scale(recordings: Sequence[Recording]) -> float:
    peak = HEADROOM * max(float(np.abs(r.samples).max(initial=0)) for r in recordings)
    return next((g for g in FULL_SCALES_G if g >= peak), FULL_SCALES_G[-1])


def _split(features: FeatureConfig, recordings: Sequence[Recording]) -> tuple[Floats, Floats]:
    """Windows to train on and windows to judge by; no sample is in both, and no window crosses a gap."""
    every = round(1 / HELD_OUT)
    learned, held = [], []
    for number, recording in enumerate(recordings):
        for stretch in recording.stretches:
            n = len(stretch.samples)
            cut = n - round(HELD_OUT * n)
            if len(recordings) >= every:
                cut = 0 if number % every == every - 1 else n
            learned.append(_windows(features, stretch.samples[:cut]))
            held.append(_windows(features, stretch.samples[cut:]))
    return np.concatenate(learned), np.concatenate(held)


def _windows(features: FeatureConfig, g: npt.NDArray[np.float32] | npt.NDArray[np.int16]) -> Floats:
    if len(g) < features.window:
        return np.zeros((0, features.inputs), np.float32)
    return compute_features(features, g)


def _judged(trained: Trained, x: Floats) -> tuple[float, float]:
    """Residual variance of windows that the model was not trained on, and the share of them above its threshold."""
    profile = trained.profile
    z = standardise(x, profile.feature_mean, profile.feature_std)
    residual = run_int8(import_tensorflow(), trained.tflite, z) - z
    score = np.log2(((residual / profile.residual_std) ** 2).mean(1))
    return round(float((residual**2).mean()), 4), round(float((score > profile.base_threshold).mean()), 4)
