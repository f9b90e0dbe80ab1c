"""Folders of ST's High Speed Datalog."""

from __future__ import annotations

from pathlib import Path

_CONFIGS = ("DeviceConfig.json", "device_config.json")


def is_hsdatalog(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _CONFIGS)
