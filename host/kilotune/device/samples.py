"""Converts a caller's samples to what the device takes: int16 counts (n, axes), in segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from kilotune.errors import KilotuneError
from kilotune.terms import COUNTS_AT_FULL_SCALE

if TYPE_CHECKING:
    from kilotune.recordings import Recording

SampleArray = npt.NDArray[np.int16] | npt.NDArray[np.floating[Any]]
Samples = SampleArray | Sequence[SampleArray]  # one gap-free recording, or several


@dataclass(frozen=True, slots=True)
class Segment:
    """`counts`: int16 (n, axes); `clipped`: number of values outside the full scale."""

    counts: npt.NDArray[np.int16]
    clipped: int


def to_segments(samples: Samples, *, axes: int, full_scale_g: float) -> list[Segment]:
    """Float samples are in g, int16 samples are counts; (n, axes), or (n,) for one axis."""
    several = isinstance(samples, (list, tuple)) and len(samples) > 0 and np.ndim(samples[0]) > 0
    each = list(samples) if several else [samples]
    return [_to_segment(np.asarray(part), axes, full_scale_g) for part in each]


def _to_segment(part: npt.NDArray[Any], axes: int, full_scale_g: float) -> Segment:
    if part.ndim == 1 and axes == 1:
        part = part.reshape(-1, 1)
    if part.ndim != 2 or part.shape[1] != axes:
        raise KilotuneError(
            "wrong_axes",
            f"the samples have shape {part.shape}, but the model takes (n, {axes})",
            "choose the columns that the model was made for",
        )
    if part.dtype == np.int16:
        return Segment(np.ascontiguousarray(part, dtype="<i2"), 0)
    if not np.issubdtype(part.dtype, np.floating):
        raise KilotuneError(
            "bad_samples",
            f"the samples are {part.dtype}, which could be g or counts",
            "give float32 in g, or int16 counts",
        )
    finite = np.isfinite(part)
    if not finite.all():
        row, axis = (int(i) for i in np.argwhere(~finite)[0])
        raise KilotuneError(
            "not_finite",
            f"{int((~finite).sum())} samples are NaN or infinite, the first at row {row}, axis {axis}",
            "remove the gap, or give the parts around it as separate segments",
        )
    scaled = np.rint(part.astype(np.float64) * (COUNTS_AT_FULL_SCALE / full_scale_g))
    counts = np.clip(scaled, -32768, 32767)
    return Segment(counts.astype("<i2"), int((counts != scaled).sum()))


def to_features(values: Samples, *, features: int) -> list[Segment]:
    """Feature vectors as the device computes them: int16 Q10 log2, (windows, features)."""
    several = isinstance(values, (list, tuple))
    parts = [np.asarray(part) for part in (values if several else [values])]
    for part in parts:
        if part.dtype != np.int16 or part.ndim != 2 or part.shape[1] != features:
            raise KilotuneError(
                "bad_shape",
                f"feature vectors are {part.dtype} {part.shape}, but the model takes int16 (windows, {features})",
                "compute them with the features of the same image",
            )
    return [Segment(np.ascontiguousarray(part, dtype="<i2"), 0) for part in parts]


def to_counts(recording: Recording, full_scale_g: float) -> Any:
    """(n, axes) int16 as the device's sensor would give them, clipped at the full scale."""
    return to_segments([recording.samples], axes=recording.axes, full_scale_g=full_scale_g)[0].counts


def to_g(recording: Recording, full_scale_g: float) -> Any:
    """(n, axes) in g."""
    if recording.unit == "g":
        return recording.samples
    return recording.samples.astype(np.float32) * np.float32(full_scale_g / COUNTS_AT_FULL_SCALE)
