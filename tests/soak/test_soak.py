"""The short form of tests/soak/soak.py."""

from __future__ import annotations

import pytest

from tests.soak import soak


@pytest.mark.parametrize("geometry", soak.GEOMETRIES)
def test_a_day_of_windows_and_commits_leaves_nothing_behind(geometry: str) -> None:
    life = soak.soak(days=1, geometry=geometry)
    assert life.wrong == []
    assert life.windows >= soak.DAY_S - soak.LEARNED
    assert life.commits == 24
    assert life.clock_wraps == 1
    assert life.requests > 2**16  # sequence numbers went round
    sectors = soak.GEOMETRIES[geometry][1]
    assert sum(life.erased.values()) == life.erases
    assert max(life.erased.values()) <= life.erases // sectors + 1  # spread evenly
    assert soak.wear(life)[1] > 1
