"""Renode's sensors beside a board: what `record-to-resd` wrote is sensed, learned, committed and judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune.device.device import Device
from kilotune.image.image import Image
from kilotune.link.messages import Chip, Phase
from kilotune.link.transport import open_port
from kilotune.recordings.simulator import Machine
from kilotune.studies.base_models import base_model
from kilotune.targets import renode
from kilotune.targets.build import build
from kilotune.targets.resd import encode_resd
from kilotune.targets.sensors import SensorChoice
from kilotune.targets.target import parse_target

from tests.device.sensing import FULL_SCALE_G, WINDOWS, noise_model, off_by_g, wait_until

RATE_HZ = 1600.0
# Of the board's own time: 16 windows take 5.4 s, and training on them 3 s, in which nothing is sensed.
HEALTHY_S, FAULT_S = 11.0, 4.0


@pytest.fixture(scope="module")
def ae() -> Image:
    return kilotune.compile(base_model("vibration_ae_1k6"), method="bias+head", alone_windows=WINDOWS)


@pytest.fixture
def life() -> npt.NDArray[np.float32]:
    """A healthy machine, then a fault, in g."""
    machine = Machine.random(3)
    parts = [
        machine.record(HEALTHY_S, RATE_HZ, seed=1),
        machine.record(FAULT_S, RATE_HZ, fault="outer", severity=1.0, seed=2),
    ]
    return np.vstack(parts).astype(np.float32)


@pytest.fixture
def resd(life: npt.NDArray[np.float32], tmp_path: Path) -> Path:
    recording, file = tmp_path / "life.npz", tmp_path / "life.resd"
    np.savez(recording, samples=life, rate_hz=RATE_HZ)
    command = [sys.executable, "-m", "kilotune", "record-to-resd", str(recording), "-o", str(file)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return file


def test_a_board_with_a_sensor_learns_commits_and_detects_alone(
    target: str, ae: Image, life: npt.NDArray[np.float32], resd: Path, state: Path
) -> None:
    parsed = parse_target(target)
    if parsed.kind != "renode" or not renode.script_of(parsed.board, "lis2dw12").is_file():
        pytest.skip(f"{target}: Renode has a sensor on the I2C of the nRF52840 alone")
    state.mkdir()
    with (
        renode.run(parsed.board, state, ae.content, chip="lis2dw12", resd=resd) as (port, _),
        Device(open_port(port, timeout_s=60), image=ae, timeout_s=60) as device,
    ):
        first = device.status().sensor
        assert (first.chip, first.sensor_state, first.alone) == (Chip.lis2dw12, 0, 1)
        committed = wait_until(device, lambda s: s.phase is Phase.detect and s.checkpoint.sequence == 1)
        assert committed.windows_learned == WINDOWS
        healthy = wait_until(device, lambda s: s.uptime_ms > HEALTHY_S * 1000)
        raw = np.frombuffer(device.raw().data, "<i2").reshape(-1, 3)
        faulty = wait_until(device, lambda s: s.uptime_ms > (HEALTHY_S + FAULT_S) * 1000)
        assert device.pull().config.windows_seen == WINDOWS
    assert faulty.sensor.overruns == 0
    # Half a digit of 14 bits for +-8 g would do for a chip that rounds; Renode's rounds towards 0, at 0.976 mg.
    assert ae.features is not None
    assert len(raw) > 50
    assert np.ptp(raw, axis=0).min() > 50
    assert off_by_g(raw, life, ae.features.full_scale_g) < 0.003
    assert healthy.counters.windows - committed.counters.windows >= 4
    assert healthy.sensor.anomalies <= 1
    windows = faulty.counters.windows - healthy.counters.windows
    assert windows >= 8
    assert faulty.sensor.anomalies - healthy.sensor.anomalies >= 0.8 * windows


# The LSM6DSO of Renode is on SPI alone; its chip select is pin 12 of this port in the firmware for SPI.
SPI_SELECT = {"stm32f4_discovery": "gpioPortB", "nucleo_f446re": "gpioPortB", "nrf52840dk": "gpio1"}


def test_a_sensor_on_spi_is_sensed(target: str, state: Path) -> None:
    parsed = parse_target(target)
    if parsed.kind != "renode" or parsed.board not in SPI_SELECT:
        pytest.skip(f"{target}: a sensor of Renode on SPI is tested with {', '.join(SPI_SELECT)}")
    sensor = (
        "mux: SPI.SPIMultiplexer @ spi2; lsm6dso: Sensors.LSM6DSO_IMU @ mux 12; "
        f"{SPI_SELECT[parsed.board]}: {{ 12 -> mux@12 }}"
    )
    rate_hz = 833.0
    image, life = noise_model(rate_hz, seconds=8)
    state.mkdir()
    resd = state / "life.resd"
    resd.write_bytes(encode_resd(life, rate_hz))
    commands = [
        f'machine LoadPlatformDescriptionFromString "{sensor}"',
        "sysbus.spi2.mux SetActiveLow 12",
        'emulation RunFor "0.2"',  # it can be fed once its rate is set
        f"sysbus.spi2.mux.lsm6dso FeedAccelerationSamplesFromRESD @{resd}",
    ]
    firmware = Path(build(parsed.board, sensors=SensorChoice(bus="spi")).firmware)
    with (
        renode.run(parsed.board, state, image.content, firmware=firmware, commands=commands) as (port, _),
        Device(open_port(port, timeout_s=60), image=image, timeout_s=60) as device,
    ):
        assert device.status().sensor.chip is Chip.lsm6dso
        committed = wait_until(device, lambda s: s.phase is Phase.detect and s.checkpoint.sequence == 1)
        sensed = wait_until(device, lambda s: s.counters.windows >= WINDOWS + 4)
        raw = np.frombuffer(device.raw().data, "<i2").reshape(-1, 3)
    assert (committed.windows_learned, sensed.sensor.overruns) == (WINDOWS, 0)
    # Renode gives whichever sample the time has come to, so some come twice: each is one that was recorded.
    measured = raw * FULL_SCALE_G / 32768
    assert len(np.unique(raw, axis=0)) > 20
    off = np.abs(measured[:, None, :] - life[None, :, :]).max(axis=2).min(axis=1)
    assert off.max() < 0.003
