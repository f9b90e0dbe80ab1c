"""Checks of errors."""

from __future__ import annotations

import pytest
from kilotune.errors import KilotuneError


def code_of(error: pytest.ExceptionInfo[KilotuneError]) -> str:
    """The error's code; fails if the error does not say what to do."""
    assert error.value.hint
    return error.value.code
