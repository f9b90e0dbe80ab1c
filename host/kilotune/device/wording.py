"""What a device says of its last learning, and of its guardrails, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilotune.link.messages import EARLIER_RUN
from kilotune.terms import Q10, Reason

if TYPE_CHECKING:
    from kilotune.link.messages import GuardStatus, LearnReport


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


def guard_in_words(guard: GuardStatus) -> str:
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


def report_in_words(report: LearnReport | None) -> str:
    """The device's learn report in a sentence: what was kept, and on what grounds."""
    if report is None or not report.learned:
        return ""
    held = f"{report.held} windows held back from training"
    if report.passes_done == 0:
        return f"calibrated on {report.learned} windows, threshold from {held}; no training"
    # Losses are log2: their difference is a ratio.
    change = 100 * (2 ** ((report.loss_candidate_held - report.loss_calibration_held) / Q10) - 1)
    losses = f"on {held} its loss is {abs(change):.1f} % {'lower' if change < 0 else 'higher'} than calibration's"
    kept = (
        f"training kept, of pass {report.passes_kept} of {report.passes_done}"
        if report.kept_candidate
        else "training not kept, calibration serves as well"
    )
    return f"{kept}; {losses}{_choice(report)}"


def _choice(report: LearnReport) -> str:
    """Why the scorer is in use, where the device chose it by pseudo-faults."""
    if not report.auc_combined:
        return ""
    rivals = (
        ("calibration", report.auc_calibration), ("training", report.auc_candidate),
        ("nearest windows", report.auc_nearest), ("both combined", report.auc_combined),
    )  # fmt: skip
    listed = ", ".join(f"{name} {auc / 1000:.3f}" for name, auc in rivals if auc)
    chosen = f"scorer {report.scorer.name}, chosen by how well each tells held-back windows from pseudo-faults (AUC)"
    return f"; {chosen}: {listed}"


def scorer_name(report: LearnReport | None) -> str:
    return report.scorer.name if report is not None else ""
