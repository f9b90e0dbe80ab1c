"""The calibration block at the start of an adapter: its head, and where its arrays are (docs/SPEC.md, 2)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kilotune.common.structures import Structure


@dataclass(frozen=True, slots=True)
class CalibrationHead(Structure):
    """The fields before the arrays. Those of the guardrails, after `slots`, are read by the device only."""

    LAYOUT = struct.Struct("<BBBBHhIIhhH10x")

    calibrated: int
    trained: int  # trained parameters are in use
    scorer: int
    held: int  # windows in the reservoir
    learned: int
    threshold_q10: int
    learned_seen: int  # windows that were offered to the reservoir
    held_seen: int
    residual_level_q10: int
    nearest_level_q10: int
    slots: int  # of the reservoir, for windows to learn from


class Place(NamedTuple):
    """An array's place in a block of bytes."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    @property
    def end(self) -> int:
        return self.offset + self.size

    def read(self, content: bytes) -> npt.NDArray[Any]:
        values = np.frombuffer(content, self.dtype.newbyteorder("<"), math.prod(self.shape), self.offset)
        return values.astype(self.dtype).reshape(self.shape)


LIFE_HEAD_BYTES = 60


def calibration_arrays(features: int, outputs: int, windows: int, early: int, lives: bool = False) -> dict[str, Place]:
    """The arrays of a block by name, including its head as bytes; some may have no elements.

    The arguments say what the block has room for: features and residuals per window, windows in the reservoir, early
    windows, and what a device knows that lives on.
    """
    pieces: tuple[tuple[str, type[np.generic], tuple[int, ...]], ...] = (
        ("head", np.uint8, (CalibrationHead.LAYOUT.size,)),
        ("feature_mean", np.int16, (features,)),
        ("feature_scale", np.uint16, (features,)),
        ("residual_mean", np.int16, (outputs,)),
        ("residual_scale", np.uint16, (outputs,)),
        ("near_weight", np.uint16, (features,)),
        ("labels", np.uint8, (windows,)),
        ("reservoir", np.int8, (windows, features)),
        ("early", np.int8, (early, features)),
        ("aged", np.int8, (features if early else 0,)),
        ("life", np.uint8, (LIFE_HEAD_BYTES if lives else 0,)),
        ("anchor_mean", np.int16, (features if lives else 0,)),
        ("anchor_scale", np.uint16, (features if lives else 0,)),
    )
    result: dict[str, Place] = {}
    at = 0
    for name, kind, shape in pieces:
        at += -at % 4 if lives and name == "life" else 0
        result[name] = Place(at, np.dtype(kind), shape)
        at = result[name].end
    return result


def calibration_bytes(features: int, outputs: int, windows: int, early: int, lives: bool = False) -> int:
    """Size of a block with that room, a multiple of 4; 0 without features, as the adapter then has no block."""
    if features == 0:
        return 0
    end = max(place.end for place in calibration_arrays(features, outputs, windows, early, lives).values())
    return end + -end % 4


def early_bytes(features: int, early: int) -> int:
    """Bytes that early windows add: the windows, and how far re-calibration has moved the means."""
    places = calibration_arrays(features, 0, 0, early)
    return places["early"].size + places["aged"].size


def early_ram_bytes(features: int, early: int) -> int:
    """RAM that early windows cost: what they add to the block, and a running mean of 16 bits per feature."""
    return early_bytes(features, early) + 2 * features if early else 0
