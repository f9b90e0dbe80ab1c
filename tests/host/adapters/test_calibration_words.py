"""The scorer in use, in an adapter's bytes and in a merged model's JSON."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kilotune.adapters.calibration import Calibration
from kilotune.errors import KilotuneError
from kilotune.image.calibration_block import calibration_bytes
from kilotune.terms import Scorer

FEATURES, OUTPUTS, CAPACITY = 2, 2, 4
SCORER_AT = 2  # SPEC 2


def block(scorer: int) -> bytes:
    """A calibration without windows; every scale is 1."""
    content = bytearray(np.full(calibration_bytes(FEATURES, OUTPUTS, CAPACITY, 0) // 2, 1, "<u2").tobytes())
    content[:32] = bytes(32)
    content[SCORER_AT] = scorer
    return bytes(content)


def read(scorer: int) -> Calibration:
    return Calibration.from_bytes(block(scorer), features=FEATURES, outputs=OUTPUTS, capacity=CAPACITY, early=0)


@pytest.mark.parametrize(("number", "scorer", "word"), [
    (0, None, "none"), (1, Scorer.residual, "residual"), (2, Scorer.nearest, "nearest"),
    (3, Scorer.combined, "combined"),
])  # fmt: skip
def test_the_scorer_has_one_word_and_comes_back(number: int, scorer: Scorer | None, word: str) -> None:
    found = read(number)
    assert found.scorer is scorer
    told = found.to_json()
    assert told["scorer"] == word
    assert type(told["scorer"]) is str
    assert Calibration.from_json(told).scorer is scorer


def test_a_number_or_word_that_is_no_scorer_is_refused() -> None:
    with pytest.raises(KilotuneError) as refused:
        read(4)
    assert refused.value.code == "bad_adapter"
    for word in ("automatic", "mean", "", 2, None):
        with pytest.raises(KilotuneError) as refused:
            Calibration.from_json(read(1).to_json() | {"scorer": word})
        assert refused.value.code == "bad_model"


def test_what_is_no_scorer_yet_scores_by_residuals() -> None:
    found = replace(read(1), calibrated=True)
    d = np.array([[256, -512]], np.int64)
    x = np.zeros((1, FEATURES), np.int8)
    assert replace(found, scorer=None).score(x, d, neighbours=1) == found.score(x, d, neighbours=1)
