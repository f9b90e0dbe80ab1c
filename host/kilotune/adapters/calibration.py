"""The calibration block of an adapter, and the device's scores computed with it on the host, bit for bit.

With it, a merged `.tflite` scores windows exactly like the device that the adapter came from.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kilotune.errors import KilotuneError
from kilotune.image.base_profile import MAX_WINDOWS, difference_factors
from kilotune.image.calibration_block import CalibrationHead, calibration_arrays, calibration_bytes
from kilotune.terms import Scorer, known, word_of

if TYPE_CHECKING:
    from kilotune.adapters.adapter import Adapter

Ints = npt.NDArray[np.int64]
FIRST_WAITING = 8  # labels from this one on: windows of a life that wait for its next phase
_NO_SCORER = "none"  # the word, before there is one
_LOG2_Q15 = np.rint(2**15 * np.log2(1 + np.arange(33) / 32)).astype(np.int64)


def log2_q16(values: npt.NDArray[np.uint64]) -> Ints:
    """log2 in Q16 of unsigned 64-bit values as in firmware/kernel/fixed_log.h; 0 for 0."""
    flat = [int(v) for v in values.ravel()]
    found = np.zeros(len(flat), np.int64)
    for i, v in enumerate(flat):
        if v == 0:
            continue
        top = v.bit_length() - 1
        mantissa = ((v << (63 - top)) >> 32) & 0x7FFFFFFF
        segment, fraction = mantissa >> 26, (mantissa & 0x3FFFFFF) >> 10
        low = int(_LOG2_Q15[segment])
        found[i] = top * 65536 + 2 * low + (((int(_LOG2_Q15[segment + 1]) - low) * fraction) >> 15)
    return found.reshape(values.shape)


def log2_q10(values: npt.NDArray[np.uint64]) -> Ints:
    return log2_q16(values) >> 6


def _divide_to_zero(a: Ints, b: Ints) -> Ints:
    """C's integer division."""
    quotient: Ints = np.sign(a) * (np.abs(a) // b)
    return quotient


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """SPEC 2. `scorer` and `threshold` (log2): those in use on the device."""

    calibrated: bool
    trained: bool
    scorer: Scorer | None  # None: none yet
    learned: int
    held: int
    threshold_q10: int
    residual_level_q10: int
    nearest_level_q10: int
    windows_seen: int
    feature_mean: Ints  # (features,) Q10 log2
    feature_scale: Ints  # (features,) Q12 log2 units per sigma
    residual_mean: Ints  # (outputs,)
    residual_scale: Ints  # (outputs,)
    near_weight: Ints  # (features,)
    labels: Ints  # (learned + held,) of the reservoir's windows, held-back ones last
    windows: npt.NDArray[np.int8]  # (learned + held, features) model inputs

    @classmethod
    def from_bytes(
        cls, block: bytes, *, features: int, outputs: int, capacity: int, early: int, lives: bool = False
    ) -> Calibration:
        """Reads the block at the start of an adapter; raises KilotuneError `bad_adapter` for fields out of range."""
        n = calibration_bytes(features, outputs, capacity, early, lives)
        if len(block) != n or not 1 <= capacity <= MAX_WINDOWS:
            raise KilotuneError(
                "bad_adapter",
                f"the calibration has {len(block)} bytes, not {n}",
                "pull the adapter again",
            )
        head = CalibrationHead.read(block, 0)
        free = capacity - head.slots
        if head.scorer >= len(Scorer) or free < 0 or head.learned > head.slots or head.held > free:
            raise KilotuneError("bad_adapter", "the calibration's counts are out of range", "pull the adapter again")
        places = calibration_arrays(features, outputs, capacity, early, lives)

        def array(name: str) -> Ints:
            return places[name].read(block).astype(np.int64)

        used = [*range(head.learned), *range(head.slots, head.slots + head.held)]
        found = cls(
            calibrated=bool(head.calibrated),
            trained=bool(head.trained),
            scorer=Scorer(head.scorer) if head.scorer else None,
            learned=head.learned,
            held=head.held,
            threshold_q10=head.threshold_q10,
            residual_level_q10=head.residual_level_q10,
            nearest_level_q10=head.nearest_level_q10,
            windows_seen=head.learned_seen + head.held_seen,
            feature_mean=array("feature_mean"),
            feature_scale=array("feature_scale"),
            residual_mean=array("residual_mean"),
            residual_scale=array("residual_scale"),
            near_weight=array("near_weight"),
            labels=array("labels")[used],
            windows=places["reservoir"].read(block)[used],
        )
        if (found.feature_scale < 1).any() or (found.residual_scale < 1).any():
            raise KilotuneError("bad_adapter", "the calibration holds a scale of 0", "pull the adapter again")
        return found

    # --- the device's arithmetic -------------------------------------------------------------------

    def inputs(
        self, features_q10: npt.NDArray[np.int16], *, input_scale: float, zero_point: int
    ) -> npt.NDArray[np.int8]:
        """int16 Q10 features (n, features) to model inputs (n, features)."""
        inverse = round(2**7 / input_scale)
        numerator = (features_q10.astype(np.int64) - self.feature_mean) * inverse
        denominator = self.feature_scale * 32
        half = denominator // 2 * np.where(numerator >= 0, 1, -1)
        rounded = np.clip(_divide_to_zero(numerator + half, denominator), -1000, 1000)
        return np.clip(zero_point + rounded, -128, 127).astype(np.int8)

    def residual_score(self, d: Ints) -> Ints:
        """Q10 log2 scores (n,) of loss differences d (n, outputs) as in SPEC 1.5."""
        r = d >> 8
        t = np.clip(_divide_to_zero((r - self.residual_mean) * 64, self.residual_scale), -32000, 32000)
        total = (t * t).sum(1).astype(np.uint64) + np.uint64(1)
        outputs = np.array([self.residual_mean.size], np.uint64)
        return log2_q10(total) - log2_q10(outputs) - 12 * 1024

    def nearest_score(self, x: npt.NDArray[np.int8], neighbours: int) -> Ints:
        """Q10 log2 scores (n,) of model inputs (n, features)."""
        compared = self.labels[: self.learned] < FIRST_WAITING
        stored = self.windows[: self.learned][compared].astype(np.int64)
        k = min(neighbours, len(stored))
        scores = np.zeros(len(x), np.int64)
        for i, row in enumerate(x.astype(np.int64)):
            distance = (((row - stored) ** 2) * self.near_weight).sum(1)
            total = np.array([(int(np.sort(distance)[:k].sum()) >> 8) + 1], np.uint64)
            count = np.array([k * row.size], np.uint64)
            scores[i] = int((log2_q10(total) - log2_q10(count))[0]) - 8 * 1024
        return scores

    def combined_score(self, residual: Ints, nearest: Ints) -> Ints:
        return (residual - self.residual_level_q10 + nearest - self.nearest_level_q10) >> 1

    def score(self, x: npt.NDArray[np.int8], d: Ints, *, neighbours: int) -> Ints:
        """Q10 log2 scores (n,) by the scorer in use, from model inputs and their loss differences."""
        if self.scorer is Scorer.nearest:
            return self.nearest_score(x, neighbours)
        residual = self.residual_score(d)
        if self.scorer is Scorer.combined:
            return self.combined_score(residual, self.nearest_score(x, neighbours))
        return residual

    # --- for a merged model --------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Everything that scoring needs as plain numbers, with the reservoir's windows as base64 of int8."""
        return {
            "calibrated": self.calibrated,
            "trained": self.trained,
            "scorer": _NO_SCORER if self.scorer is None else word_of(self.scorer),
            "threshold_log2": self.threshold_q10 / 1024,
            "residual_level_log2": self.residual_level_q10 / 1024,
            "nearest_level_log2": self.nearest_level_q10 / 1024,
            "windows": {"learned": self.learned, "held_back": self.held, "seen": self.windows_seen},
            "feature_mean_q10": self.feature_mean.tolist(),
            "feature_scale_q12": self.feature_scale.tolist(),
            "residual_mean": self.residual_mean.tolist(),
            "residual_scale": self.residual_scale.tolist(),
            "near_weight": self.near_weight.tolist(),
            "labels": self.labels.tolist(),
            "reservoir_int8_base64": base64.b64encode(self.windows.tobytes()).decode("ascii"),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """The inverse of `to_json`; raises KilotuneError `bad_model` for anything else."""
        try:
            windows = data["windows"]

            def array(name: str) -> Ints:
                return np.asarray(data[name], np.int64).reshape(-1)

            mean = array("feature_mean_q10")
            stored = np.frombuffer(base64.b64decode(data["reservoir_int8_base64"]), np.int8)
            found = cls(
                bool(data["calibrated"]), bool(data["trained"]), _scorer(data["scorer"]), int(windows["learned"]),
                int(windows["held_back"]), round(data["threshold_log2"] * 1024),
                round(data["residual_level_log2"] * 1024), round(data["nearest_level_log2"] * 1024),
                int(windows["seen"]), mean, array("feature_scale_q12"), array("residual_mean"),
                array("residual_scale"), array("near_weight"), array("labels"), stored.reshape(-1, mean.size),
            )  # fmt: skip
            found._check()
            return found
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise KilotuneError(
                "bad_model",
                "the model's calibration is damaged or from another release",
                "merge the model again",
            ) from error

    def _check(self) -> None:
        """Raises ValueError if lengths do not belong together or values have no meaning."""
        features, windows = self.feature_mean.size, len(self.windows)
        scales = np.concatenate([self.feature_scale, self.residual_scale])
        good = (
            self.feature_scale.size == self.near_weight.size == features
            and self.residual_mean.size == self.residual_scale.size
            and self.labels.size == windows == self.learned + self.held
            and min(self.learned, self.held) >= 0
            and all(((v >= 0) & (v < 1 << 16)).all() for v in (scales, self.near_weight, self.labels))
            and all((np.abs(v) <= 1 << 15).all() for v in (self.feature_mean, self.residual_mean))
            and (scales > 0).all()
        )
        if not good:
            raise ValueError("fields do not belong together")


def _scorer(word: object) -> Scorer | None:
    """The scorer that `to_json` names; raises ValueError for anything else. On a device it is never `automatic`."""
    found = known(Scorer, word)
    if found is Scorer.automatic or (found is None and word != _NO_SCORER):
        raise ValueError(f"there is no scorer {word!r}")
    return found


def reconstruction_differences(
    y: npt.NDArray[np.int8],
    x: npt.NDArray[np.int8],
    *,
    output: tuple[float, int],
    source: tuple[float, int],
) -> Ints:
    """d of SPEC 1.5 (n, values) from outputs and inputs of a reconstruction; (scale, zero point) of each."""
    a, b = difference_factors(output[0], source[0])
    return (y.astype(np.int64) - output[1]) * a - (x.astype(np.int64) - source[1]) * b


def of_adapter(adapter: Adapter) -> Calibration | None:
    """The calibration in an adapter; None before the first learning, and for ready inputs."""
    c = adapter.config
    if not c.calibration_bytes or not CalibrationHead.read(adapter.calibration, 0).calibrated:
        return None
    return Calibration.from_bytes(
        adapter.calibration,
        features=c.features,
        outputs=c.residual_outputs,
        capacity=c.reservoir,
        early=c.early,
        lives=c.lives,
    )
