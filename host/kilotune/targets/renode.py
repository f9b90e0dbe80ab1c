"""The targets `renode:BOARD[,CHIP=RECORDING]`: the firmware in Renode, the serial line on a TCP port."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.targets import flashfile
from kilotune.targets.boards import Board, board, source_root
from kilotune.targets.build import build
from kilotune.targets.process import DeviceProcess, accepts, free_port

START_S = 240.0  # 5 s if it has a core to itself
_READY = "the firmware runs"
_SCRIPT_ERROR = "There was an error executing command"


@contextlib.contextmanager
def run(
    board_id: str,
    state: Path,
    image: bytes | None = None,
    *,
    firmware: Path | None = None,
    commands: Sequence[str] = (),
    chip: str = "",
    resd: Path | None = None,
    timeout_s: float = START_S,
) -> Iterator[tuple[str, DeviceProcess]]:
    """Runs the board with the flash file in `state`; gives its port (`socket://...`) and its process.

    `firmware`: an ELF file; None: it is built. `commands`: for Renode, before the start. `chip`: a sensor on the board
    that measures what is in the file `resd`.
    """
    chosen = emulated(board_id, chip)
    program = find_renode()
    elf = firmware if firmware is not None else Path(build(board_id).firmware)
    flash = state / "flash.bin"
    with flashfile.locked(flash) as lock:
        flashfile.prepare(flash, chosen.flash, image)
        port = free_port()
        script = state / "run.resc"
        script.write_text(script_for(chosen, elf, flash, port, commands, chip=chip, resd=resd), encoding="utf-8")
        command = command_line(program, script, state)
        with DeviceProcess(command, state / "renode.log", f"Renode ({board_id})", holds=lock) as process:
            process.wait_for(lambda: _started(process.output()) and accepts(port), timeout_s)
            yield f"socket://127.0.0.1:{port}", process


def emulated(board_id: str, chip: str = "") -> Board:
    """The board, if there is a Renode script for it; else raises KilotuneError `unknown_board` or `no_emulator`."""
    chosen = board(board_id)
    if not script_of(board_id, chip).is_file():
        raise KilotuneError(
            "no_emulator",
            f"there is no Renode script for '{board_id}'" + (f" with a sensor '{chip}'" if chip else ""),
            "use another target (docs/BOARDS.md); run this in the project's folder, or set KILOTUNE_SOURCE to it",
        )
    return chosen


def script_of(board_id: str, chip: str = "") -> Path:
    root = source_root() or Path()
    name = f"{board_id}_{chip}" if chip else board_id
    return root / "firmware" / "boards" / board_id / f"{name}.resc"


def find_renode() -> str:
    program = os.environ.get("RENODE") or shutil.which("renode")
    if program is None or not Path(program).is_file():
        raise KilotuneError(
            "missing_tool",
            "Renode is not installed; targets renode:BOARD need it",
            "install Renode 1.16.1 from https://renode.io, and put `renode` on PATH or set $RENODE to its file",
        )
    return program


def script_for(
    chosen: Board,
    elf: Path,
    flash: Path,
    port: int,
    commands: Sequence[str] = (),
    *,
    chip: str = "",
    resd: Path | None = None,
) -> str:
    lines = [
        f'logFile "{flash.with_name("machine.log")}" true',
        f"$elf=@{_escaped(elf)}",
        f"$port={port}",
        f'$flash="{flash}"',
        *([f"$resd=@{_escaped(resd)}"] if resd is not None else []),
        f"include @{_escaped(script_of(chosen.id, chip))}",
        *commands,
        "start",
        f'echo "{_READY}"',
    ]
    return "\n".join([*lines, ""])


def _started(log: str) -> bool:
    """Raises KilotuneError for an error in the script, as Renode itself continues after one."""
    if _SCRIPT_ERROR in log:
        reason = log[log.index(_SCRIPT_ERROR) :].strip()
        raise KilotuneError("cannot_start", f"Renode rejects the board's script: {reason[:500]}", "use Renode 1.16.1")
    return _READY in log


def command_line(program: str, script: Path, state: Path) -> list[str]:
    """Renode's arguments. It gets a private TMPDIR, as it deletes everything there that looks like its leftovers.

    With its monitor on standard input, it opens no port for that, and ends when this process ends. The log goes to
    a separate file (`script_for`), as otherwise it would be mixed with the monitor's output.
    """
    private = state / "renode"
    private.mkdir(exist_ok=True)
    return [
        "env", f"TMPDIR={private}", f"HOME={private}",
        program, "--disable-xwt", "--plain", "--hide-log", "--console", str(script),
    ]  # fmt: skip


def _escaped(path: Path) -> str:
    return str(path).replace(" ", "\\ ")
