"""An ADXL345 beside the Pico in rp2040js, on either bus: what it measures is sensed, learned, committed and judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.link.messages import Chip, Phase
from kilotune.link.status import statuses
from kilotune.link.transport import open_port
from kilotune.targets import rp2040js
from kilotune.targets.build import build
from kilotune.targets.sensors import SensorChoice

from tests.device.sensing import FULL_SCALE_G, WINDOWS, noise_model, off_by_g, wait_until

RAW_FULL_SCALE_G = 16.0


@pytest.mark.parametrize(
    ("bus", "option", "rate_hz"),
    [("i2c", "adxl345", 800.0), ("spi", "spi,adxl345", 1600.0)],  # the chip has the higher rate on SPI alone
    ids=["i2c", "spi"],
)
def test_a_sensor_is_sensed_on_each_bus(target: str, bus: str, option: str, rate_hz: float, state: Path) -> None:
    if target != "rp2040js:rpi_pico":
        pytest.skip(f"{target}: this sensor is rp2040js's")
    image, life = noise_model(rate_hz, seconds=30)
    state.mkdir()
    recording = state / "sensor.raw"
    recording.write_bytes(np.round(life * (32768 / RAW_FULL_SCALE_G)).astype("<i2").tobytes())
    firmware = Path(build("rpi_pico", sensors=SensorChoice(bus=bus)).firmware)
    options = [f"{option}={recording}"]
    with (
        rp2040js.run("rpi_pico", state, image.content, firmware=firmware, options=options) as (port, _),
        Device(open_port(port, timeout_s=60), image=image, timeout_s=60) as device,
    ):
        assert device.status().sensor.chip is Chip.adxl345
        committed = wait_until(device, lambda s: s.phase is Phase.detect and s.checkpoint.sequence == 1, timeout_s=120)
        sensed = wait_until(device, lambda s: s.counters.windows >= WINDOWS + 4, timeout_s=120)
        raw = np.frombuffer(device.raw().data, "<i2").reshape(-1, 3)
    assert (committed.windows_learned, sensed.sensor.overruns) == (WINDOWS, 0)
    assert len(raw) > 50
    # At 1600 Hz the chip leaves a digit's last bit away: steps of 1/128 g, towards the lower one.
    assert off_by_g(raw, life, FULL_SCALE_G) < 1 / 128 + 1 / 512 + 0.001


RESET_S, WATERMARK_S, RETRY_S = 6.0, 16 / 800, 1.0


def test_a_sensor_that_resets_itself_is_told_and_set_up_anew(target: str, state: Path) -> None:
    if target != "rp2040js:rpi_pico":
        pytest.skip(f"{target}: this sensor is rp2040js's")
    image, life = noise_model(800.0, seconds=60)
    state.mkdir()
    recording = state / "sensor.raw"
    recording.write_bytes(np.round(life * (32768 / RAW_FULL_SCALE_G)).astype("<i2").tobytes())
    options = [f"adxl345={recording}", str(round(RESET_S * 1000))]
    with (
        rp2040js.run("rpi_pico", state, image.content, options=options) as (port, _),
        Device(open_port(port, timeout_s=60), image=image, timeout_s=60) as device,
    ):
        failed = wait_until(device, lambda s: s.sensor.sensor_state != 0, timeout_s=240)
        assert statuses()[failed.sensor.sensor_state].name == "sensor_failed"
        again = wait_until(device, lambda s: s.sensor.sensor_state == 0, timeout_s=240)
        assert again.uptime_ms < (RESET_S + 3 * WATERMARK_S + RETRY_S + 2 * WATERMARK_S) * 1000 + 500
        sensed = wait_until(device, lambda s: s.sensor.samples > again.sensor.samples + 500, timeout_s=240)
    assert sensed.sensor.sensing == 1
