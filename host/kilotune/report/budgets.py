"""Memory and instructions of a model, for a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilotune.report.data import Budget
from kilotune.targets.fit import ram_budget

if TYPE_CHECKING:
    from kilotune.image.image import Image
    from kilotune.report.data import Benchmark
    from kilotune.targets.build import FirmwareBuild


def report_budgets(image: Image, measured: Benchmark, firmware: FirmwareBuild | None) -> tuple[Budget, ...]:
    """Memory and instructions for a report. `firmware`: the build for exactly this model, or None."""
    ram = list(ram_budget(image).items())
    flash = [("model image", len(image.content))]
    if firmware is not None:
        rest = firmware.engine - sum(n for _, n in ram)
        if rest > 0:
            ram.append(("window, features, reservoir", rest))
        ram.append(("firmware, static", firmware.data + firmware.bss))
        flash.append(("firmware", firmware.flash_bytes))
    if measured.ram_bytes.stack_peak:
        ram.append(("stack, highest", measured.ram_bytes.stack_peak))
    budgets = [Budget("RAM", "bytes", tuple(ram)), Budget("Flash", "bytes", tuple(flash))]
    steps = [("inference", measured.instructions.inference), ("training step", measured.instructions.step)]
    counted = tuple((name, n) for name, n in steps if n is not None)
    if counted:
        budgets.append(Budget("Instructions of one window", "instructions", counted))
    return tuple(budgets)
