"""Instructions of a device's whole job on an emulated board: windows by stage, a learn phase, a commit, a start.

The firmware's own code is built with `firmware/app/window_costs` in place of its main loop; random samples with a
fixed seed go through it, so two runs count the same.
"""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.link.status import RefusedError
from kilotune.targets import qemu
from kilotune.targets.boards import Board
from kilotune.targets.build import Counting, build
from kilotune.targets.flashfile import check_size

_RUN_S = 300.0


@dataclass(frozen=True, slots=True)
class WindowCosts:
    """Means over several windows; a window is all that its hop of new samples causes."""

    window: dict[str, int]  # of a device that has learned, by stage
    window_total: int
    learned_window: dict[str, int]  # of a device that learns for the first time, by stage
    learned_window_total: int
    learn_phase: int  # from the last window to the end of the training
    passes: int  # of the training
    commit: int
    find_model: int  # at a start: the search of the model partition
    start: int  # the rest of it: the model is opened, the checkpoint loaded


def count_window(board_id: str, image: Path, *, cpu_flags: str = "") -> WindowCosts:
    """Builds the counting program for the board and runs it with the image.

    `cpu_flags`: code for another core than the board's, which that core must be able to execute.
    Raises KilotuneError: `unavailable` (the emulator cannot count), `no_features`, what `build` raises.
    """
    chosen = qemu.emulated(board_id)
    if not chosen.emulator.counts:
        raise KilotuneError(
            "unavailable", f"instructions cannot be counted on {board_id}", "use --target qemu:mps2-an386"
        )
    program = qemu.find_qemu(chosen)
    content = image.read_bytes()
    check_size(chosen.flash, content)
    elf = Path(build(board_id, counting=Counting(cpu_flags)).firmware)
    with tempfile.TemporaryDirectory(prefix="kilotune-") as folder:
        model = Path(folder) / "model.ktm"
        model.write_bytes(content)
        return _costs(_run(chosen, program, elf, model))


def _run(chosen: Board, program: str, elf: Path, model: Path) -> str:
    command = [
        program,
        *("-M", chosen.emulator.machine),
        *("-kernel", str(elf)),
        *("-device", f"loader,file={qemu.escaped(model)},addr={chosen.model_address:#x},force-raw=on"),
        *("-icount", "shift=0"),
        *("-display", "none", "-monitor", "none", "-serial", "null"),
        *("-semihosting-config", "enable=on,target=native"),
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_RUN_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise KilotuneError(
            "timeout", f"the emulator did not end within {_RUN_S:g} s", "try a smaller model, or an idle computer"
        ) from error
    told = done.stdout + done.stderr
    if done.returncode != 0:
        raise KilotuneError(
            "cannot_start", f"QEMU ended with code {done.returncode}", told.strip() or "it gave no reason"
        )
    return told


def _costs(told: str) -> WindowCosts:
    """Of the program's lines, each a name and a number."""
    single: dict[str, int] = {}
    sums: dict[str, dict[str, int]] = {"window": {}, "learned": {}}
    for words in (line.split() for line in told.splitlines()):
        if words[:1] == ["failed"]:
            raise RefusedError(int(words[1]), 0, " ".join(words[2:]))
        if len(words) == 3 and words[0] in sums:
            sums[words[0]][words[1]] = int(words[2])
        elif len(words) == 2:
            single[words[0]] = int(words[1])
    if "windows" not in single:
        raise KilotuneError(
            "cannot_start", "the counting program did not come to its end", told.strip() or "it said nothing"
        )
    windows = single.pop("windows")
    detected, learned = (
        {stage: round(n / windows) for stage, n in sums[part].items()} for part in ("window", "learned")
    )
    return WindowCosts(
        window=detected,
        window_total=sum(detected.values()),
        learned_window=learned,
        learned_window_total=sum(learned.values()),
        **single,
    )
