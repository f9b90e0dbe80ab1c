"""Autoencoder for three axes at 1.6 kHz, what common MEMS accelerometers deliver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kilotune.recordings.simulator import Sensor

from models.recipes import Autoencoder, band_energies, log_uniform, main


def sensor(r: np.random.Generator) -> Sensor:
    return Sensor(log_uniform(r, 80, 400), log_uniform(r, 600, 1_500), tuple(r.normal(0, 0.6, 3)))


RECIPE = Autoencoder(
    name="vibration_ae_1k6",
    features=band_energies(1_600, axes=3, full_scale_g=8),
    widths=(96, 64, 16, 64, 96),
    sensor=sensor,
)

if __name__ == "__main__":
    main(RECIPE, Path(__file__).resolve().parent)
