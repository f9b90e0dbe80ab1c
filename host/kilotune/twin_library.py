"""The firmware's own code as a compiled module: what the twin is made of."""

from __future__ import annotations

from typing import Any

from kilotune.errors import KilotuneError


def twin_library() -> Any:
    """The module `kilotune._native` (host/native); KilotuneError `no_twin` where it is not built."""
    try:
        from kilotune import _native
    except ImportError as error:
        raise KilotuneError(
            "no_twin",
            f"the twin is not built: {error}",
            "install the package with a C++ compiler there: pip install .",
        ) from error
    return _native
