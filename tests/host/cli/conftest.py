"""A model, its image and two recordings for the commands."""

from __future__ import annotations

from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.image import metadata
from kilotune.terms import Loss

from tests.support import small_models
from tests.support.command_line import features


@pytest.fixture(scope="session")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "ae.tflite"
    plain = small_models.chain(12, 8, 12, seed=3)
    path.write_bytes(metadata.write(plain, metadata.ModelMetadata(features=features(), loss=Loss.reconstruction)))
    return path


@pytest.fixture(scope="session")
def image(tflite: Path) -> Path:
    path = tflite.with_suffix(".ktm")
    kilotune.compile(tflite, method="bias+head").save(path)
    return path


@pytest.fixture
def recordings(tmp_path: Path) -> tuple[Path, Path]:
    r = np.random.default_rng(0)
    for name, level in (("ok.csv", 0.1), ("bad.csv", 3.0)):
        rows = r.normal(0, level, (640, 3))
        text = "x,y,z\n" + "\n".join(",".join(f"{v:.5f}" for v in row) for row in rows)
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
    return tmp_path / "ok.csv", tmp_path / "bad.csv"


@pytest.fixture
def own_tflite(tmp_path: Path) -> Path:
    """A model without metadata that this test may change."""
    path = tmp_path / "ae.tflite"
    path.write_bytes(small_models.chain(12, 8, 12, seed=3))
    return path
