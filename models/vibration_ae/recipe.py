"""Autoencoders for one, two and three axes at the rates of common sensors: one recipe, a file for each.

    python models/vibration_ae/recipe.py                      # all of them
    python models/vibration_ae/recipe.py --rate 12000 --axes 1

Models of one rate are trained on the same simulated recordings: of all three axes, of the two radial ones, of the
horizontal one.
"""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from kilotune.base.training import train_autoencoder, widths_for
from kilotune.recordings.simulator import Sensor

from models.recipes import Autoencoder, band_energies, detection, log_uniform, simulate

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilotune.recordings.simulator import Fault
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

HERE = Path(__file__).resolve().parent


def sensor(noise_ug: tuple[float, float], bandwidth_hz: tuple[float, float]) -> Callable[[np.random.Generator], Sensor]:
    """Sensors between these noise densities and bandwidths, mounted anyhow."""

    def draw(r: np.random.Generator) -> Sensor:
        return Sensor(log_uniform(r, *noise_ug), log_uniform(r, *bandwidth_hz), tuple(r.normal(0, 0.5, 3)))

    return draw


# Rate in Hz: what senses so fast, and the range in g that it is used with. The model of three axes at 1.6 kHz is
# ../vibration_ae_1k6, which is trained on more machines.
RATES = {
    1_600: (sensor((80, 400), (600, 1_500)), 8.0),
    3_200: (sensor((60, 300), (1_000, 3_000)), 16.0),
    12_000: (sensor((20, 300), (4_000, 8_000)), 32.0),
    25_600: (sensor((20, 300), (6_000, 14_000)), 64.0),
}
AXES = (1, 2, 3)
ELSEWHERE = ((1_600, 3),)


def name_of(rate_hz: int, axes: int) -> str:
    thousands, hundreds = divmod(rate_hz, 1000)
    return f"vibration_ae_{thousands}k{hundreds // 100 or ''}_{axes}{'axis' if axes == 1 else 'axes'}"


def recipe_of(rate_hz: int, axes: int) -> Autoencoder:
    drawn, full_scale_g = RATES[rate_hz]
    features = band_energies(rate_hz, axes, full_scale_g)
    return Autoencoder(name_of(rate_hz, axes), features, widths_for(features.inputs), drawn, machines=80)


def build(rate_hz: int, wanted: tuple[int, ...], *, quick: bool, folder: Path) -> list[dict[str, object]]:
    """Write the models of one rate; what was measured of each."""
    whole = recipe_of(rate_hz, max(AXES))
    record = functools.cache(functools.partial(simulate, whole))
    machines = 8 if quick else whole.machines
    x = np.concatenate([record(m, take, None) for m in range(machines) for take in range(whole.records)])
    reports: list[dict[str, object]] = []
    for axes in wanted:
        recipe = recipe_of(rate_hz, axes)
        inputs = recipe.features.inputs  # axis after axis, so fewer axes are the first columns

        def seen(seed: int, take: int, fault: Fault | None, inputs: int = inputs) -> Floats:
            return np.ascontiguousarray(record(seed, take, fault)[:, :inputs])

        own = np.ascontiguousarray(x[:, :inputs])
        trained = train_autoencoder(own, recipe.features, recipe.widths, steps=300 if quick else recipe.steps)
        out = folder / f"{recipe.name}.tflite"
        out.write_bytes(trained.tflite)
        reports.append(
            {
                "model": recipe.name,
                "bytes": len(trained.tflite),
                "widths": recipe.widths,
                "windows": len(own),
                "residual_variance": trained.residual_variance,
                **detection(trained, seen, 2 if quick else 20),
            }
        )
        print(json.dumps(reports[-1]), flush=True)
    return reports


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the autoencoders for vibration.")
    parser.add_argument("--rate", type=int, choices=RATES, action="append", help="Hz; default: all")
    parser.add_argument("--axes", type=int, choices=AXES, action="append", help="default: all")
    parser.add_argument("--quick", action="store_true", help="few machines and steps: a check, not a model")
    parser.add_argument("-o", "--out", type=Path, help="folder; default: beside the recipe, build/models if quick")
    options = parser.parse_args()
    folder: Path = options.out or (HERE.parents[1] / "build" / "models" if options.quick else HERE)
    folder.mkdir(parents=True, exist_ok=True)
    for rate_hz in options.rate or RATES:
        axes = tuple(a for a in options.axes or AXES if (rate_hz, a) not in ELSEWHERE)
        build(rate_hz, axes, quick=options.quick, folder=folder)


if __name__ == "__main__":
    main()
