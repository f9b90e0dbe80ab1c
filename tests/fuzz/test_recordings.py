"""A few damaged recordings of every format; `python tests/fuzz/recordings.py` tries 20,000 of each."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from tests.support.recording_examples import EXAMPLES

if sys.platform == "win32":
    pytest.skip("limits memory and time as only Unix can", allow_module_level=True)

from tests.fuzz.recordings import faults


@pytest.mark.parametrize("index", range(len(EXAMPLES)), ids=[e.what for e in EXAMPLES])
def test_a_damaged_recording_is_read_or_refused_within_bounds(index: int) -> None:
    package = EXAMPLES[index].package
    if package and find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    assert list(faults(index, 20)) == []
