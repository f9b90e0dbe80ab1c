"""Differences of the recordings are told from differences of the machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kilotune.recordings import Recording, read
from kilotune.studies.sides import compare, judge

FULL_SCALE_G = 64.0
MACHINES = (1, 2, 3, 4)


def simulated(kind: str, machine: int, seed: int) -> Recording:
    return read(f"synthetic:{kind},machine={machine},seed={seed},seconds=0.6,rate=20000")


def healthy(machine: int) -> list[Recording]:
    return [simulated("healthy", machine, seed) for seed in (1, 2)]


def changed(recording: Recording, samples: object) -> Recording:
    return replace(recording, samples=np.asarray(samples, np.float32))


@pytest.mark.parametrize("kind", ["outer", "inner", "ball", "imbalance", "misalignment", "looseness", "gear"])
@pytest.mark.parametrize("machine", MACHINES)
def test_a_fault_alone_forbids_nothing(kind: str, machine: int) -> None:
    for severity in (0.3, 0.6):
        fault = simulated(f"{kind},severity={severity}", machine, 9)
        assert judge(compare(healthy(machine), [fault], FULL_SCALE_G)) == ""


@pytest.mark.parametrize("kind", ["healthy", "inner,severity=0.4", "imbalance,severity=0.4"])
@pytest.mark.parametrize(
    ("factor", "word"), [(9.80665, "m/s"), (1000.0, "mg"), (9806.65, "mm/s"), (1 / 9.80665, "m/s")]
)
def test_another_unit_is_named(kind: str, factor: float, word: str) -> None:
    for machine in MACHINES:
        fault = simulated(kind, machine, 9)
        found = judge(compare(healthy(machine), [changed(fault, fault.samples * factor)], 1e6))
        assert word in found, (machine, found)


def test_another_unit_on_the_healthy_side_is_named_too() -> None:
    fault = simulated("inner,severity=0.4", 1, 9)
    other = [changed(r, r.samples * 9.80665) for r in healthy(1)]
    assert "m/s" in judge(compare(other, [fault], 1e6))


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1), (2, 1, 0)])
def test_permuted_axes_are_noticed(order: tuple[int, ...]) -> None:
    noticed = 0
    for machine in MACHINES:
        for kind in ("healthy", "inner,severity=0.4"):
            fault = simulated(kind, machine, 9)
            doubts = compare(healthy(machine), [changed(fault, fault.samples[:, order])], FULL_SCALE_G)
            noticed += any("another order" in d.text for d in doubts)
    assert noticed >= 6  # of 8: where two axes look alike, nothing tells them apart


def test_an_empty_top_of_the_band_is_noticed() -> None:
    fault = simulated("inner,severity=0.4", 1, 9)
    spectrum = np.fft.rfft(fault.samples, axis=0)
    spectrum[int(0.7 * len(spectrum)) :] *= 1e-4
    low = changed(fault, np.fft.irfft(spectrum, len(fault.samples), axis=0))
    assert "lower rate" in judge(compare(healthy(1), [low], FULL_SCALE_G))


def test_a_turned_sensor_is_a_warning_and_forbids_nothing() -> None:
    fault = simulated("inner,severity=0.4", 1, 9)
    doubts = compare(healthy(1), [changed(fault, fault.samples + np.array([0, 0, 1.0]))], FULL_SCALE_G)
    assert any("remounted" in d.text for d in doubts)
    assert judge(doubts) == ""


def test_counts_beside_g_are_a_warning() -> None:
    fault = simulated("inner,severity=0.4", 1, 9)
    counts = np.rint(fault.samples * 32768 / FULL_SCALE_G).astype(np.int16)
    doubts = compare(healthy(1), [replace(fault, samples=counts, unit="counts")], FULL_SCALE_G)
    assert any("counts" in d.text for d in doubts)
    assert judge(doubts) == ""


@pytest.mark.parametrize("samples", [10, 70, 200, 900])
def test_recordings_of_any_length_can_be_compared(samples: int) -> None:
    """As of slow sensors with small windows: each side has its own length, and files of one side differ too."""
    a, b = healthy(1)
    short = changed(a, a.samples[:samples])
    fault = changed(b, b.samples[: samples + 33])
    for sides in (([a, short], [fault]), ([short], [b])):
        assert judge(compare(*sides, FULL_SCALE_G)) == ""
