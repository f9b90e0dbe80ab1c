"""Short forms of tests/line/faults.py: what a line, a host or a device does wrong costs nothing that was promised."""

from __future__ import annotations

import pytest

from tests.line import faults


def _sound(outcome: faults.Outcome) -> None:
    assert outcome.wrong == []
    assert outcome.slowest_s < faults.TIMEOUT_S


def test_adapters_and_commits_survive_a_faulty_line_whole() -> None:
    outcome = faults.carry(10, seed=5)
    _sound(outcome)
    assert sum(outcome.injected.values()) > 0
    assert outcome.done["commit"] == 10


def test_streams_survive_a_faulty_line_whole() -> None:
    outcome = faults.stream(1500, seed=6)
    _sound(outcome)
    assert sum(outcome.injected.values()) > 20
    assert outcome.done["windows"] == 1500


def test_models_survive_a_faulty_line_whole() -> None:
    outcome = faults.swaps(8, seed=9)
    _sound(outcome)
    assert sum(outcome.injected.values()) > 0
    assert (outcome.done["swap"], outcome.done["rollback"]) == (8, 2)


def test_the_next_host_finds_a_sound_device() -> None:
    outcome = faults.hosts(40, seed=7)
    _sound(outcome)
    assert sum(n for what, n in outcome.done.items() if what.endswith("killed")) >= 10


def test_a_device_that_restarts_amid_a_command_is_sound() -> None:
    outcome = faults.resets(20, seed=8)
    _sound(outcome)
    assert sum(n for what, n in outcome.done.items() if what.endswith("broken off")) >= 3


@pytest.mark.parametrize("kind", ["drop", "repeat", "flip", "cut", "delay", "swap"])
def test_every_kind_of_fault_changes_what_arrives(kind: str) -> None:
    frame = b"\1\2\3\4\0"
    assert faults.Faults(3)._damage(kind, frame) != [(0.0, frame)]
