"""Recordings that a test writes, and those that must be refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.recordings import ReadOptions, read


def write_text(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, options: ReadOptions | None = None, *, code: str) -> KilotuneError:
    """The error of reading it, which has this code and says what to do."""
    with pytest.raises(KilotuneError) as caught:
        read(path, options)
    assert caught.value.code == code
    assert caught.value.hint
    return caught.value
