"""The base models that ship with the project, in its `models` folder or in the installed package."""

from __future__ import annotations

import os
from pathlib import Path

from kilotune.errors import KilotuneError

DEFAULT = "vibration_ae_20k"
# A clock this far below the model's rate is that rate: recordings are resampled to it.
CLOCK = 0.05


def base_model(name: str = DEFAULT) -> Path:
    """The .tflite of a shipped base model, or the one that $KILOTUNE_BASE_MODEL names."""
    named = os.environ.get("KILOTUNE_BASE_MODEL")
    if named:
        return Path(named)
    found = {path.stem: path for path in shipped()}
    if name not in found:
        raise KilotuneError(
            "no_file", f"the base model {name} is not installed", "give a model, or work in a full source tree"
        )
    return found[name]


def shipped() -> list[Path]:
    """The .tflite files of all base models."""
    package = Path(__file__).parents[1]
    for root in (package / "models", package.parents[1] / "models"):
        if found := sorted(root.glob("*/*.tflite")):
            return found
    return []


def anomaly_model_for(rate_hz: float, axes: int) -> Path:
    """The shipped anomaly model with `axes` axes whose rate is the highest that recordings of `rate_hz` can be
    brought to, or the one that $KILOTUNE_BASE_MODEL names.

    KilotuneError `wrong_axes` or `wrong_rate` where there is none.
    """
    from kilotune.image.metadata import read
    from kilotune.terms import Loss

    if os.environ.get("KILOTUNE_BASE_MODEL"):
        return base_model()
    own = "train one on your own recordings: kilotune base --healthy FILES -o base.tflite"
    rates: dict[float, Path] = {}
    for path in shipped():
        described = read(path.read_bytes())
        if described.features and described.loss is Loss.reconstruction and described.features.axes == axes:
            rates[described.features.rate_hz] = path
    if not rates:
        raise KilotuneError(
            "wrong_axes", f"no shipped anomaly model has {axes} axes", f"choose with --columns, or {own}"
        )
    reached = [rate for rate in rates if rate * (1 - CLOCK) <= rate_hz]
    if not reached:
        raise KilotuneError(
            "wrong_rate",
            f"the recordings have {rate_hz:g} Hz, and the slowest shipped anomaly model takes {min(rates):g} Hz",
            own,
        )
    return rates[max(reached)]
