"""Packages that some formats need: the extra `formats`, which not everybody installs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from kilotune.errors import KilotuneError


def optional(module: str, package: str, name: str) -> Any:
    """The module; KilotuneError `missing_package` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise KilotuneError(
            "missing_package",
            f"{name} needs the package {package}, which is not installed",
            "pip install 'kilotune[formats]', or pip install " + package,
        ) from None
