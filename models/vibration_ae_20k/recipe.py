"""Autoencoder for three axes at 20 kHz, what piezoelectric and wide-band MEMS accelerometers deliver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from kilotune.recordings.simulator import Sensor

from models.recipes import Autoencoder, band_energies, log_uniform, main


def sensor(r: np.random.Generator) -> Sensor:
    return Sensor(log_uniform(r, 20, 300), log_uniform(r, 5_000, 12_000), tuple(r.normal(0, 0.3, 3)))


RECIPE = Autoencoder(
    name="vibration_ae_20k",
    features=band_energies(20_000, axes=3, full_scale_g=32),
    widths=(96, 64, 16, 64, 96),
    sensor=sensor,
)

if __name__ == "__main__":
    main(RECIPE, Path(__file__).resolve().parent)
