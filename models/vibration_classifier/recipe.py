"""Classifier of machine states for one axis at 12 kHz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kilotune.recordings.simulator import Sensor

from models.recipes import Classifier, band_energies, log_uniform, main


def sensor(r: np.random.Generator) -> Sensor:
    return Sensor(log_uniform(r, 20, 300), log_uniform(r, 4_000, 10_000), tuple(r.normal(0, 0.3, 3)))


RECIPE = Classifier(
    name="vibration_classifier",
    features=band_energies(12_000, axes=1, full_scale_g=32),
    hidden=(32, 16),
    sensor=sensor,
)

if __name__ == "__main__":
    main(RECIPE, Path(__file__).resolve().parent)
