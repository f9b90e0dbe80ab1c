"""Settings of all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Asserts of the helpers say as much as those of the tests.
pytest.register_assert_rewrite("tests.support")

# The same examples in every run, so that a run judges the change and not the draw; KILOTUNE_EXPLORE=1 tries new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("explore" if os.environ.get("KILOTUNE_EXPLORE") else "repeatable")
