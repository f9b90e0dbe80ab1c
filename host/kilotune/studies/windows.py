"""Windows of a recording: what a device said of one, and all that the twin and the domain measure of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kilotune.errors import KilotuneError
from kilotune.studies import baselines
from kilotune.terms import COUNTS_AT_FULL_SCALE, Q10, Refusal, word_of
from kilotune.twin_library import twin_library

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kilotune.device.results import Scores
    from kilotune.image.image import Image
    from kilotune.recordings import Recording

# Caused by the sensor, not the machine: such windows say nothing about the machine.
DEAD = Refusal.constant | Refusal.stuck
# A device learns from none of these; yet it scores what is clipped, since a violent fault may do that.
UNLEARNED = DEAD | Refusal.clipped


@dataclass(frozen=True, slots=True)
class Window:
    """The device's result for one window."""

    index: int
    t_s: float  # end of the window since its recording began
    score: float | None  # log2 of the anomaly score; None: not scored
    anomaly: bool  # False where the sensor is dead: that says nothing about the machine
    learned: bool
    refused: tuple[str, ...]
    category: int
    dead: bool = False  # an axis did not change, or samples repeated


@dataclass(frozen=True, slots=True)
class Measured:
    """The windows of one recording."""

    name: str
    features_q10: npt.NDArray[np.int16]  # (windows, features), as the device computes them
    statistics: npt.NDArray[np.float64]  # (windows, axes, 6) of `baselines.STATISTICS`
    refused: npt.NDArray[np.int64]  # (windows,) bits of `Refusal`

    def __len__(self) -> int:
        return len(self.features_q10)

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        """(windows,) of a sensor that measured something."""
        alive: npt.NDArray[np.bool_] = (self.refused & DEAD) == 0
        return alive

    @property
    def learnable(self) -> npt.NDArray[np.bool_]:
        learnable: npt.NDArray[np.bool_] = (self.refused & UNLEARNED) == 0
        return learnable

    @property
    def troubles(self) -> tuple[str, ...]:
        """Sensor faults in any window."""
        return tuple(word_of(bit) for bit in Refusal if (self.refused & bit & UNLEARNED).any())

    def only(self, which: npt.NDArray[np.bool_]) -> baselines.Measured:
        """What baselines use, for some windows."""
        return baselines.Measured(self.statistics[which], self.features_q10[which].astype(float) / Q10)


def measure(image: Image, recordings: Sequence[Recording]) -> Iterator[Measured]:
    """One per recording, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the twin and NumPy leave Python to the others
        yield from pool.map(partial(_measured, image), recordings)


def _measured(image: Image, recording: Recording) -> Measured:
    import numpy as np

    from kilotune.device.samples import to_counts

    config = image.features
    assert config is not None
    # No window crosses a gap.
    parts = [s for s in recording.stretches if len(s.samples) >= config.window] or [recording.stretches[0]]
    counts = [to_counts(part, config.full_scale_g) for part in parts]
    refused = [np.asarray(twin_library().refusals(image.content, c), np.int64) for c in counts]
    g = [c * (config.full_scale_g / COUNTS_AT_FULL_SCALE) for c in counts]
    plain = [baselines.statistics(one, window=config.window, hop=config.hop) for one in g]
    found = [features(image, c) for c in counts]
    return Measured(recording.name, np.concatenate(found), np.concatenate(plain), np.concatenate(refused))


def features(image: Image, counts: Any) -> npt.NDArray[np.int16]:
    """(windows, features) Q10 log2 of samples (n, axes)."""
    import numpy as np

    return np.asarray(twin_library().features(image.content, image.header.features, counts), np.int16)


def require_all(scores: Scores, name: str) -> None:
    """Raises KilotuneError `lost_results` where results of the recording are missing."""
    if scores.lost:
        raise KilotuneError(
            "lost_results",
            f"{scores.lost} results of {name} were lost on the line",
            "check whether the line is too slow or unreliable, and try again",
        )
