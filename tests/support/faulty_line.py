"""A line that loses, repeats, damages and delays frames, with its own clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


class Clock:
    """A clock that moves only while somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Drawn(random.Random):
    """A generator that returns these numbers."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self._numbers = list(numbers)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return self._numbers.pop(0)


@dataclass(frozen=True)
class Faults:
    """Probabilities per frame, in both directions."""

    drop: float = 0.0
    repeat: float = 0.0
    flip: float = 0.0
    cut: float = 0.0
    delay: float = 0.0
    late_s: float = 0.3  # a delayed frame arrives up to this much later, after others
    noise: float = 0.0  # random bytes before a frame


class FaultyLine:
    """A line between a client and a device; the seed decides every fault."""

    name = "faulty"
    poll_s = 0.0

    def __init__(self, exchange: Callable[[bytes], bytes], clock: Clock, faults: Faults, seed: int) -> None:
        self._exchange = exchange
        self._clock = clock
        self._faults = faults
        self._rng = random.Random(seed)
        self._up: list[tuple[float, int, bytes]] = []
        self._down: list[tuple[float, int, bytes]] = []
        self._count = 0
        self.injected = 0
        self.heard = b""  # everything that ever came down

    def write(self, data: bytes) -> None:
        self._post(self._up, data)
        self._run()

    def read(self, timeout_s: float) -> bytes:
        ends = self._clock.now_s + timeout_s
        self._clock.now_s += 1e-4
        while True:
            self._run()
            if self._down and self._down[0][0] <= self._clock.now_s:
                _, _, data = self._down.pop(0)
                size = self._rng.randint(1, len(data))
                if size < len(data):
                    self._down.insert(0, (0.0, 0, data[size:]))
                self.heard += data[:size]
                return data[:size]
            coming = [queue[0][0] for queue in (self._up, self._down) if queue]
            if self._clock.now_s >= ends or timeout_s <= 0:
                return b""
            self._clock.now_s = min([ends, *coming])

    def reopen(self, timeout_s: float) -> None:
        pass

    def close(self) -> None:
        pass

    def _run(self) -> None:
        """Gives the device what has arrived by now."""
        while self._up and self._up[0][0] <= self._clock.now_s:
            _, _, data = self._up.pop(0)
            self._post(self._down, self._exchange(data))
        if not self._up:
            self._post(self._down, self._exchange(b""))

    def _post(self, queue: list[tuple[float, int, bytes]], data: bytes) -> None:
        pieces = data.split(b"\0")
        for piece in [p + b"\0" for p in pieces[:-1]] + [pieces[-1]]:
            if piece:
                self._post_frame(queue, piece)
        queue.sort(key=lambda entry: entry[:2])

    def _post_frame(self, queue: list[tuple[float, int, bytes]], frame: bytes) -> None:
        rng, faults = self._rng, self._faults
        if len(frame) > 1:
            hit = [rng.random() < p for p in (faults.drop, faults.flip, faults.cut, faults.noise)]
            self.injected += any(hit)
            if hit[0]:
                return
            if hit[1]:
                at = rng.randrange(len(frame))
                frame = frame[:at] + bytes([frame[at] ^ (1 << rng.randrange(8))]) + frame[at + 1 :]
            if hit[2]:
                frame = frame[: rng.randrange(len(frame))]
            if hit[3]:
                frame = rng.randbytes(rng.randrange(1, 30)) + frame
        times = 2 if rng.random() < faults.repeat else 1
        for _ in range(times):
            late = rng.random() * faults.late_s if rng.random() < faults.delay else 0.0
            self.injected += (late > 0) + (times - 1)
            self._count += 1
            if frame:
                queue.append((self._clock.now_s + late, self._count, frame))
