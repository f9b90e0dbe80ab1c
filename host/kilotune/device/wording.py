"""What a device's guardrails found, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilotune.link.messages import EARLIER_RUN, Reason

if TYPE_CHECKING:
    from kilotune.link.messages import GuardStatus

UNSTEADY = 600  # 1/1000 sigma; a machine that keeps still ends a first phase within 150 of its mean
REASONS = {
    Reason.early_loss: "trained parameters dropped: worse on the early windows",
    Reason.parameters: "trained parameters dropped: they moved too far from the base model",
    Reason.early_alarms: "returned to the checkpoint: the early windows would raise alarms",
    Reason.tolerant: "returned to the checkpoint: the threshold rose too far above the early windows",
    Reason.insensitive: "returned to the checkpoint: pseudo-faults of the early windows are no longer told",
    Reason.aged: "re-calibration refused: the machine has left the range that may count as ageing",
    Reason.unlike: "returned to the checkpoint: too many windows were refused, so the others are not trusted",
    Reason.shifted: "returned to the checkpoint: the windows lie too far from the early ones on average",
}


def told(guard: GuardStatus) -> str:
    """The last learn phase and the counters since boot in a sentence; empty where there is nothing to tell.

    Before a learn phase of this run, what was last refused in an earlier one.
    """
    parts = [text for reason, text in REASONS.items() if guard.reasons & reason]
    if guard.last_window == EARLIER_RUN:
        parts += [f"before this run: {text}" for reason, text in REASONS.items() if guard.last_reasons & reason]
    if guard.unsteady > UNSTEADY:
        parts.append(
            f"the machine was still changing while it was learned ({guard.unsteady / 1000:.1f} sigma from the mean)"
        )
    if guard.drift_weights or guard.drift_biases:
        parts.append(
            f"parameters drifted by {guard.drift_weights / 10:.0f} % of the weights, "
            f"{guard.drift_biases / 10:.0f} % of the output range"
        )
    if guard.aged:
        parts.append(f"re-calibrated by {guard.aged / 1000:.2f} sigma in all")
    if guard.drifted:
        parts.append(f"{guard.drifted} windows refused as too far from the first healthy ones")
    return "; ".join(parts)
