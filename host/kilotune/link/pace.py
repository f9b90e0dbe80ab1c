"""Work of many messages must get on: if only each message had to be in time, it could last for ever."""

from __future__ import annotations

from dataclasses import dataclass, field

from kilotune.errors import KilotuneError
from kilotune.link.clock import Clock

LEAST_BYTES_PER_S = 64.0  # of transfers and streams; a line of 9,600 baud passes 960


@dataclass(frozen=True, slots=True)
class Pace:
    """From now on, `what` must advance by `least_per_s` on average; twice the timeout is free."""

    clock: Clock
    timeout_s: float
    what: str
    least_per_s: float = LEAST_BYTES_PER_S
    unit: str = "bytes"
    _begun_s: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_begun_s", self.clock())

    def require(self, done: float, now_s: float | None = None) -> None:
        """Raises KilotuneError `timeout` if `done` is too little by now."""
        elapsed_s = (self.clock() if now_s is None else now_s) - self._begun_s
        if elapsed_s > 2 * self.timeout_s + done / self.least_per_s:
            raise KilotuneError(
                "timeout",
                f"{self.what} advances too slowly: {done:,.0f} {self.unit} in {elapsed_s:.0f} s",
                "check the cable and that no other program uses the device; use a longer --timeout for slow devices",
            )
