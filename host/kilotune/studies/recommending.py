"""Which of several scoring methods to use: the simplest that is as good as the best, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kilotune.report.intervals import Intervals
    from kilotune.report.metrics import Separation

AUC_TIE = 0.005  # rows this close in AUC count as equal: false alarms decide
RATE_TIE = 0.01  # rates this close count as equal: detection decides, then cost
# Few windows leave wide intervals, and few files wider ones. Beyond these the figures themselves say which is better,
# although chance cannot be excluded: a row that finds half of what another finds is not as good.
AUC_MATTERS, GAIN_MATTERS = 0.05, 0.1
OWN_CHOICE = "the device's own choice"  # never recommended, as it is one of the other rows


@dataclass(frozen=True, slots=True)
class FileRow:
    """The result of one scoring method for one file."""

    name: str
    truth: str  # "healthy" or "fault"
    windows: int
    anomalous: int
    sustained: bool  # the alarm: 3 of 5 consecutive windows


@dataclass(frozen=True, slots=True)
class Row:
    """One scoring method."""

    name: str
    where: str  # "device" or "host" (a plain baseline)
    separation: Separation
    ram_bytes: int | None = None  # model, adapter, training and reservoir on the device; None for a host baseline
    image_bytes: int | None = None
    detail: str = ""  # what the device reported
    threshold: float | None = None
    intervals: Intervals | None = None
    alarms_per_hour: float | None = None  # healthy windows above the threshold, at the device's pace
    sustained_per_hour: float | None = None  # false alarms that persist
    files: tuple[FileRow, ...] = ()
    cost_bytes: int | None = None  # what it keeps; None: RAM and image

    @property
    def cost(self) -> int:
        return (self.ram_bytes or 0) + (self.image_bytes or 0) if self.cost_bytes is None else self.cost_bytes


def recommend(rows: Sequence[Row]) -> tuple[str, str]:
    """(name, why): the simplest row with figures within the intervals of the best one."""
    choices = [r for r in rows if r.name != OWN_CHOICE] or list(rows)
    top = best(choices)
    chosen = plainest(choices, top)
    parts = [f"AUC {chosen.separation.auc:.3f}, {rates(chosen)}"]
    if chosen is not top:
        parts.append(
            f"{top.name} costs more and is no better by more than chance: {top.separation.auc:.3f}, {rates(top)}"
        )
    nothing = next((r for r in choices if r.name == "nothing"), None)
    if nothing is not None and chosen is not nothing:
        parts.append(f"the model without learning {nothing.separation.auc:.3f}, {rates(nothing)}")
    parts += _against_baselines(choices)
    if top.separation.auc < 0.7:
        parts.append("none separates well: is the fault within the measured band, and near the sensor?")
    return chosen.name, "; ".join(parts)


def on_device(rows: Sequence[Row]) -> str:
    """The same among the methods that a device supports; empty if there are none."""
    own = [r for r in rows if r.where == "device" and r.name != OWN_CHOICE]
    return plainest(own, best(own)).name if own else ""


def best(rows: Sequence[Row]) -> Row:
    """The best by AUC; among equals by false alarms, then by detection, then by cost.

    A row with a useless threshold of its own is never best, however well another threshold would work.
    """
    useful = [r for r in rows if gain(r) > 0] or list(rows)
    highest = max(r.separation.auc for r in useful)
    tied = [r for r in useful if highest - r.separation.auc <= AUC_TIE]
    least = min(r.separation.false_alarms for r in tied)
    calm = [r for r in tied if r.separation.false_alarms - least <= RATE_TIE]
    most = max(r.separation.detection for r in calm)
    finders = [r for r in calm if most - r.separation.detection <= RATE_TIE]
    return min(finders, key=lambda r: (r.cost, rows.index(r)))


def plainest(rows: Sequence[Row], top: Row) -> Row:
    return min((r for r in rows if r is top or equals(r, top)), key=lambda r: (r.cost, rows.index(r)))


def equals(row: Row, top: Row) -> bool:
    """Whether the difference may be chance, the figures of `top` being within the intervals of `row`, and is small."""
    a, b = row.separation, top.separation
    if row.intervals is None:
        return (
            b.auc - a.auc <= AUC_TIE
            and a.false_alarms - b.false_alarms <= RATE_TIE
            and b.detection - a.detection <= RATE_TIE
        )
    i = row.intervals
    within = i.auc[1] >= b.auc and i.false_alarms[0] <= b.false_alarms and i.detection[1] >= b.detection
    small = b.auc - a.auc <= AUC_MATTERS and gain(top) - gain(row) <= GAIN_MATTERS
    # Alarms for everything, or for nothing, are not equal to a detector that separates the two.
    return within and small and (gain(row) > 0 or gain(top) <= 0)


def gain(row: Row) -> float:
    """The value of the threshold: detection minus false alarms, 0 for a useless one."""
    return row.separation.detection - row.separation.false_alarms


def _against_baselines(rows: Sequence[Row]) -> list[str]:
    """A note if a simple baseline is better than, or as good as, every row of the device: which, and by how much."""
    own, plain = ([r for r in rows if r.where == where] for where in ("device", "host"))
    if not own or not plain:
        return []
    device, host = best(own), best(plain)
    more = host.separation.auc - device.separation.auc
    if more > AUC_TIE or (abs(more) <= AUC_TIE and gain(host) - gain(device) > RATE_TIE):
        return [
            f"a simple baseline does better than the device here: {host.name}, AUC {host.separation.auc:.3f} against "
            f"{device.separation.auc:.3f} of {device.name} ({more:+.3f}), {rates(host)} against {rates(device)}"
        ]
    simple = plainest(rows, device)
    if simple.where == "host":
        return [f"a simple baseline does as well as the device's best row here, {device.name}: {simple.name}"]
    return [
        f"the best simple baseline, {host.name}, has AUC {host.separation.auc:.3f}, {rates(host)} "
        f"({-more:+.3f} for {device.name})"
    ]


def rates(row: Row) -> str:
    s = row.separation
    return f"{100 * s.detection:.0f} % detected at {100 * s.false_alarms:.1f} % false alarms"
