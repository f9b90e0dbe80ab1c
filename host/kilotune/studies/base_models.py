"""The base models that ship with the project, in its `models` folder or in the installed package."""

from __future__ import annotations

import os
from pathlib import Path

from kilotune.errors import KilotuneError

DEFAULT = "vibration_ae_20k"


def base_model(name: str = DEFAULT) -> Path:
    """The .tflite of a shipped base model, or the one that $KILOTUNE_BASE_MODEL names."""
    named = os.environ.get("KILOTUNE_BASE_MODEL")
    if named:
        return Path(named)
    package = Path(__file__).parents[1]
    for root in (package / "models", package.parents[1] / "models"):
        found = sorted((root / name).glob("*.tflite"))
        if found:
            return found[0]
    raise KilotuneError(
        "no_file", f"the base model {name} is not installed", "give a model, or work in a full source tree"
    )
