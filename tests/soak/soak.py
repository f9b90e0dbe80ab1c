"""A month of a device's life in virtual time: one window per second, one commit per hour.

    python tests/soak/soak.py [--days 30]

The twin (the firmware's own engine and session) with a clock that the test sets, flash in a chip's
sectors, and the host library on the other side. The 32-bit millisecond clock wraps around on the way.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import kilotune
import numpy as np
from kilotune import _native
from kilotune.device.device import Device
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.messages import Phase
from kilotune.link.transport import InProcess

from tests.support import small_models

RATE_HZ = HOP = 40  # one window per second
WINDOW, AXES, BANDS = 64, 3, 8
HOUR_S, DAY_S = 3600, 86400
LEARNED = 96  # windows, once a day
DRIFT_KIB = 2048  # of this process, host library and device together; less than a byte per window
ENDURANCE = 10_000  # erases of a sector that STM32F4, nRF52840 and nRF51822 promise
GEOMETRIES = {"nrf52840": (4096, 32), "stm32f4": (16384, 3)}  # bytes of a sector, sectors


@dataclass
class Life:
    """Results of a run; `wrong` lists what must not happen."""

    seconds: int = 0
    windows: int = 0
    commits: int = 0
    learned: int = 0
    rollbacks: int = 0
    resets: int = 0
    clock_wraps: int = 0
    requests: int = 0
    erased: Counter[int] = field(default_factory=Counter)  # by sector
    erases: int = 0  # as the device counts them
    resident_kib: list[int] = field(default_factory=list)  # of this process, each day
    wrong: list[str] = field(default_factory=list)

    def require(self, good: bool, what: str) -> None:
        if not good:
            self.wrong.append(f"at {self.seconds} s: {what}")


def image() -> Image:
    features = FeatureConfig(rate_hz=float(RATE_HZ), window=WINDOW, hop=HOP, fft_points=64, axes=AXES, bands=BANDS)
    width = AXES * BANDS
    return kilotune.compile(small_models.chain(width, 12, width, seed=3), method="bias+head", features=features)


def resident_kib() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class Soak:
    def __init__(self, *, days: float, geometry: str, seed: int = 1) -> None:
        sector_bytes, sectors = GEOMETRIES[geometry]
        self._sector_bytes = sector_bytes
        self._flash = bytearray(b"\xff" * sector_bytes * sectors)
        self._before = bytes(self._flash)
        self._of = image()
        self._core = _native.Session(self._of.content, self._flash, sector_bytes)
        self._days = days
        self._start_ms = 2**32 - int(days * DAY_S * 1000) // 2  # wraps half-way
        self._sequence = 0  # of the newest checkpoint
        self._requests_before = 0  # the last reset
        self._rng = np.random.default_rng(seed)
        self._hop = self._rng.integers(-9000, 9000, (997, HOP, AXES)).astype("<i2")
        self.life = Life()

    def _tick(self, seconds: int) -> None:
        before = self._now_ms
        self.life.seconds += seconds
        self.life.clock_wraps += self._now_ms < before
        self._core.set_clock(self._now_ms)

    @property
    def _now_ms(self) -> int:
        return (self._start_ms + 1000 * self.life.seconds) % 2**32

    def run(self) -> Life:
        self._core.set_clock(self._now_ms)
        end_s = int(self._days * DAY_S)
        with Device(InProcess(self._core), image=self._of) as device:
            while self.life.seconds < end_s:
                self._learn(device)
                self._detect(device, min(DAY_S, end_s - self.life.seconds))
                self._every_week(device)
                self.life.resident_kib.append(resident_kib())
            self.life.erases = device.status().checkpoint.erases
        grown = self.life.resident_kib[-1] - self.life.resident_kib[0]
        self.life.require(grown < DRIFT_KIB, f"memory grew by {grown} KiB")
        return self.life

    def _learn(self, device: Device) -> None:
        life = self.life
        samples = self._rng.integers(-9000, 9000, (WINDOW + (LEARNED - 1) * HOP, AXES)).astype(np.int16)
        report = device.learn(samples, passes=2, resume=life.learned > 0)
        life.learned += 1
        life.require(report.learned > 0, "nothing was learned")
        self._tick(LEARNED)
        self._commit(device)

    def _detect(self, device: Device, seconds: int) -> None:
        """One stream, one hop per second; every window's result comes back in turn."""
        life, stream, next_index = self.life, device.open_stream(), 0
        stream.push(np.zeros((WINDOW - HOP, AXES), "<i2").tobytes())
        for second in range(seconds):
            results = stream.push(self._hop[second % 997].tobytes())
            self._tick(1)
            if second % HOUR_S == HOUR_S - 1:
                results += stream.drain()
                self._commit(device)
            indices = [r.index for r in results]
            if indices != list(range(next_index, next_index + len(indices))):
                life.require(False, f"results {indices} where {next_index} was next")
            next_index += len(indices)
        next_index += len(stream.finish())
        life.windows += next_index
        life.require(next_index == seconds and stream.lost == 0, f"{next_index} results of {seconds} windows")

    def _commit(self, device: Device) -> None:
        life = self.life
        kept = device.commit()
        life.commits += 1
        self._expect(kept.sequence)
        status = device.status()
        life.require(status.uptime_ms == self._now_ms, f"the device's clock says {status.uptime_ms}")
        life.require(status.phase is Phase.detect, f"phase {status.phase.name}")
        life.requests = self._requests_before + status.link.frames

    def _expect(self, sequence: int) -> None:
        """One more record, in sectors whose erases are counted."""
        self.life.require(sequence == self._sequence + 1, f"checkpoint {sequence} after {self._sequence}")
        self._sequence = sequence
        step = self._sector_bytes
        for sector, at in enumerate(range(0, len(self._flash), step)):
            self.life.erased[sector] += _was_erased(self._before[at : at + step], self._flash[at : at + step])
        self._before = bytes(self._flash)

    def _every_week(self, device: Device) -> None:
        """A reset, after which the adapter is as it was committed; a rollback, and the same again."""
        day = round(self.life.seconds / DAY_S)
        if day == 0 or day % 7:
            return
        self._requests_before += device.status().link.frames
        kept = device.pull_bytes()
        device.reset()
        self.life.resets += 1
        self.life.require(device.pull_bytes() == kept, "a reset changed the adapter")
        self._expect(device.rollback().sequence)
        self.life.rollbacks += 1


