"""What is tested on was never learned from: whole files, blocks of time, and no copies."""

from __future__ import annotations

import numpy as np
import pytest
from kilotune.errors import KilotuneError
from kilotune.recordings import Recording
from kilotune.studies.holding_out import hold_out, split_files

WINDOW = 64


def recordings(count: int, samples: int = 1000) -> list[Recording]:
    r = np.random.default_rng(5)
    return [Recording(r.normal(0, 1, (samples, 3)).astype(np.float32), 1000.0, f"{k}.csv") for k in range(count)]


def test_a_few_files_are_cut_in_time_with_a_window_between() -> None:
    for count in (1, 2):
        whole = recordings(count)
        held = hold_out(whole, window=WINDOW)
        for before, learn, test in zip(whole, held.learn, held.test, strict=True):
            assert len(learn.samples) == 500
            np.testing.assert_array_equal(test.samples, before.samples[500 + WINDOW :])
        assert "same file" in held.notes[-1]


@pytest.mark.parametrize("count", [3, 4, 5, 12])
def test_several_files_are_held_out_whole(count: int) -> None:
    held = hold_out(recordings(count), window=WINDOW)
    learn, test = ({r.name for r in side} for side in (held.learn, held.test))
    assert not learn & test
    assert len(learn | test) == count
    assert all(len(r.samples) == 1000 for r in (*held.learn, *held.test))
    assert abs(len(learn) - len(test)) <= 1


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_both_sides_get_a_file_whatever_the_share(share: float) -> None:
    for count in range(2, 9):
        learn, test = split_files(recordings(count), share)
        assert learn
        assert test
        assert len(learn) + len(test) == count


def test_files_given_for_the_test_are_the_test() -> None:
    own = recordings(4)
    held = hold_out(own[:3], own[3:], window=WINDOW)
    assert [r.name for r in held.learn] == ["0.csv", "1.csv", "2.csv"]
    assert [r.name for r in held.test] == ["3.csv"]


def test_a_copy_under_another_name_counts_once() -> None:
    own = recordings(2)
    copy = Recording(own[0].samples.copy(), 1000.0, "copy.csv")
    held = hold_out([*own, copy], window=WINDOW)
    assert [r.name for r in held.learn] == ["0.csv", "1.csv"]
    assert any("copy.csv has the same samples as 0.csv" in n for n in held.notes)


@pytest.mark.parametrize("pair", ["healthy and test", "healthy and fault", "test and fault"])
def test_one_recording_on_two_sides_is_refused(pair: str) -> None:
    a, b, c = recordings(3)
    sides = {"healthy": [a], "test": [b], "fault": [c]}
    first, second = pair.split(" and ")
    sides[second] = [*sides[second], Recording(sides[first][0].samples, 1000.0, "again.csv")]
    with pytest.raises(KilotuneError, match=r"again\.csv.*has the same samples as") as refused:
        hold_out(sides["healthy"], sides["test"], fault=sides["fault"], window=WINDOW)
    assert refused.value.code == "bad_argument"


def test_one_file_cannot_be_held_out_whole() -> None:
    with pytest.raises(KilotuneError, match="a single healthy recording"):
        hold_out(recordings(1), window=WINDOW, by="files")
