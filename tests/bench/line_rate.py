"""Samples per second over a serial line, compared with its capacity.  python tests/bench/line_rate.py [--seconds N]

The native device receives as a chip does (`--uart`), behind a line that passes 10 bits per byte at the given
rate both ways, out of a buffer no larger than the credit the device gives: more under way is dropped.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import kilotune
import numpy as np
from kilotune.device.device import Device
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.transport import open_port
from kilotune.targets import native

from tests.line.proxy import BITS_A_BYTE, Proxy, serial_line
from tests.support import small_models

BAUDS = (115_200, 230_400, 460_800, 921_600, 1_000_000, 2_000_000)
AXES = (1, 3)
RATE_HZ = 1600.0
WINDOW, HOP, BANDS = 1024, 512, 8


@dataclass(frozen=True)
class Rate:
    baud: int
    axes: int
    samples: int  # a second, of all axes together
    payload: float  # share of what the line carries
    lost: int  # results that did not come back
    dropped: int  # bytes, by the line's buffer
    damaged: int  # frames: what the device's ring dropped was part of one


def image(axes: int) -> Image:
    features = FeatureConfig(rate_hz=RATE_HZ, window=WINDOW, hop=HOP, fft_points=WINDOW, axes=axes, bands=BANDS)
    width = axes * BANDS
    return kilotune.compile(small_models.chain(width, 12, width, seed=1), method="bias", features=features)


@contextmanager
def device(of: Image, baud: int) -> Iterator[tuple[Device, Proxy]]:
    """A device behind a line of `baud`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        native.run(Path(folder), of.content, options=["--uart"]) as (address, _),
        serial_line(int(address.rpartition(":")[2]), baud, buffer_bytes=1024) as line,
        Device(open_port(f"socket://127.0.0.1:{line.port}", timeout_s=20), image=of, timeout_s=20) as opened,
    ):
        line.up.capacity = opened.info().credit
        yield opened, line


def measure(of: Image, baud: int, seconds: float) -> Rate:
    """One stream that keeps the line busy for about `seconds`."""
    axes = of.features.axes if of.features is not None else 0
    capacity = baud / BITS_A_BYTE
    frames = int(seconds * capacity / (2 * axes))
    samples = np.random.default_rng(0).integers(-20000, 20000, (frames, axes)).astype("<i2")
    with device(of, baud) as (opened, line):
        stream = opened.open_stream()
        start = time.monotonic()
        results = stream.push(samples.tobytes())
        results += stream.drain()
        elapsed = time.monotonic() - start
        results += stream.finish()
        expected = (frames - WINDOW) // HOP + 1
        if [r.index for r in results] != list(range(expected)):
            raise SystemExit(f"{baud} baud: {len(results)} results of {expected} windows")
        share = samples.nbytes / (elapsed * capacity)
        link = opened.status().link
        damaged = link.bad_crc + link.bad_cobs + link.too_long
        return Rate(baud, axes, int(frames * axes / elapsed), share, stream.lost, line.up.dropped, damaged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="a measurement")
    options = parser.parse_args()
    print("| baud | axes | samples/s | frames/s | payload share of the line | lost | dropped bytes | damaged frames |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for axes in AXES:
        of = image(axes)
        for baud in BAUDS:
            r = measure(of, baud, options.seconds)
            share = f"{100 * r.payload:.1f} %"
            print(f"| {baud:,} | {axes} | {r.samples:,} | {r.samples // axes:,} | {share} | {r.lost} "
                  f"| {r.dropped} | {r.damaged} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
