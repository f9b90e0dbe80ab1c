"""What is told of a learn phase is a sentence for people: figures and words, no names of the code."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from kilotune.device.wording import report_in_words
from kilotune.link.messages import LearnReport
from kilotune.terms import Scorer


def report(**values: Any) -> LearnReport:
    blank: dict[str, Any] = {f.name: 0 for f in fields(LearnReport)} | {"scorer": Scorer.residual}
    return LearnReport(**(blank | values))


LEARNED = {"learned": 24, "held": 8, "passes_done": 40, "passes_kept": 33}
AUCS = {"auc_calibration": 810, "auc_candidate": 870, "auc_nearest": 860, "auc_combined": 865}


@pytest.mark.parametrize(
    "values", [LEARNED, LEARNED | AUCS, LEARNED | {"kept_candidate": 1}, {"learned": 3, "held": 1}]
)
def test_a_report_is_a_sentence(values: dict[str, Any]) -> None:
    text = report_in_words(report(**values))
    assert "windows held back" in text
    assert "_" not in text


def test_the_scorer_is_told_with_what_it_was_chosen_by() -> None:
    text = report_in_words(report(**LEARNED, **AUCS))
    assert text.endswith(
        "; scorer residual, chosen by how well each separates held-back windows from pseudo-faults (AUC): "
        "calibration 0.810, training 0.870, nearest windows 0.860, both combined 0.865"
    )


def test_nothing_learned_is_nothing_told() -> None:
    assert report_in_words(None) == report_in_words(report()) == ""
