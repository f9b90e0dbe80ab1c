"""The firmware's own session, in this process."""

from __future__ import annotations

from typing import Any

import pytest
from kilotune.image.image import Image

native: Any = pytest.importorskip("kilotune._native", reason="the compiled module is not installed")
if not hasattr(native, "Session"):
    pytest.skip("the compiled module has no Session", allow_module_level=True)


def start(image: Image) -> Any:
    """With blank flash of 16 sectors of 4096 bytes."""
    return native.Session(image.content, bytearray(b"\xff" * 4096 * 16), 4096)
