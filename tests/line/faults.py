"""Faults on a serial line, frame by frame, and ends of hosts and devices at any moment.

    python tests/line/faults.py [--commits 1000] [--windows 100000] [--swaps 200] [--hosts 500]
        [--resets 500]

A native device and the host library, with a proxy between them that loses, repeats, flips, cuts, delays and
swaps frames both ways, one in a hundred of each, and now and then a burst of them.
"""

from __future__ import annotations

import argparse
import functools
import random
import struct
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import kilotune
import numpy as np
from kilotune.adapters.adapter import Adapter
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.transport import open_port
from kilotune.targets import native
from kilotune.targets.twin import Twin

from tests.line.proxy import Direction, between
from tests.support import small_models

SHARE = 0.01  # of the frames, for each kind of fault
LATE_S = 0.3
SWAP_S = 0.01  # long enough for the next frame to overtake
BURST_S = (0.02, 0.3)
TIMEOUT_S = 10.0
WINDOW, HOP, AXES, BANDS = 64, 40, 3, 8
WINDOWS_A_STREAM = 5000


class Faults:
    """One direction of the line; faults are drawn from the seed and counted."""

    def __init__(self, seed: int, share: float = SHARE) -> None:
        self._rng = random.Random(seed)
        self._share = share
        self._begun = b""  # a frame that is still arriving
        self._burst_ends = 0.0
        self.frames = 0
        self.injected: Counter[str] = Counter()

    def __call__(self, data: bytes) -> list[tuple[float, bytes]]:
        *frames, self._begun = (self._begun + data).split(b"\0")
        return [piece for frame in frames for piece in self._pass(frame + b"\0")]

    def _pass(self, frame: bytes) -> list[tuple[float, bytes]]:
        rng = self._rng
        self.frames += 1
        if rng.random() < self._share / 10:
            self._burst_ends = time.monotonic() + rng.uniform(*BURST_S)
            self.injected["burst"] += 1
        if time.monotonic() < self._burst_ends:
            return self._damage(rng.choice(("drop", "flip", "cut")), frame)
        for kind in ("drop", "repeat", "flip", "cut", "delay", "swap"):
            if rng.random() < self._share:
                self.injected[kind] += 1
                return self._damage(kind, frame)
        return [(0.0, frame)]

    def _damage(self, kind: str, frame: bytes) -> list[tuple[float, bytes]]:
        rng = self._rng
        if kind == "drop":
            return []
        if kind == "repeat":
            return [(0.0, frame), (0.0, frame)]
        if kind == "flip":
            at = rng.randrange(len(frame))
            return [(0.0, frame[:at] + bytes([frame[at] ^ 1 << rng.randrange(8)]) + frame[at + 1 :])]
        if kind == "cut":
            return [(0.0, frame[: rng.randrange(len(frame))])]
        return [(rng.random() * LATE_S if kind == "delay" else SWAP_S, frame)]


@dataclass
class Outcome:
    """What one campaign came to; `wrong` lists what must not happen."""

    done: Counter[str] = field(default_factory=Counter)
    injected: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_s: float = 0.0

    def require(self, good: bool, what: str) -> None:
        if not good:
            self.wrong.append(what)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """One command: counted, and within its time."""
        begin = time.monotonic()
        yield
        self.slowest_s = max(self.slowest_s, time.monotonic() - begin)
        self.done[what] += 1


@functools.cache
def image(seed: int = 3) -> Image:
    features = FeatureConfig(rate_hz=1600.0, window=WINDOW, hop=HOP, fft_points=64, axes=AXES, bands=BANDS)
    width = AXES * BANDS
    return kilotune.compile(small_models.chain(width, 12, width, seed=seed), method="bias+head", features=features)


@contextmanager
def behind_faults(of: Image, seed: int) -> Iterator[tuple[Device, tuple[Faults, Faults]]]:
    up, down = Faults(seed), Faults(seed + 1)
    unpaced = float("inf")
    with (
        tempfile.TemporaryDirectory() as folder,
        native.run(Path(folder), of.content, options=["--uart"]) as (address, _),
        between(int(address.rpartition(":")[2]), Direction(unpaced, 1 << 20, up), Direction(unpaced, 1 << 20, down))
        as line,
        Device(open_port(f"socket://127.0.0.1:{line.port}", timeout_s=TIMEOUT_S), image=of, timeout_s=TIMEOUT_S)
        as device,
    ):  # fmt: skip
        yield device, (up, down)


@functools.cache
def untouched() -> bytes:
    """The adapter of a device that has learned nothing."""
    with Twin(image()) as twin:
        return twin.pull_bytes()


def nth_adapter(of: Image, n: int) -> Adapter:
    """Another one for every n: a bias says which."""
    blob = bytearray(untouched())
    struct.pack_into("<i", blob, of.calibration_bytes, n + 1)
    return Adapter.from_blob(of, bytes(blob))


