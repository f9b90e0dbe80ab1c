"""Programs that tests need; tests are skipped without them."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

needs_arm = pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
needs_cmake = pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("ninja"), reason="needs cmake, ninja")


def tool(name: str) -> str | None:
    """A program in this environment, or on the path."""
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
