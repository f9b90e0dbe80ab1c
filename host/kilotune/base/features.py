"""The features that base models are trained on: what the device computes, by the device's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kilotune.image.features import FeatureConfig
from kilotune.terms import COUNTS_AT_FULL_SCALE, Q10
from kilotune.twin_library import twin_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

BANDS = 32  # per axis
_SECTION_AT = 4  # where the feature section stands in the bytes given to the device's code


def band_energies(rate_hz: float, axes: int, full_scale_g: float) -> FeatureConfig:
    """The features of all base models: 32 triangular bands per axis, from 3/4 of a bin to half the rate.

    The floor is 1e-6 g^2 of mean square; the energies of SPEC 1.6 are 3/8 of it, the mean square of the Hann
    window.
    """
    return FeatureConfig(
        rate_hz=rate_hz,
        window=1024,
        hop=512,
        fft_points=1024,
        axes=axes,
        bands=BANDS,
        low_hz=0.75 * rate_hz / 1024,
        shape="triangle",
        full_scale_g=full_scale_g,
        floor_g2=0.375e-6,
    )


def compute_features(config: FeatureConfig, g: NDArray[Any]) -> Floats:
    """Acceleration in g, shape (n, axes), to log2 features, shape (windows, inputs)."""
    counts = np.clip(np.rint(np.asarray(g, np.float64) / config.full_scale_g * COUNTS_AT_FULL_SCALE), -32768, 32767)
    image = bytes(_SECTION_AT) + config.section(_SECTION_AT)
    q10 = twin_library().features(image, _SECTION_AT, np.ascontiguousarray(counts, np.int16))
    return np.asarray(q10, np.float32) / np.float32(Q10)
