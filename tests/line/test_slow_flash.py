"""A commit amid a stream at the sensor's rate loses none of it, however long flash takes."""

from __future__ import annotations

import pytest

from tests.line import slow_flash

LEAST_S = {"stm32f4-128k": 2.0, "nrf52840": 0.085, "nrf51822": 0.022}  # one sector's erase


@pytest.mark.parametrize("chip", LEAST_S)
def test_a_commit_amid_a_stream_takes_its_time_and_costs_no_window(chip: str) -> None:
    outcome = slow_flash.run(chip, seconds=3.0)
    assert outcome.commit_s >= LEAST_S[chip]
    assert outcome.commits == 1
    assert outcome.lost == 0
    assert outcome.windows > 10


def test_a_serial_port_whose_interrupts_stand_still_tears_frames_and_the_stream_repairs_them() -> None:
    outcome = slow_flash.run("nrf51822", seconds=6.0, commits=4)
    assert outcome.damaged > 0
    assert outcome.lost == 0
