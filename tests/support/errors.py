"""What a test asks of an error."""

from __future__ import annotations

import pytest
from kilotune.errors import KilotuneError


def code_of(error: pytest.ExceptionInfo[KilotuneError]) -> str:
    """Its code; fails where it does not say what to do."""
    assert error.value.hint
    return error.value.code
