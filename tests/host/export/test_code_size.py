"""The kernel's code, operator by operator, and a small program as a whole."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest

from tests.support.kernel_library import KERNEL, run
from tests.support.paths import ROOT
from tests.support.tools import needs_arm


@pytest.fixture(scope="module")
def sizes() -> Any:
    return json.loads(run(sys.executable, ROOT / "tests" / "bench" / "code_size.py", "--json"))


@needs_arm
def test_code_size_has_a_row_for_every_operator(sizes: Any) -> None:
    declared = set(re.findall(r"OpKernel (k\w+);", (KERNEL / "ops" / "op.h").read_text(encoding="utf-8")))
    assert set(sizes["operators"]) == declared
    for core in ("M0", "M4"):
        assert all(by_core[core] > 0 for by_core in sizes["operators"].values()), "an operator costs nothing?"
        assert sizes["frame"][core] + sizes["operators"]["kFullyConnected"][core] == sizes["program"][core]


@needs_arm
def test_a_program_that_trains_biases_of_dense_layers_has_at_most_8_kilobytes(sizes: Any) -> None:
    """The whole program at -Os, with its parts of libc and libgcc: 7,886 bytes with gcc 12.2."""
    assert sizes["biases"]["M4"] <= 8000
    assert sizes["program"]["M4"] <= 11200  # with trained weights and their drift, sums, every loss and rule
