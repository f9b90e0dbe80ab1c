"""Settings of all tests."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Asserts of the helpers say as much as those of the tests.
pytest.register_assert_rewrite("tests.support")

# The same examples in every run, so that a run judges the change and not the draw; KILOTUNE_EXPLORE=1 tries new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("explore" if os.environ.get("KILOTUNE_EXPLORE") else "repeatable")


@pytest.hookimpl(trylast=True)  # after pytest's own order, which is by parameters
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests begin first, so that none of them is what a run waits for at its end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def build_folder() -> Iterator[Path]:
    """An empty folder beside those of all boards, whose objects ccache then takes: none is compiled a second time."""
    boards = Path(__file__).parents[1] / "build" / "firmware"
    boards.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=boards, prefix="test-") as folder:
        yield Path(folder)
