"""How `kilotune evaluate` shows its results."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.cli.output import plain, table
from kilotune.printable import printable

if TYPE_CHECKING:
    from kilotune.studies.evaluation import Evaluation
    from kilotune.studies.recommending import Row


def evaluation_json(found: Evaluation, model: Path) -> dict[str, object]:
    return {
        "model": str(model),
        "learned": plain(found.learned),
        "test": found.how,
        "rows": [row_json(r) for r in found.rows],
        "recommended": found.recommended,
        "recommended_on_device": found.on_device,
        "reason": found.reason,
        "warnings": list(found.warnings),
    }


def row_json(row: Row) -> dict[str, object]:
    known = row.threshold is not None and math.isfinite(row.threshold)
    return {
        "name": row.name,
        "where": row.where,
        **plain(row.separation),
        "threshold": row.threshold if known else None,
        "intervals": None if row.intervals is None else plain(row.intervals),
        "alarms_per_hour": row.alarms_per_hour,
        "sustained_alarms_per_hour": row.sustained_per_hour,
        "files": [plain(f) for f in row.files],
        "ram_bytes": row.ram_bytes,
        "image_bytes": row.image_bytes,
        "detail": row.detail,
    }


def evaluation_text(found: Evaluation) -> str:
    one, learned = found.rows[0].separation, found.learned
    refused = f", {learned.refused} of them spoiled by the sensor" if learned.refused else ""
    lines = [
        f"offered {learned.offered} windows to learn from{refused}; the device stored {learned.stored} and held back "
        f"{learned.held}",
        f"tested on {one.healthy} healthy and {one.fault} faulty windows: {found.how}",
        "",
        table(
            [_cells(r) for r in found.rows],
            ("scored by", "on", "AUC", "95 %", "false alarms %", "95 %", "an hour", "detected %", "95 %", "RAM bytes"),
        ),
        "",
    ]
    shown = next((r for r in found.rows if r.name == found.recommended), None)
    if shown is not None:
        files = [(printable(f.name), f.truth, str(f.windows), str(f.anomalous), _yes(f.sustained)) for f in shown.files]
        lines += [f"{shown.name}, file by file:", table(files, ("file", "is", "windows", "anomalous", "alarm")), ""]
    lines.append(f"recommended: {found.recommended}")
    if found.on_device not in (found.recommended, ""):
        lines.append(f"among what a device can do: {found.on_device}")
    lines += [f"because: {found.reason}", *(f"warning: {printable(w)}" for w in found.warnings)]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    s, i = row.separation, row.intervals
    auc, alarms, found = ("", "", "") if i is None else (
        f"{i.auc[0]:.2f}-{i.auc[1]:.2f}", _percents(i.false_alarms), _percents(i.detection)
    )  # fmt: skip
    hourly = "-" if row.alarms_per_hour is None else f"{row.alarms_per_hour:.0f}"
    return (
        row.name, row.where, f"{s.auc:.3f}", auc, f"{100 * s.false_alarms:.1f}", alarms, hourly,
        f"{100 * s.detection:.1f}", found, f"{row.ram_bytes:,}" if row.ram_bytes else "-",
    )  # fmt: skip


def _percents(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.0f}-{100 * interval[1]:.0f}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