def carry(cycles: int, *, seed: int) -> Outcome:
    """Push, pull, train, commit and pull again; a reset now and then. Every byte and sequence is checked."""
    of, out = image(), Outcome()
    x = np.random.default_rng(seed).integers(-128, 128, (1, of.input_bytes)).astype(np.int8)
    with behind_faults(of, seed) as (device, channels):
        sequence = device.status().checkpoint.sequence
        for n in range(cycles):
            sent = nth_adapter(of, n)
            with out.timed("push"):
                device.push(sent)
            sequence += 1
            with out.timed("pull"):
                out.require(device.pull_bytes() == sent.blob, f"push {n} is not what came back")
            with out.timed("training"):
                device.train(x, steps=1, lr=0.5, seed=n)
            with out.timed("pull"):
                trained = device.pull_bytes()
            with out.timed("commit"):
                kept = device.commit()
            sequence += 1
            out.require(kept.crc == zlib.crc32(trained), f"commit {n} has another adapter")
            out.require(kept.sequence == sequence, f"commit {n} is number {kept.sequence}, not {sequence}")
            if n % 20 == 19:
                with out.timed("reset"):
                    device.reset()
                out.require(device.pull_bytes() == trained, f"commit {n} was lost")
        for channel in channels:
            out.injected += channel.injected
    return out


def stream(windows: int, *, seed: int) -> Outcome:
    """Every window's result is the twin's, in order; none is missing."""
    of, out = image(), Outcome()
    rng = np.random.default_rng(seed)
    with behind_faults(of, seed) as (device, channels), Twin(of) as twin:
        left = windows
        while left > 0:
            n = min(left, WINDOWS_A_STREAM)
            left -= n
            samples = rng.integers(-9000, 9000, (WINDOW + (n - 1) * HOP, AXES)).astype(np.int16)
            with out.timed("stream"):
                got = device.score(samples)
            expected = twin.score(samples)
            out.require(got.lost == 0, f"{got.lost} results lost")
            out.require(got.results == expected.results, "results differ from the twin's")
            out.done["windows"] += len(got)
        for channel in channels:
            out.injected += channel.injected
    return out


def swaps(count: int, *, seed: int) -> Outcome:
    """Models that take each other's place, every fourth one left again: what runs is what was sent, whole."""
    images, out = (image(), image(4)), Outcome()
    x = np.random.default_rng(seed).integers(-128, 128, (2, image().input_bytes)).astype(np.int8)
    expected = []
    for each in images:
        with Twin(each) as twin:
            expected.append(twin.infer(x).tobytes())
    with behind_faults(images[0], seed) as (device, channels):
        runs = 0
        for n in range(count):
            with out.timed("swap"):
                device.replace_model(images[1 - runs])
            runs = 1 - runs
            out.require(device.infer(x).tobytes() == expected[runs], f"swap {n} runs another model")
            if n % 4 == 3:
                with out.timed("rollback"):
                    device.rollback_model()
                runs = 1 - runs
                out.require(device.infer(x).tobytes() == expected[runs], f"rollback {n} runs another model")
        for channel in channels:
            out.injected += channel.injected
    return out


class HostKilledError(Exception):
    """The host's process is gone: nothing more leaves it."""


class DyingPort:
    """A host's port up to some byte, either way."""

    def __init__(self, port: str, most_bytes: int) -> None:
        self._port = open_port(port, timeout_s=TIMEOUT_S)
        self.name, self.poll_s = self._port.name, self._port.poll_s
        self._left = most_bytes

    def write(self, data: bytes) -> None:
        self._port.write(data[: self._left])
        self._spend(len(data))

    def read(self, timeout_s: float) -> bytes:
        data = self._port.read(timeout_s)
        self._spend(len(data))
        return data

    def _spend(self, n: int) -> None:
        self._left -= n
        if self._left < 0:
            self._left = 0
            raise HostKilledError

    def reopen(self, timeout_s: float) -> None:
        self._port.reopen(timeout_s)

    def close(self) -> None:
        self._port.close()


def _commands(of: Image, seed: int) -> dict[str, Callable[[Device], object]]:
    rng = np.random.default_rng(seed)
    samples = rng.integers(-9000, 9000, (WINDOW + 29 * HOP, AXES)).astype(np.int16)
    x = rng.integers(-128, 128, (2, of.input_bytes)).astype(np.int8)
    return {
        "commit": lambda d: d.commit(),
        "push": lambda d: d.push(nth_adapter(of, seed)),
        "pull": lambda d: d.pull(),
        "rollback": lambda d: d.rollback(),
        "training": lambda d: d.train(x, steps=4, lr=0.1),
        "learning": lambda d: d.learn(samples, passes=2, seed=seed),
        "scoring": lambda d: d.score(samples),
        "inference": lambda d: d.infer(x),
        "reset": lambda d: d.reset(),
    }


