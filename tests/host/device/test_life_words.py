"""What a device that goes on learning says is a sentence that an operator can act on."""

from __future__ import annotations

from typing import Any

import pytest
from kilotune.device.life_words import detail_in_words, life_story
from kilotune.link.messages import Life
from kilotune.terms import AlarmCause, Phase

LIVING: dict[str, Any] = {"lives": 1, "age": 85, "phases": 7, "next_phase": 106, "rule_alarmed": 3, "rule_of": 5}


def said(**values: Any) -> Life:
    return Life(**(dict.fromkeys(Life.__dataclass_fields__, 0) | values))


SETTLED = LIVING | {"settled": 20, "anchored": 1, "drifts": 3, "drift_1": 512, "drift_2": 256, "drift_3": 0}


@pytest.mark.parametrize(
    ("life", "phase", "state", "since", "verdict"),
    [
        ({}, Phase.idle, "learns once", None, "it has learned no machine yet"),
        ({}, Phase.detect, "learns once", None, "it detects; it has learned once"),
        (LIVING, Phase.detect, "settling", 0, "still settling: it has seen 85 records; it raises no alarms yet"),
        (LIVING, Phase.learn, "settling", 0, "in its first phase, of which 85 records are over"),
        (SETTLED, Phase.detect, "watching", 20, "watching since record 20, 65 records ago"),
        (SETTLED, Phase.train, "watching", 20, "; learning on now"),
        (SETTLED | {"alarmed": 0b100101}, Phase.detect, "watching", 20, "2 of the last 5 records alarmed, 3 make an"),
        (SETTLED | {"accepting": 90, "told": 80}, Phase.detect, "accepting", 80, "until record 90, now 85"),
        (SETTLED | {"alarm": 84, "causes": AlarmCause.threshold}, Phase.detect, "alarm", 84, "1 record ago: above the"),
    ],
)
def test_each_state_has_its_sentence(
    life: dict[str, Any], phase: Phase, state: str, since: int | None, verdict: str
) -> None:
    story = life_story(said(**life), phase)
    assert (story.state, story.since) == (state, since)
    assert verdict in story.verdict


def test_an_alarm_tells_why_and_where() -> None:
    both = AlarmCause.threshold | AlarmCause.anchor
    story = life_story(said(**SETTLED, alarm=85, causes=both, band_1=6, band_2=-1))
    assert story.verdict == (
        "ALARM since record 85: above the threshold and far from the anchor; most in feature 5 (more), feature 0 (less)"
    )
    assert story.causes == ("above the threshold", "far from the anchor")


def test_figures_are_in_log2_and_of_what_is_known() -> None:
    story = life_story(
        said(**SETTLED | {"drifts": 2}, allowance=768, score=1024, limit=2048, judged=0, normals=1, told=50)
    )
    assert (story.drifts, story.allowance, story.score, story.limit) == ((0.5, 0.25), 0.75, None, 2.0)
    rows = dict(detail_in_words(story))
    assert rows["drift a phase"].startswith("0.50, 0.25 log2")
    assert "last record" not in rows
    assert rows["an operator said"] == "normal 1 times, fault 0 times, the last time at record 50"
    judged = dict(
        detail_in_words(life_story(said(**SETTLED, score=1024, limit=2048, judged=1, distance=-512, anchor_limit=4096)))
    )
    assert judged["last record"] == "+1.00 log2, alarmed above +2.00"
    assert judged["from the anchor"] == "-0.50 log2, alarmed above +4.00"


def test_a_device_that_learns_once_has_no_figures_of_a_life() -> None:
    assert detail_in_words(life_story(said())) == []
