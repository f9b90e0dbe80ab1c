"""From windows above a threshold to alarms: the persistence rule, and how often alarms occur."""

from __future__ import annotations

from collections.abc import Sequence

# An alarm is sustained while this many of this many consecutive windows are above the threshold: a single event, such
# as a knock on the housing, raises none.
SUSTAINED, OF_WINDOWS = 3, 5


def sustained(above: Sequence[bool]) -> list[bool]:
    """(windows,) whether the alarm is sustained after that window."""
    return [sum(above[max(0, k + 1 - OF_WINDOWS) : k + 1]) >= SUSTAINED for k in range(len(above))]


def episodes(above: Sequence[bool]) -> int:
    """How often a sustained alarm begins."""
    on = sustained(above)
    return sum(now and not before for now, before in zip(on, [False, *on], strict=False))


def longest_run(above: Sequence[bool]) -> int:
    """The largest number of consecutive windows above the threshold."""
    most = run = 0
    for window in above:
        run = run + 1 if window else 0
        most = max(most, run)
    return most


def windows_per_hour(rate_hz: float, hop: int) -> float:
    """At the device's own pace."""
    return 3600 * rate_hz / hop
