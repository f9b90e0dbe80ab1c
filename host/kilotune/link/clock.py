"""The clock that measures and spends waits: the computer's own, or one that a test controls."""

from __future__ import annotations

import time
from typing import Final, Protocol


class Clock(Protocol):
    def __call__(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None: ...


class _SystemClock:
    def __call__(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK: Final[Clock] = _SystemClock()
