"""A commit in the middle of a stream at the sensor's rate, on flash that takes the time of a chip's data sheet.

    python tests/line/slow_flash.py

The native device (`--flash-chip`) behind a serial line: its main loop stands still while flash is erased and
programmed, its receive ring goes on filling (not on the nrf51822, whose interrupts are in flash).
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import kilotune
import numpy as np
from kilotune.device.device import Device
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.messages import Kind
from kilotune.link.transport import open_port
from kilotune.targets import native

from tests.line.proxy import serial_line
from tests.support import small_models

CHIPS = ("stm32f4-16k", "stm32f4-64k", "stm32f4-128k", "nrf52840", "nrf51822", "rp2040")
RATE_HZ, AXES, WINDOW, HOP, BANDS = 1600.0, 3, 256, 160, 8
BAUD = 230_400
TURN_S = 0.01  # of the loop that a live sensor feeds


@dataclass(frozen=True)
class Outcome:
    chip: str
    adapter_bytes: int
    commit_s: float  # from the request to the answer
    commits: int
    windows: int
    lost: int  # samples' windows that never came
    damaged: int  # frames that the device got torn, and asked for again
    behind_s: float  # the longest that the stream took no samples


def image() -> Image:
    features = FeatureConfig(rate_hz=RATE_HZ, window=WINDOW, hop=HOP, fft_points=WINDOW, axes=AXES, bands=BANDS)
    width = AXES * BANDS
    return kilotune.compile(small_models.chain(width, 12, width, seed=1), method="bias+head", features=features)


class Sensor:
    """Samples at their rate in real time; keeps none back and drops none."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(2)
        self._start = time.monotonic()
        self.frames = 0

    def read(self) -> bytes:
        due = int((time.monotonic() - self._start) * RATE_HZ)
        n, self.frames = due - self.frames, due
        return self._rng.integers(-9000, 9000, (n, AXES)).astype("<i2").tobytes()


def run(chip: str, *, seconds: float, commits: int = 1) -> Outcome:
    of = image()
    with (
        tempfile.TemporaryDirectory() as folder,
        native.run(Path(folder), of.content, options=["--flash-chip", chip]) as (address, _),
        serial_line(int(address.rpartition(":")[2]), BAUD, buffer_bytes=8192) as line,
        Device(open_port(f"socket://127.0.0.1:{line.port}", timeout_s=20), image=of, timeout_s=20) as device,
    ):
        begin = time.monotonic()
        device.commit()  # alone: its time
        commit_s = time.monotonic() - begin
        stream, sensor = device.open_stream(), Sensor()
        due = [seconds * (i + 1) / (commits + 1) for i in range(commits)]
        behind_s, results, begin = 0.0, [], time.monotonic()
        while time.monotonic() - begin < seconds:
            turn = time.monotonic()
            results += stream.push(sensor.read())
            behind_s = max(behind_s, time.monotonic() - turn)
            if due and time.monotonic() - begin >= due[0]:
                due.pop(0)
                _commit_amid(device)
            time.sleep(TURN_S)
        results += stream.finish()
        status = device.status()
        expected = (sensor.frames - WINDOW) // HOP + 1
        lost = len(set(range(expected)) - {r.index for r in results})
        link = status.link
        return Outcome(chip, device.info().adapter_bytes, commit_s, status.checkpoint.sequence - 1, len(results),
                       lost, link.bad_crc + link.bad_cobs + link.too_long, behind_s)  # fmt: skip


def _commit_amid(device: Device) -> None:
    """The request leaves between two pieces, and samples go on behind it while flash is written."""
    _, frame = device.client.frame(Kind.commit, b"")
    device.client.transport.write(frame)


def main() -> None:
    print("| flash of | adapter bytes | first commit | commits during the stream | windows | lost "
          "| torn frames, sent again | longest stall of the stream |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for chip in CHIPS:
        o = run(chip, seconds=20, commits=3)
        print(f"| {o.chip} | {o.adapter_bytes:,} | {o.commit_s * 1000:,.0f} ms | {o.commits} | {o.windows:,} "
              f"| {o.lost} | {o.damaged} | {o.behind_s * 1000:,.0f} ms |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
