"""A stream ends in words that can be believed: what a dead sensor or an untaught device says is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from kilotune.studies.verdict import Verdict, verdict
from kilotune.studies.windows import Window


def windows(above: list[bool], *, dead: int = 0) -> list[Window]:
    live = [Window(k, 0.05 * (k + 1), 1.0 + a, a, False, (), 0) for k, a in enumerate(above)]
    gone = [Window(k, 0.05 * (k + 1), 9.0, False, False, ("constant",), 0, dead=True) for k in range(dead)]
    return live + gone


def judged(above: list[bool], *, dead: int = 0, taught: bool = True) -> Verdict:
    return verdict("pump.csv", windows(above, dead=dead), taught=taught)


def scattered(n: int, every: int) -> list[bool]:
    return [k % every == every - 1 for k in range(n)]


@pytest.mark.parametrize(
    ("above", "state"),
    [
        ([False] * 300, "healthy"),
        (scattered(300, 100), "healthy"),
        (scattered(390, 22), "doubtful"),  # 17 of 390, as the first example of `stream --help` once gave
        ([True] * 40, "anomalous"),
        ([False] * 200 + [True] * 100, "anomalous"),
        ([False] * 800 + [True] * 3 + [False] * 800, "doubtful"),
        ([], "unscored"),
    ],
)
def test_the_state_follows_from_share_and_persistence(above: list[bool], state: str) -> None:
    assert judged(above).state == state


def test_a_healthy_machine_is_seldom_doubted() -> None:
    r = np.random.default_rng(3)
    states = [judged((r.random(400) < 0.01).tolist()).state for _ in range(500)]
    assert states.count("healthy") > 480
    assert states.count("anomalous") == 0


def test_when_it_began_is_said() -> None:
    found = judged([False] * 100 + [True] * 100)
    assert "from 5.2 s on" in found.text  # of windows 100, 101, 102 the last one
    assert "100 of 200 windows (50.0 %)" in found.text


def test_a_dead_sensor_is_no_anomaly() -> None:
    found = judged([], dead=40)
    assert (found.state, found.anomalous) == ("dead", 0)
    assert "sensor is dead" in found.text


def test_a_sensor_that_died_for_a_while_leaves_a_verdict() -> None:
    found = judged([False] * 100, dead=20)
    assert found.state == "healthy"
    assert "20 more windows are of a dead sensor" in found.text


def test_a_device_that_has_learned_nothing_says_so() -> None:
    for above in ([False] * 50, [True] * 50):
        found = judged(above, taught=False)
        assert found.state == "untaught"
        assert "learned nothing" in found.text


def test_a_faint_fault_is_said_to_be_below_what_the_model_sees() -> None:
    assert "below what this model tells" in judged(scattered(390, 22)).text
    assert "below what this model sees" in judged([False] * 100).text
