"""Recordings of the fault rig of docs/LEARNING.md, as the project's base model takes them."""

from __future__ import annotations

from functools import lru_cache

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune.image import metadata
from kilotune.studies.base_models import base_model

from models.recipes import compute_features
from tests.support import shared_data

SPEEDS = ("0600", "1200", "1800", "2400")
Windows = npt.NDArray[np.int16]  # (windows, features) Q10


def image(*, early: int, reservoir: int) -> kilotune.Image:
    return kilotune.compile(base_model(), method="bias+head", reservoir=reservoir, early=early)


@lru_cache(maxsize=32)
def windows(record: str, skip: int = 0) -> Windows:
    """Features of one recording without its first `skip` samples, such as "0600_GoB_GS_BaLo_WA_00lb"."""
    config = metadata.read(base_model().read_bytes()).features
    assert config is not None
    with np.load(shared_data.path(f"adi_cbm_adxl356/{record}.npz")) as d:
        g = d["g_per_v"] * (d["v_1e8"] / 1e8 - d["zero_g_v"])
    return np.asarray(np.rint(compute_features(config, g[skip:]) * 1024)).astype(np.int16)


def healthy(speed: str, load: str = "00lb", skip: int = 0) -> Windows:
    return windows(f"{speed}_GoB_GS_BaLo_WA_{load}", skip)