def _was_erased(before: bytes, after: bytearray) -> bool:
    """Only an erase sets bits; a blank sector is erased before its first use."""
    if before == after:
        return False
    was, now = int.from_bytes(before, "little"), int.from_bytes(after, "little")
    return now & ~was != 0 or before.count(0xFF) == len(before)


def soak(*, days: float, geometry: str) -> Life:
    return Soak(days=days, geometry=geometry).run()


def wear(life: Life) -> tuple[int, float]:
    """(most erases of one sector, years until one has the endurance of the chip at this pace)"""
    most = max(life.erased.values())
    return most, ENDURANCE / most * life.seconds / (365.25 * DAY_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=float, default=30)
    parser.add_argument("--geometry", choices=GEOMETRIES, action="append")
    options = parser.parse_args()
    print("| flash of | days | windows | commits | learn phases | resets, rollbacks | requests | clock wraps "
          "| erases of a sector | endurance reached in | memory, day 1 and end | wrong |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    bad = 0
    for geometry in options.geometry or GEOMETRIES:
        begin = time.monotonic()
        life = soak(days=options.days, geometry=geometry)
        most, years = wear(life)
        memory = f"{life.resident_kib[0]:,} KiB, {life.resident_kib[-1]:,} KiB"
        print(f"| {geometry} | {life.seconds / DAY_S:.1f} | {life.windows:,} | {life.commits:,} | {life.learned} "
              f"| {life.resets}, {life.rollbacks} | {life.requests:,} | {life.clock_wraps} | {most:,} "
              f"| {years:.0f} years | {memory} | {len(life.wrong)} |", flush=True)  # fmt: skip
        for what in life.wrong[:20]:
            print(f"WRONG: {what}")
        print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)
        bad += len(life.wrong)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
