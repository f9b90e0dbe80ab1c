"""Layouts of the kernel, as a user makes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from kilotune.export.kernel_package import ECOSYSTEMS

from tests.support.kernel_library import VERSION, command


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every layout, made by the command as a user runs it."""
    base = tmp_path_factory.mktemp("layouts")
    for ecosystem in ECOSYSTEMS:
        told = command("library", "--for", ecosystem, "-o", base / ecosystem / "kilotune")
        files = [p for p in Path(told["path"]).rglob("*") if p.is_file()]
        assert told["files"] == len(files)
        assert told["version"] == VERSION
    return {ecosystem: base / ecosystem / "kilotune" for ecosystem in ECOSYSTEMS}
