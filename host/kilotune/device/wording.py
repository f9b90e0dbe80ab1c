"""Sentences for what a device's guardrails and learn reports say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilotune.link.messages import EARLIER_RUN
from kilotune.terms import Q10, Reason

if TYPE_CHECKING:
    from kilotune.link.messages import GuardStatus, LearnReport


UNSTEADY = 600  # 1/1000 sigma; a steady machine ends a first phase within 150 of its mean
REASONS = {
    Reason.early_loss: "trained parameters dropped: worse on the early windows",
    Reason.parameters: "trained parameters dropped: they moved too far from the base model",
    Reason.early_alarms: "returned to the checkpoint: the early windows would raise alarms",
    Reason.tolerant: "returned to the checkpoint: the threshold rose too far above the early windows",
    Reason.insensitive: "returned to the checkpoint: pseudo-faults of the early windows are no longer detected",
    Reason.aged: "re-calibration refused: the machine has changed more than ageing explains",
    Reason.unlike: (
        "returned to the checkpoint: too many windows were refused, or known from earlier learning, so the others are "
        "not trusted"
    ),
    Reason.shifted: (
        "returned to the checkpoint: on average, the windows are too far from the first ones, in all or in a few bands"
    ),
}


def guard_in_words(guard: GuardStatus) -> str:
    """A sentence on the last learn phase and the counters since boot; empty if there is nothing to report.

    Before the first learn phase of this run, it says what was last refused in an earlier run.
    """
    parts = [text for reason, text in REASONS.items() if guard.reasons & reason]
    if guard.last_window == EARLIER_RUN:
        parts += [f"before this run: {text}" for reason, text in REASONS.items() if guard.last_reasons & reason]
    if guard.unsteady > UNSTEADY:
        parts.append(
            f"the machine was still changing during learning ({guard.unsteady / 1000:.1f} sigma from the mean)"
        )
    if guard.drift_weights or guard.drift_biases:
        parts.append(
            f"parameters drifted by {guard.drift_weights / 10:.0f} % of the weights, "
            f"{guard.drift_biases / 10:.0f} % of the output range"
        )
    if guard.aged:
        parts.append(f"re-calibrated by {guard.aged / 1000:.2f} sigma in total")
    if guard.drifted:
        parts.append(f"{guard.drifted} windows refused: too far from the first healthy ones")
    return "; ".join(parts)


def report_in_words(report: LearnReport | None) -> str:
    """A sentence on the device's learn report: what was kept, and why."""
    if report is None or not report.learned:
        return ""
    held = f"{report.held} windows held back from training"
    if report.passes_done == 0:
        return f"calibrated on {report.learned} windows, threshold from {held}; no training"
    # Losses are log2: their difference is a ratio.
    change = 100 * (2 ** ((report.loss_candidate_held - report.loss_calibration_held) / Q10) - 1)
    losses = f"on {held} its loss is {abs(change):.1f} % {'lower' if change < 0 else 'higher'} than calibration's"
    kept = (
        f"training kept, from pass {report.passes_kept} of {report.passes_done}"
        if report.kept_candidate
        else "training not kept, as calibration alone is as good"
    )
    return f"{kept}; {losses}{_choice(report)}"


def _choice(report: LearnReport) -> str:
    """Why this scorer is in use, if the device chose it by pseudo-faults."""
    if not report.auc_combined:
        return ""
    rivals = (
        ("calibration", report.auc_calibration), ("training", report.auc_candidate),
        ("nearest windows", report.auc_nearest), ("both combined", report.auc_combined),
    )  # fmt: skip
    listed = ", ".join(f"{name} {auc / 1000:.3f}" for name, auc in rivals if auc)
    chosen = (
        f"scorer {report.scorer.name}, chosen by how well each separates held-back windows from pseudo-faults (AUC)"
    )
    return f"; {chosen}: {listed}"


def scorer_name(report: LearnReport | None) -> str:
    return report.scorer.name if report is not None else ""
