"""Base calibration: what the base model's machine looked like, and how far a new machine's windows are trusted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.errors import KilotuneError
from kilotune.image.features import checked_fields
from kilotune.image.layout import ProfileSection
from kilotune.image.real16 import to_real
from kilotune.terms import Q10, Loss

Vector = npt.NDArray[np.float32]
PROFILE_SECTION_BYTES = ProfileSection.LAYOUT.size
MAX_WINDOWS = 255
LEAST_EARLY = 3
LEAST_FEATURE_SCALE, LEAST_RESIDUAL_SCALE = 8, 1
JUDGED = 4  # windows of a record that a device judges and learns from
LEAST_ALONE_WINDOWS = 8  # of these, two are held back
# Defaults of training; docs/DESIGN.md says how they were found.
DEFAULT_LEARNING_RATE, DEFAULT_PASSES = 0.5, 40


def _refuse(what: str, hint: str) -> KilotuneError:
    return KilotuneError("bad_profile", what, hint)


@dataclass(frozen=True, slots=True)
class LifeSettings:
    """How a device goes on learning after its first phase. A record: windows that come together."""

    alarmed: int = 3  # alarmed records, of `of` in a row, that make an alarm
    of: int = 5
    record: int = 4  # windows of a record, at most
    first: int = 10  # records of the first phase
    anchor: float = 4.0  # log2 from the first settled calibration beyond which it is an alarm, 1/16 to 15

    def __post_init__(self) -> None:
        for name, low, high in (("of", 1, 8), ("alarmed", 1, self.of), ("record", 1, 255), ("first", 4, 255)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise _refuse(f"a device is to go on learning with {name} {value}", f"use {low} to {high}")
        if not 1 / 16 <= self.anchor <= 15:
            raise _refuse(f"the anchor's limit is {self.anchor:g} log2", "use 0.0625 to 15")

    @property
    def first_windows(self) -> int:
        """Windows that the device learns from in the first phase: of each record four, or as many as it has."""
        every = -(-self.record // JUDGED)
        return self.first * -(-self.record // every)

    def of_settings(self, once: CalibrationSettings) -> CalibrationSettings:
        return replace(
            once,
            life_alarmed=self.alarmed,
            life_of=self.of,
            life_record=self.record,
            life_first=self.first,
            life_anchor=round(16 * self.anchor),
        )


@dataclass(frozen=True, slots=True)
class CalibrationSettings:
    """Constants of calibration, scores and threshold (SPEC 1.7); `docs/DESIGN.md` says how they were found.

    Pseudo-windows are the weight of the base model's statistics, counted in windows of the new machine.
    """

    windows: int = 32  # capacity of the reservoir, both shares together
    mean_pseudo: int = 0
    feature_pseudo: int = 20
    residual_pseudo: int = 10
    near_pseudo: int = 20
    threshold_pseudo: int = 16
    neighbours: int = 2
    level: bool = True
    spread: float = 0.5  # prior deviation of log2 scores
    quantile: float = 2.326  # 99 % of the normal distribution
    quantile_tail: float = 3.95  # what Student's t adds, over its degrees of freedom
    margin: float = 0.02  # AUC by which a scorer must beat the combined one
    early: int = 0  # windows of the first learn phase kept as a check on later ones; 0: none
    # A device with a sensor and no host learns from this many healthy windows, the first; 0: it waits for a host.
    alone_windows: int = 64
    alone_passes: int = DEFAULT_PASSES
    alone_learning_rate: float = DEFAULT_LEARNING_RATE
    # How it goes on learning; all 0: it learns once. See LifeSettings.
    life_alarmed: int = 0
    life_of: int = 0
    life_record: int = 0
    life_first: int = 0
    life_anchor: int = 0  # 1/16 log2

    def to_json(self) -> dict[str, Any]:
        """Without what a device that learns once does not have."""
        values = asdict(self)
        return {k: v for k, v in values.items() if self.lives or not k.startswith("life_")}

    @property
    def lives(self) -> bool:
        """Whether the device goes on learning, and its adapter has room for what that takes."""
        return self.life_of != 0

    @property
    def life(self) -> LifeSettings | None:
        """How the device goes on learning; None: it learns once."""
        if not self.lives:
            return None
        return LifeSettings(self.life_alarmed, self.life_of, self.life_record, self.life_first, self.life_anchor / 16)

    @classmethod
    def for_loss(
        cls,
        loss: Loss,
        windows: int = 32,
        early: int = 0,
        alone_windows: int | None = None,
        life: LifeSettings | None = None,
    ) -> CalibrationSettings:
        """The settings that suit `loss`: a classifier's few windows of all classes say little about means and levels.

        `alone_windows` None: twice the reservoir; those of the first phase, where the device goes on learning. A
        classifier cannot learn alone, as it needs labels.
        """
        if not 1 <= windows <= MAX_WINDOWS:
            raise _refuse(f"the reservoir has {windows} windows", f"1 to {MAX_WINDOWS} are possible")
        if early != 0 and not LEAST_EARLY <= early <= windows:
            raise _refuse(
                f"{early} early windows were asked for, with a reservoir of {windows}",
                f"use 0, or {LEAST_EARLY} up to the reservoir's size",
            )
        if loss is Loss.classification:
            if early != 0:
                raise _refuse("a classifier has no anomaly score to check on early windows", "use 0 early windows")
            if alone_windows:
                raise _refuse("a classifier cannot learn alone, as it needs labels", "use 0 windows")
            if life is not None:
                raise _refuse("a classifier cannot go on learning alone, as it needs labels", "omit life")
            return cls(windows=windows, mean_pseudo=32, feature_pseudo=32, level=False, alone_windows=0)
        usual = 2 * windows if life is None else life.first_windows
        alone = max(usual, LEAST_ALONE_WINDOWS) if alone_windows is None else alone_windows
        if alone != 0 and not LEAST_ALONE_WINDOWS <= alone <= 0xFFFF:
            raise _refuse(
                f"the device is to learn alone from {alone} windows",
                f"use {LEAST_ALONE_WINDOWS} to 65535, or 0 for not learning alone",
            )
        once = cls(windows=windows, early=early, alone_windows=alone)
        return once if life is None else life.of_settings(once)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What the base model's own training windows looked like.

    A model input is (feature - feature_mean) / feature_std, in log2 units over the features' reference.
    `residual_std` is the spread of the reconstruction's error, in units of the model's input. `base_threshold` is the
    log2 of the residual score that 1 % of those windows exceed.
    """

    feature_mean: Vector  # (inputs,)
    feature_std: Vector  # (inputs,)
    residual_std: Vector = field(default_factory=lambda: np.zeros(0, np.float32))  # (outputs,), empty: classifier
    base_threshold: float = 1.0

    @classmethod
    def neutral(cls, inputs: int, outputs: int) -> Profile:
        """A profile that leaves features unchanged."""
        return cls(np.zeros(inputs, np.float32), np.ones(inputs, np.float32), np.ones(outputs, np.float32))

    def __post_init__(self) -> None:
        for name in ("feature_mean", "feature_std", "residual_std"):
            values = np.asarray(getattr(self, name), dtype=np.float32)
            if values.ndim != 1 or not np.all(np.isfinite(values)):
                raise _refuse(f"the profile's {name} is not a list of finite numbers", "make the profile again")
            object.__setattr__(self, name, values)
        if self.feature_mean.shape != self.feature_std.shape or np.any(self.feature_std <= 0):
            raise _refuse(
                "the profile's means and deviations do not fit", "give one of each per feature, deviations above 0"
            )
        if np.any(self.residual_std <= 0):
            raise _refuse("the profile's residual_std must be above 0", "make the profile again")
        if not abs(self.base_threshold) < 30:
            raise _refuse("the profile's base_threshold is out of range", "give the log2 of a score, usually about 1")

    def section(self, offset: int, settings: CalibrationSettings, *, input_scale: float, loss_scale: float) -> bytes:
        """Profile section and its tables, to be placed at `offset` of the image.

        `loss_scale`: the larger of the loss tensor's and the target's scale; a residual unit is 1/64 of it.
        """
        residual_units = self.residual_std.astype(np.float64) * 64.0 / loss_scale
        tables = [
            np.clip(np.rint(self.feature_mean * Q10), -32768, 32767).astype("<i2"),
            np.clip(np.rint(self.feature_std * 4096.0), LEAST_FEATURE_SCALE, 65535).astype("<u2"),
            np.clip(np.rint(residual_units), LEAST_RESIDUAL_SCALE, 65535).astype("<u2"),
        ]
        content, places = b"", []
        for table in tables:
            places.append(offset + PROFILE_SECTION_BYTES + len(content))
            content += table.tobytes() + bytes(-table.nbytes % 4)
        means, scales, residual_scales = places
        head = self.head(settings, (means, scales, residual_scales), input_scale=input_scale)
        return head.pack() + content

    def head(
        self, settings: CalibrationSettings, places: tuple[int, int, int], *, input_scale: float
    ) -> ProfileSection:
        """What stands in front of the tables, which lie at these places of the image."""
        inverse = round(2**7 / input_scale)
        if not 1 <= inverse <= 2**14:
            raise _refuse(
                f"the model's input scale is {input_scale:g}",
                "inputs are in sigma: quantise the model with an input range of about +-6 sigma",
            )
        s = settings
        mantissa, exponent = to_real(s.alone_learning_rate, "the learning rate")
        return ProfileSection(
            windows=s.windows,
            residual_outputs=self.residual_std.size,
            mean_pseudo=s.mean_pseudo,
            feature_pseudo=s.feature_pseudo,
            residual_pseudo=s.residual_pseudo,
            near_pseudo=s.near_pseudo,
            threshold_pseudo=s.threshold_pseudo,
            neighbours=s.neighbours,
            level=int(s.level),
            early=s.early,
            inverse_input=inverse,
            spread_q10=round(s.spread * Q10),
            quantile_q10=round(s.quantile * Q10),
            quantile_tail_q10=round(s.quantile_tail * Q10),
            margin_permille=round(s.margin * 1000),
            base_threshold_q10=round(self.base_threshold * Q10),
            means=places[0],
            scales=places[1],
            residual_scales=places[2],
            alone_windows=s.alone_windows,
            alone_passes=s.alone_passes,
            alone_mantissa=mantissa,
            alone_exponent=exponent,
            life_alarmed=s.life_alarmed,
            life_of=s.life_of,
            life_record=s.life_record,
            life_first=s.life_first,
            life_anchor=s.life_anchor,
        )

    def to_json(self) -> dict[str, object]:
        names = ("feature_mean", "feature_std", "residual_std")
        lists: dict[str, object] = {name: [round(float(v), 6) for v in getattr(self, name)] for name in names}
        return lists | {"base_threshold": self.base_threshold}

    @classmethod
    def from_json(cls, data: object) -> Profile:
        values = checked_fields(cls, data, "profile")
        threshold = values.pop("base_threshold", 1.0)
        try:
            with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
                arrays = {name: np.asarray(v, dtype=np.float32) for name, v in values.items()}
            return cls(**arrays, base_threshold=float(threshold))
        except (TypeError, ValueError, OverflowError) as error:
            raise _refuse("the profile holds a value of a wrong type", "create it with this release") from error


# Normalised differences of the mean squared error: 14 bits for the larger scale.
LOSS_BITS = 14


def difference_factors(output_scale: float, target_scale: float) -> tuple[int, int]:
    """Factors A and B of the squared error's differences; the larger scale gets 2^14."""
    largest = max(output_scale, target_scale)
    return round(2**LOSS_BITS * output_scale / largest), round(2**LOSS_BITS * target_scale / largest)
