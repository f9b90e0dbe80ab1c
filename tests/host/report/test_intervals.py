"""Intervals beside the rates: they hold the truth as often as they say, and files count more than windows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kilotune.report.intervals import intervals, wilson
from kilotune.report.metrics import separation


def test_wilson_agrees_with_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
    for hits, n, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(hits / n, n) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(0, 50), st.integers(1, 50))
def test_an_interval_holds_the_share_and_stays_within_one(hits: int, more: int) -> None:
    share = hits / (hits + more)
    low, high = wilson(share, hits + more)
    assert 0 <= low <= share <= high <= 1


def test_nothing_seen_says_nothing() -> None:
    assert wilson(float("nan"), 0) == (0, 1)


def test_wilson_covers_the_true_rate_about_as_often_as_it_says() -> None:
    r = np.random.default_rng(1)
    covered = [low <= 0.05 <= high for low, high in (wilson(r.binomial(80, 0.05) / 80, 80) for _ in range(2000))]
    assert 0.92 < np.mean(covered) < 0.99


def test_windows_that_overlap_count_for_less() -> None:
    healthy, fault = [[0.0, 1.0] * 50], [[2.0, 0.5] * 50]
    one, half = (intervals(healthy, fault, 0.7, independent=share) for share in (1.0, 0.5))
    for name in ("auc", "false_alarms", "detection"):
        narrow, wide = getattr(one, name), getattr(half, name)
        assert wide[0] < narrow[0]
        assert wide[1] > narrow[1]


def test_files_that_differ_make_the_interval_wide() -> None:
    """Half of the files all alarms, half none: 400 windows know these files, and not the machine."""
    r = np.random.default_rng(2)
    healthy = [list(r.normal(0, 1, 100)) for _ in range(4)]
    split = [[5.0] * 100, [-5.0] * 100, [5.0] * 100, [-5.0] * 100]
    mixed = [[5.0, -5.0] * 50 for _ in range(4)]
    by_file, by_window = (intervals(healthy, fault, 3.0) for fault in (split, mixed))
    assert by_file.detection[1] - by_file.detection[0] > 3 * (by_window.detection[1] - by_window.detection[0])


def test_intervals_hold_what_they_belong_to() -> None:
    r = np.random.default_rng(3)
    healthy = [list(r.normal(0, 1, n)) for n in (5, 40, 90)]
    fault = [list(r.normal(1, 1, n)) for n in (30, 7)]
    found = intervals(healthy, fault, 1.0)
    figures = separation([s for f in healthy for s in f], [s for f in fault for s in f], 1.0)
    for name in ("auc", "false_alarms", "detection"):
        low, high = getattr(found, name)
        assert low < getattr(figures, name) < high
