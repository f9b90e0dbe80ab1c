"""The twin behind a serial line in virtual time: what the protocol makes of a line, whatever else runs here."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.faulty_line import Clock

BITS_A_BYTE = 10


@dataclass
class _Wire:
    """One direction: pieces with the time when their last byte has passed."""

    byte_s: float
    free_at: float = 0.0
    busy_s: float = 0.0
    under_way: deque[tuple[float, bytes]] = field(default_factory=deque)

    def put(self, data: bytes, now: float) -> None:
        start = max(now, self.free_at)
        self.free_at = start + len(data) * self.byte_s
        self.busy_s += len(data) * self.byte_s
        self.under_way.append((self.free_at, data))


class VirtualLine:
    """A transport. `host_delay_s`: of each turn of the host's port; the device computes in no time."""

    name = "virtual"
    poll_s = 0.0

    def __init__(self, exchange: Callable[[bytes], bytes], clock: Clock, *, baud: float, host_delay_s: float) -> None:
        self._exchange = exchange
        self._clock = clock
        self._delay_s = host_delay_s
        self.up, self.down = _Wire(BITS_A_BYTE / baud), _Wire(BITS_A_BYTE / baud)

    def write(self, data: bytes) -> None:
        for frame in data.split(b"\0")[:-1]:
            self.up.put(frame + b"\0", self._clock.now_s)

    def read(self, timeout_s: float) -> bytes:
        ends = self._clock.now_s + timeout_s
        while True:
            up = self.up.under_way[0][0] if self.up.under_way else math.inf
            down = self.down.under_way[0][0] + self._delay_s if self.down.under_way else math.inf
            at = min(up, down)
            if at > ends:
                self._clock.now_s = ends
                return b""
            self._clock.now_s = max(self._clock.now_s, at)
            if up <= down:
                _, data = self.up.under_way.popleft()
                answer = self._exchange(data)
                if answer:
                    self.down.put(answer, at)
            else:
                return self.down.under_way.popleft()[1]

    def reopen(self, timeout_s: float) -> None:
        pass

    def close(self) -> None:
        pass
