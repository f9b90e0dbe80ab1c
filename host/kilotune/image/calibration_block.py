"""The calibration block that leads an adapter: its head, and where its arrays lie (docs/SPEC.md, 2)."""

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
    """The fields in front of the arrays; those of the guardrails, behind `slots`, only the device reads."""

    LAYOUT = struct.Struct("<BBBBHhIIhhH10x")

    calibrated: int
    trained: int  # parameters are in use that were trained
    scorer: int
    held: int  # windows in the reservoir
    learned: int
    threshold_q10: int
    learned_seen: int  # windows that were offered to the reservoir
    held_seen: int
    residual_level_q10: int
    nearest_level_q10: int
    slots: int  # of the reservoir, for windows that are learned from


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


def calibration_arrays(features: int, outputs: int, windows: int, early: int) -> dict[str, Place]:
    """The arrays of a block by name, its head as bytes among them; some may have no elements.

    It has room for so many features and residuals a window, windows in the reservoir and early windows.
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
    )
    result: dict[str, Place] = {}
    at = 0
    for name, kind, shape in pieces:
        result[name] = Place(at, np.dtype(kind), shape)
        at = result[name].end
    return result


def calibration_bytes(features: int, outputs: int, windows: int, early: int) -> int:
    """Size of a block with such room, a multiple of 4; 0 without features: then an adapter has none."""
    if features == 0:
        return 0
    end = max(place.end for place in calibration_arrays(features, outputs, windows, early).values())
    return end + -end % 4


def early_bytes(features: int, early: int) -> int:
    """What early windows add to it: the windows, and how far re-calibration has moved the means."""
    places = calibration_arrays(features, 0, 0, early)
    return places["early"].size + places["aged"].size


def early_ram_bytes(features: int, early: int) -> int:
    """RAM that early windows cost: what they add to the block, and a running mean of 16 bits a feature."""
    return early_bytes(features, early) + 2 * features if early else 0
