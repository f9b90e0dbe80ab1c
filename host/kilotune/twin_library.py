"""The firmware's own code as a compiled Python module, from which the twin is made."""

from __future__ import annotations

from typing import Any

from kilotune.errors import KilotuneError


def twin_library() -> Any:
    """The module `kilotune._native` (host/native); raises KilotuneError `no_twin` if it is not built."""
    try:
        from kilotune import _native
    except ImportError as error:
        raise KilotuneError(
            "no_twin",
            f"the twin is not built: {error}",
            "install a C++ compiler, then the package again: pip install .",
        ) from error
    return _native
