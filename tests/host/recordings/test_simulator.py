"""The simulated machine: repeatable, physical where it can be checked, and strict about its arguments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kilotune.errors import KilotuneError
from kilotune.recordings.simulator import FAULTS, Bearing, Fault, Machine, Sensor
from scipy.signal import butter, hilbert, sosfiltfilt

SLIP = 0.99  # of the shaft at half load


def test_records_repeat_and_seeds_differ() -> None:
    machine = Machine.random(4)
    first = machine.record(0.2, 20_000, seed=7)
    assert np.array_equal(first, Machine.random(4).record(0.2, 20_000, seed=7))
    assert not np.array_equal(first, machine.record(0.2, 20_000, seed=8))
    assert not np.array_equal(first, Machine.random(5).record(0.2, 20_000, seed=7))


@pytest.mark.parametrize("rate_hz", [200, 1_600, 12_000, 20_000])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_shape_follows_rate_and_axes(rate_hz: int, axes: int) -> None:
    g = Machine.random(1).record(0.5, rate_hz, axes=axes)
    assert g.shape == (rate_hz // 2, axes)
    assert np.isfinite(g).all()


def test_bearing_orders_add_up() -> None:
    bearing = Bearing(9, 0.2, 0.1)
    assert bearing.bpfo + bearing.bpfi == pytest.approx(9)  # inner and outer ring share all elements
    assert bearing.bpfo == pytest.approx(9 * bearing.ftf)
    # SKF 6205, 9 balls of 7.94 mm on 39.04 mm: the orders that are in every textbook.
    known = Bearing(9, 7.94 / 39.04, 0.0)
    assert known.bpfi == pytest.approx(5.415, abs=0.001)
    assert known.bpfo == pytest.approx(3.585, abs=0.001)


@pytest.mark.parametrize("fault", ["outer", "inner", "ball"])
def test_defects_ring_at_their_own_frequency(fault: Fault) -> None:
    found = []
    for seed in range(8):
        machine = Machine.random(seed)
        bearing = machine.bearing
        order = {"outer": bearing.bpfo, "inner": bearing.bpfi, "ball": 2 * bearing.bsf}[fault]
        g = machine.record(3, 20_000, rpm=1800, fault=fault, severity=1.0, seed=seed, axes=1)[:, 0]
        band = sosfiltfilt(butter(4, [2_000, 8_500], "band", fs=20_000, output="sos"), g)
        envelope = np.abs(hilbert(band)) ** 2
        spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
        hz = np.fft.rfftfreq(len(envelope), 1 / 20_000)
        expected = 30 * SLIP * order
        line = spectrum[np.abs(hz / expected - 1) < 0.015].max()
        found.append(line / np.median(spectrum[np.abs(hz / expected - 1) < 0.5]))
    assert np.median(found) > 10


def test_imbalance_shows_at_the_shaft_frequency_and_grows_with_severity() -> None:
    machine = Machine.random(2, sensor=Sensor(20.0, 10_000.0))

    def line(severity: float, fault: Fault | None = "imbalance") -> float:
        g = machine.record(8, 2_000, rpm=1500, fault=fault, severity=severity, seed=3)[:, 0]
        spectrum = np.abs(np.fft.rfft(g * np.hanning(len(g))))
        hz = np.fft.rfftfreq(len(g), 1 / 2_000)
        return float(spectrum[np.abs(hz - 25 * SLIP) < 0.5].max())

    assert line(0.0, None) < line(0.3) < line(0.6) < line(1.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_changes_the_record(fault: Fault) -> None:
    machine = Machine.random(6)
    healthy = machine.record(0.5, 20_000, seed=1)
    assert not np.allclose(healthy, machine.record(0.5, 20_000, seed=1, fault=fault))


def test_the_sensor_sets_noise_and_offset() -> None:
    quiet = Machine.random(3, sensor=Sensor(0.0, 10_000.0, (0.0, 0.5, -1.0)))
    noisy = Machine.random(3, sensor=Sensor(10_000.0, 10_000.0))
    a, b = quiet.record(1, 2_000, seed=1), noisy.record(1, 2_000, seed=1)
    assert a.mean(0) == pytest.approx([0.0, 0.5, -1.0], abs=0.02)
    # The same machine: what differs is white noise of 10 mg per root hertz over 1 kHz, and the offset.
    assert (b - a).std(0) == pytest.approx(np.full(3, 0.01 * np.sqrt(1_000)), rel=0.1)


@pytest.mark.parametrize(
    "change",
    [{"rpm": 0}, {"load": 1.1}, {"severity": -0.1}, {"fault": "rust"}, {"axes": 4}],
)
def test_wrong_arguments_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(KilotuneError) as caught:
        Machine.random(1).record(0.1, 1_000, **change)
    assert caught.value.code == "bad_argument"
    assert caught.value.hint
