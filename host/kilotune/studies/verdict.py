"""What a stream of results comes to, in words: is it the machine that was learned, and how sure is that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.report.intervals import wilson
from kilotune.studies.alarms import longest_run, sustained

if TYPE_CHECKING:
    from kilotune.studies.windows import Window

# The device sets its threshold where about 1 % of healthy windows lie above; twice that is still no sign of anything.
USUAL, MOST = 0.01, 0.02
MOSTLY = 0.5  # of the windows


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one recording."""

    source: str
    state: str  # healthy, doubtful, anomalous; untaught, dead, unscored: these say nothing about the machine
    windows: int
    dead: int  # of a sensor that measured nothing
    anomalous: int  # of the others
    sustained: bool  # 3 of 5 consecutive windows
    text: str


def verdict(source: str, windows: Sequence[Window], *, taught: bool) -> Verdict:
    """`taught`: whether the device has learned this machine."""
    scored = [w for w in windows if w.score is not None and not w.dead]
    above = [w.anomaly for w in scored]
    dead = sum(w.dead for w in windows)
    on = sustained(above)
    state, text = _words(scored, above, on, dead, len(windows), taught)
    return Verdict(source, state, len(windows), dead, sum(above), any(on), f"{source}: {text}")


def _words(
    scored: Sequence[Window], above: Sequence[bool], on: Sequence[bool], dead: int, windows: int, taught: bool
) -> tuple[str, str]:
    if windows and dead > MOSTLY * windows:
        return "dead", (
            f"the sensor is dead: in {dead} of {windows} windows an axis does not change, or samples repeat. That says "
            "nothing about the machine; check sensor, cable and columns"
        )
    if not scored:
        return "unscored", "no window was scored: it is shorter than one window, or the device could not score it"
    if not taught:
        return "untaught", (
            "the device has learned nothing about this machine, so it cannot say whether it is healthy. Learn from "
            "healthy recordings first: --learn"
        )
    lost = f" ({dead} more windows are of a dead sensor)" if dead else ""
    return _judged(scored, above, on, lost)


def _judged(scored: Sequence[Window], above: Sequence[bool], on: Sequence[bool], lost: str) -> tuple[str, str]:
    share = sum(above) / len(above)
    counted = f"{sum(above)} of {len(above)} windows ({100 * share:.1f} %) anomalous{lost}"
    surely = wilson(share, len(above))[0] > MOST
    if any(on) and (surely or share > MOSTLY):
        since = scored[list(on).index(True)].t_s
        lasting = f"for {100 * sum(on) / len(on):.0f} % of the time" if share <= MOSTLY else "and it stays"
        return "anomalous", (
            f"not as the machine was when it was learned: {counted}, sustained from {since:.1f} s on, {lasting}. "
            "A fault, or a speed, load or mounting that was not learned"
        )
    if surely or any(on):
        run = longest_run(above)
        return "doubtful", (
            f"in doubt: {counted}, more than the 1 in 100 of a healthy machine, "
            f"{'in short spells' if any(on) else 'but never sustained'} (at most {run} in a row). Something may have "
            "changed; if this is a fault, it is below what this model tells with certainty. Learn from more healthy "
            "windows, or compare methods with `kilotune evaluate`"
        )
    return "healthy", (
        f"as the machine was when it was learned: {counted}, none sustained; about 1 in 100 is usual. A fault that is "
        "below what this model sees would look the same"
    )
