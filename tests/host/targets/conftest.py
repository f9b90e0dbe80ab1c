"""One small model for all targets."""

from __future__ import annotations

import kilotune
import pytest
from kilotune.image.image import Image

from tests.support import small_models


@pytest.fixture(scope="module")
def image() -> Image:
    return kilotune.compile(small_models.chain(10, 6, 10, seed=1), method="bias")


@pytest.fixture(scope="module")
def content(image: Image) -> bytes:
    return image.content