@dataclass(frozen=True)
class _Attempt:
    """One command on a device whose flash holds the adapter 2 n; a push brings 2 n + 1."""

    name: str
    run: Callable[[Device], object]
    before: bytes
    pushed: bytes

    @classmethod
    def draw(cls, of: Image, n: int, rng: random.Random) -> _Attempt:
        name, command = rng.choice(list(_commands(of, 2 * n + 1).items()))
        return cls(name, command, nth_adapter(of, 2 * n).blob, nth_adapter(of, 2 * n + 1).blob)

    def check(self, device: Device, ended: bool, older: set[bytes], out: Outcome) -> None:
        """What flash holds is what the command was to make of it, or what it held before; nothing else."""
        with out.timed("recovery"):
            device.restore()
            found = device.pull_bytes()
        allowed = {self.before}
        if self.name == "push":
            allowed = {self.pushed} if ended else {self.before, self.pushed}
        elif self.name == "rollback":
            allowed = older if ended else older | {self.before}
        out.require(found in allowed, f"{self.name}, {'ended' if ended else 'broken off'}: another adapter in flash")


@contextmanager
def _connected(port: str, of: Image) -> Iterator[Device]:
    with Device(open_port(port, timeout_s=TIMEOUT_S), image=of, timeout_s=TIMEOUT_S) as device:
        yield device


def hosts(count: int, *, seed: int) -> Outcome:
    """The host ends after some byte of a command, sent or received; the next host finds a sound device."""
    of, out, rng = image(), Outcome(), random.Random(seed)
    older = {untouched()}
    with tempfile.TemporaryDirectory() as folder, native.run(Path(folder), of.content) as (address, _):
        for n in range(count):
            attempt = _Attempt.draw(of, n, rng)
            with _connected(address, of) as device:
                device.push(nth_adapter(of, 2 * n))
            port = DyingPort(address, 250 + rng.randrange(1 << rng.randrange(5, 14)))
            ended = False
            try:
                with Device(port, image=of, timeout_s=TIMEOUT_S) as device:
                    ended = _try(attempt, device, out)
            except HostKilledError:
                out.done[f"{attempt.name} killed"] += 1
            with _connected(address, of) as device:
                attempt.check(device, ended, older, out)
            older |= {attempt.before, attempt.pushed}
    return out


def resets(count: int, *, seed: int) -> Outcome:
    """The device restarts in the middle of a command, or loses its power; flash takes an nRF52840's time."""
    of, out, rng = image(), Outcome(), random.Random(seed)
    older, n = {untouched()}, 0
    cut: tuple[_Attempt, bool] | None = None  # the command that a power cut broke off, and whether it had ended
    with tempfile.TemporaryDirectory() as folder:
        while n < count or cut is not None:
            with native.run(Path(folder), of.content, options=["--flash-chip", "nrf52840"]) as (address, process):
                if cut is not None:
                    _settle(address, of, *cut, older, out)
                    cut = None
                while cut is None and n < count:
                    attempt, powered = _Attempt.draw(of, n, rng), rng.random() > 0.2
                    with _connected(address, of) as device:
                        device.push(nth_adapter(of, 2 * n))
                        after_s = 10 ** rng.uniform(-4, -0.8)
                        end = threading.Timer(after_s, process.press_reset if powered else process.kill)
                        end.start()
                        ended = _try(attempt, device, out)
                        end.join()
                    n += 1
                    out.done["resets" if powered else "power cuts"] += 1
                    if powered:
                        _settle(address, of, attempt, ended, older, out)
                    else:
                        cut = attempt, ended
    return out


def _try(attempt: _Attempt, device: Device, out: Outcome) -> bool:
    """Whether the command ended well; in any case within its time."""
    begin, ended = time.monotonic(), True
    try:
        attempt.run(device)
    except KilotuneError as error:
        out.require(error.code != "timeout", f"{attempt.name}: {error}")
        ended = False
    out.slowest_s = max(out.slowest_s, time.monotonic() - begin)
    out.done[f"{attempt.name} {'ended' if ended else 'broken off'}"] += 1
    return ended


def _settle(port: str, of: Image, attempt: _Attempt, ended: bool, older: set[bytes], out: Outcome) -> None:
    with _connected(port, of) as device:
        attempt.check(device, ended, older, out)
    older |= {attempt.before, attempt.pushed}


def report(title: str, out: Outcome) -> None:
    done = ", ".join(f"{n:,} {what}" for what, n in sorted(out.done.items()))
    injected = ", ".join(f"{n:,} {what}" for what, n in sorted(out.injected.items()))
    print(f"{title}: {done}")
    print(f"  faults: {injected or 'the ends themselves'}")
    print(f"  slowest command {out.slowest_s:.1f} s, wrong {len(out.wrong)}", flush=True)
    for what in out.wrong[:20]:
        print(f"  WRONG: {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--hosts", type=int, default=500)
    parser.add_argument("--resets", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcomes = []
    for title, campaign, count in (
        ("commits", carry, options.commits), ("streams", stream, options.windows), ("models", swaps, options.swaps),
        ("hosts killed", hosts, options.hosts), ("devices reset", resets, options.resets),
    ):  # fmt: skip
        outcomes.append(campaign(count, seed=options.seed))
        report(title, outcomes[-1])
    raise SystemExit(1 if any(o.wrong for o in outcomes) else 0)


if __name__ == "__main__":
    main()
