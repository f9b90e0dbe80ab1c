"""Recording a live sensor: nothing is taken twice or out of order, and what is missing is reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.device.recorder import LiveRecording, record
from kilotune.errors import KilotuneError
from kilotune.image.features import FeatureConfig
from kilotune.link.messages import Chip, RawFrames
from kilotune.link.status import RefusedError, statuses
from kilotune.recordings import read

from tests.support import small_models
from tests.support.command_line import run

RATE_HZ, PIECE, KEPT = 100.0, 8, 32


@dataclass
class Sensor:
    """A device whose sensor has measured `clock` x the rate; frame i is (i, -i)."""

    clock_s: float = 0.0
    step_s: float = 0.03
    gap_at: int = -1  # the FIFO ran over before this frame, for a second
    stall: tuple[float, float] = (-1.0, 0.0)  # at this time, for so long, the host does not come
    restart_at: int = -1  # after this frame the stream begins anew
    restarted: int = 0
    silent: bool = False
    refuse: int = 0

    timeout_s = 2.0

    @property
    def client(self) -> Sensor:
        return self

    def info(self) -> Any:
        return SimpleNamespace(rate_hz=RATE_HZ, axes=2, full_scale_g=8.0)

    def status(self) -> Any:
        return SimpleNamespace(sensor=SimpleNamespace(chip=Chip.lis2dw12))

    @property
    def clock(self) -> Sensor:
        return self

    def sleep(self, seconds: float) -> None:
        """A clock that moves each time it is read."""

    def __call__(self) -> float:
        self.clock_s += self.step_s
        if 0 <= self.stall[0] <= self.clock_s:
            self.clock_s += self.stall[1]
            self.stall = (-1.0, 0.0)
        return self.clock_s

    def raw(self, start: int) -> RawFrames:
        if self.refuse:
            self.refuse -= 1
            raise RefusedError(next(s.code for s in statuses().values() if s.name == "busy"), 0, "give")
        end = 0 if self.silent else int(self.clock_s * RATE_HZ)
        gaps, gap_at = 0, 0
        if 0 <= self.gap_at < end:
            end = max(self.gap_at, end - int(RATE_HZ))
            gaps, gap_at = int(end > self.gap_at), self.gap_at
        if 0 <= self.restart_at < end:
            self.restarted = self.restart_at
            end -= self.restart_at
        first = min(max(start, end - KEPT), end)
        frames = range(first, min(first + PIECE, end))
        data = np.array([(i, -i) for i in frames], "<i2").tobytes()
        return RawFrames(frames_first=first, frames_end=end, gaps=gaps, gap_at=gap_at, data=data)


def test_a_quick_host_gets_every_sample_in_order() -> None:
    sensor = Sensor()
    found = record(sensor, seconds=2.0)  # type: ignore[arg-type]
    assert len(found.counts) == 200
    np.testing.assert_array_equal(np.diff(found.counts[:, 0]), 1)
    np.testing.assert_allclose(found.time_s, np.arange(200) / RATE_HZ)
    assert (found.dropped, found.overruns, found.stretches) == (0, 0, (0,))
    assert found.samples_g[10, 0] == pytest.approx(found.counts[10, 0] * 8 / 32768)


def test_a_host_that_stalls_loses_samples_counts_them_and_keeps_the_time() -> None:
    sensor = Sensor(stall=(1.0, 1.0))
    found = record(sensor, seconds=2.0)  # type: ignore[arg-type]
    steps = np.diff(found.counts[:, 0])
    (gap,) = map(int, np.flatnonzero(steps != 1))
    assert found.dropped == steps[gap] - 1 > 50
    assert found.stretches == (0, gap + 1)
    # By index, so exact: time and samples go together on both sides of the gap.
    np.testing.assert_allclose(found.time_s, (found.counts[:, 0] - found.counts[0, 0]) / RATE_HZ)


def test_an_overrun_of_the_fifo_is_told_and_timed_by_the_computers_clock() -> None:
    sensor = Sensor(gap_at=90)
    found = record(sensor, seconds=2.0)  # type: ignore[arg-type]
    assert (found.overruns, found.dropped) == (1, 0)
    at = found.stretches[1]
    assert found.counts[at, 0] == 90
    np.testing.assert_array_equal(np.diff(found.counts[:, 0]), 1)
    step_s = found.time_s[at] - found.time_s[at - 1]
    assert step_s == pytest.approx(1.0, abs=0.15)
    assert np.all(np.diff(found.time_s) > 0)


def test_a_stream_that_begins_anew_is_another_stretch() -> None:
    sensor = Sensor(restart_at=120)
    found = record(sensor, seconds=2.0)  # type: ignore[arg-type]
    assert len(found.stretches) == 2
    assert found.counts[found.stretches[1], 0] <= 1
    assert np.all(np.diff(found.time_s) > 0)


def test_a_device_that_is_busy_is_waited_for_and_a_silent_sensor_is_not_for_ever() -> None:
    sensor = Sensor(refuse=5)
    assert len(record(sensor, seconds=0.5).counts) == 50  # type: ignore[arg-type]
    for broken in (Sensor(silent=True), Sensor(refuse=10**9)):
        with pytest.raises(KilotuneError):
            record(broken, seconds=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), KilotuneError("device_lost", "unplugged")])
def test_what_was_recorded_until_an_early_end_is_rescued(fault: BaseException) -> None:
    sensor = Sensor()
    rescued: list[LiveRecording] = []

    def stop(done_s: float, wanted_s: float) -> None:
        assert wanted_s == 2.0
        if done_s >= 1.0:
            raise fault

    with pytest.raises(type(fault)):
        record(sensor, seconds=2.0, progress=stop, rescue=rescued.append)  # type: ignore[arg-type]
    (part,) = rescued
    assert 100 <= len(part.counts) < 200
    np.testing.assert_allclose(part.time_s, np.arange(len(part.counts)) / RATE_HZ)
    silent = Sensor(silent=True)
    with pytest.raises(KilotuneError):  # nothing was recorded: nothing to rescue
        record(silent, seconds=1.0, rescue=rescued.append)  # type: ignore[arg-type]
    assert len(rescued) == 1


@pytest.mark.parametrize("ending", [".npz", ".csv"])
def test_what_was_written_is_read_as_a_recording_and_a_gap_in_it_parts_it(ending: str, tmp_path: Path) -> None:
    sensor = Sensor()
    found = record(sensor, seconds=2.0)  # type: ignore[arg-type]
    found.save(tmp_path / f"a{ending}")
    back = read(tmp_path / f"a{ending}")
    assert back.rate_hz == pytest.approx(RATE_HZ)
    assert back.unit == "g"
    np.testing.assert_allclose(back.samples, found.samples_g, atol=1e-6)
    sensor = Sensor(stall=(1.0, 1.0))
    found = record(sensor, seconds=2.0)  # type: ignore[arg-type]
    found.save(tmp_path / f"b{ending}")
    assert read(tmp_path / f"b{ending}").starts == found.stretches != (0,)


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_the_command_records_the_sensor_of_a_native_device(ending: str, tmp_path: Path) -> None:
    features = FeatureConfig(rate_hz=100.0, window=256, hop=64, fft_points=256, axes=3, bands=8, full_scale_g=8.0)
    image = kilotune.compile(small_models.chain(24, 8, 24, seed=3), features=features)
    image.save(tmp_path / "m.ktm")
    measured = np.random.default_rng(0).normal(0, 0.5, (6000, 3)).astype(np.float32)
    np.savez(tmp_path / "m.npz", samples=measured, rate_hz=100.0)
    target = f"native:lis2dw12={tmp_path / 'm.npz'}"
    file = tmp_path / f"live.{ending}"
    told = run(
        "record", "-t", target, "--image", tmp_path / "m.ktm", "--state", tmp_path, "-o", file, "--seconds", "1.5",
        fake=False,
    )  # fmt: skip
    assert (told["sensor"], told["rate_hz"], told["samples"]) == ("lis2dw12", 100.0, 150)
    if told["dropped"] or told["overruns"]:
        pytest.skip("this computer was too busy to record without loss, which it said")
    found = read(file).samples
    # The recording begins somewhere in what the sensor measures; digits of the chip are 1/1024 g.
    starts = [i for i in range(len(measured) - 150) if abs(measured[i] - found[0]).max() < 2e-3]
    assert any(abs(measured[i : i + 150] - found).max() < 2e-3 for i in starts)


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    image = kilotune.compile(small_models.chain(8, 4, 8, seed=1))
    image.save(tmp_path / "m.ktm")
    arguments = ("record", "-t", "native", "--image", tmp_path / "m.ktm", "--state", tmp_path, "--seconds", "0.1")
    told = run(*arguments, "-o", tmp_path / "x.npz", fake=False, code=4)
    assert told["error"]["code"] == "no_sensor"
    assert run(*arguments, "-o", tmp_path / "x.wav", fake=False, code=2)["error"]["code"] == "bad_argument"
