"""What is recommended: never a row that a plainer one equals, nor one whose threshold is of no use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kilotune.report.intervals import Intervals, wilson
from kilotune.report.metrics import Separation
from kilotune.studies.recommending import Row, best, on_device, recommend


def row(name: str, auc: float, false_alarms: float, detection: float, *, where: str = "device", cost: int = 0) -> Row:
    return Row(name, where, Separation(auc, false_alarms, detection, 200, 200), cost_bytes=cost)


def measured(one: Row, windows: int) -> Row:
    s = one.separation
    return replace(one, intervals=Intervals(*(wilson(v, windows) for v in (s.auc, s.false_alarms, s.detection))))


def test_of_equal_aucs_the_one_without_false_alarms_wins() -> None:
    rows = [row("nothing", 1, 1, 1), row("calibration", 1, 0, 1)]
    assert recommend(rows)[0] == "calibration"
    assert recommend(rows[::-1])[0] == "calibration"


def test_false_alarms_decide_before_detection_and_cost() -> None:
    rows = [row("a", 0.99, 0.10, 1.0, cost=1), row("b", 0.988, 0.0, 0.9, cost=9)]
    assert recommend(rows)[0] == "b"


def test_the_cheaper_of_equals_wins_wherever_it_stands() -> None:
    rows = [row("dear", 0.99, 0, 0.9, cost=20_000), row("cheap", 0.99, 0, 0.9, cost=10_000)]
    assert recommend(rows)[0] == "cheap"


def test_rows_within_chance_of_the_best_are_as_good() -> None:
    rows = [row("plain", 0.93, 0.02, 0.80, cost=1), row("trained", 0.96, 0.01, 0.86, cost=2)]
    assert recommend([measured(r, 40) for r in rows])[0] == "plain"
    name, why = recommend([measured(r, 5000) for r in rows])
    assert name == "trained"
    assert "AUC 0.960" in why


def test_half_of_the_faults_is_not_as_good_however_wide_the_intervals_of_a_few_files_are() -> None:
    anything = Intervals((0.0, 1.0), (0.0, 1.0), (0.0, 1.0))
    plain = replace(row("RMS", 0.75, 0, 0.5, where="host"), intervals=anything)
    trained = replace(row("bias", 1, 0.05, 1, cost=9), intervals=anything)
    assert recommend([plain, trained])[0] == "bias"


@pytest.mark.parametrize(("false_alarms", "detection"), [(1.0, 1.0), (0.0, 0.0), (0.4, 0.4)])
def test_alarms_for_all_or_for_none_equal_no_detector(false_alarms: float, detection: float) -> None:
    rows = [
        measured(row("blunt", 1, false_alarms, detection, cost=1), 10),
        measured(row("sharp", 0.9, 0, 0.8, cost=2), 10),
    ]
    assert recommend(rows)[0] == "sharp"


def test_a_plain_baseline_that_does_as_well_is_recommended_and_the_best_of_the_device_is_named_too() -> None:
    rows = [row("kurtosis", 1, 0, 1, where="host", cost=24), row("bias+head", 1, 0, 1, cost=30_000)]
    name, why = recommend(rows)
    assert name == "kurtosis"
    assert on_device(rows) == "bias+head"
    assert "as well as the device's best row" in why


def test_a_baseline_that_wins_is_named_with_its_lead() -> None:
    rows = [row("z-score", 0.95, 0, 0.8, where="host"), row("calibration", 0.90, 0, 0.7, cost=9)]
    assert "z-score, AUC 0.950 against 0.900 of calibration (+0.050)" in recommend(rows)[1]


def test_a_baseline_with_the_same_auc_and_a_better_threshold_wins() -> None:
    rows = [row("kurtosis", 1, 0, 1, where="host"), row("combined", 1, 0, 0.75, cost=9)]
    name, why = recommend(rows)
    assert name == "kurtosis"
    assert "does better than the device" in why


def test_the_devices_own_choice_is_never_a_recommendation() -> None:
    rows = [row("the device's own choice", 1, 0, 1), row("calibration", 0.9, 0, 0.9)]
    assert recommend(rows)[0] == "calibration"


def test_where_nothing_works_that_is_said() -> None:
    rows = [row("nothing", 0.5, 0, 0), row("calibration", 0.6, 0.01, 0.02, cost=1)]
    assert "none separates well" in recommend(rows)[1]
    assert best(rows).name == "calibration"
