"""The targets `renode:BOARD[,CHIP=RECORDING]`: the firmware in Renode, the serial line on a TCP port."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.targets import flashfile, renode_program
from kilotune.targets.boards import Board, board, source_root
from kilotune.targets.build import build
from kilotune.targets.plain_paths import PlainPaths
from kilotune.targets.process import DeviceProcess, accepts, free_port

START_S = 240.0  # 5 s if it has a core to itself
_READY = "the firmware runs"
_REASON_S = 0.3  # until the lines behind an error are there, too
# How its monitor, and its runtime, say that something went wrong; it goes on as if nothing had.
_ERRORS = re.compile(
    r"There was an error executing command|Could not tokenize|No such command or device|Bad parameters for command|"
    r"Parameters did not match the signature|does not provide a field|No such variable|Parse error|"
    r"Could not compile|^Error E\d+:|Fatal error|[Uu]nhandled exception",
    re.MULTILINE,
)


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
    program = renode_program.require()
    elf = firmware if firmware is not None else Path(build(board_id).firmware)
    with flashfile.held(state, chosen.flash, image) as (flash, lock), PlainPaths() as plain:
        port = free_port()
        folder = plain.of(state)
        of_board = script_of(board_id, chip)
        boards = plain.of(of_board.parent.parent)
        text = script_for(
            boards / board_id / of_board.name,
            plain.of(elf),
            folder / flash.name,
            port,
            commands,
            resd=plain.of(resd) if resd is not None else None,
        )
        script = state / "run.resc"
        script.write_text(text, encoding="utf-8")
        command = command_line(program, folder / script.name, folder)
        with DeviceProcess(command, state / "renode.log", f"Renode ({board_id})", holds=lock) as process:
            process.wait_for(lambda: _started(process) and accepts(port), timeout_s)
            if not renode_program.version_in(process.output()):  # it says so first, or when it is asked
                renode_program.require_right(renode_program.version(program))
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


def script_for(
    script: Path, elf: Path, flash: Path, port: int, commands: Sequence[str] = (), *, resd: Path | None = None
) -> str:
    """What Renode is to do, on paths that are plain; `script` is the board's."""
    lines = [
        f'logFile "{flash.with_name("machine.log")}" true',
        f"$elf=@{elf}",
        f"$port={port}",
        f'$flash="{flash}"',
        *([f"$resd=@{resd}"] if resd is not None else []),
        f"include @{script}",
        *commands,
        "start",
        f'echo "{_READY}"',
    ]
    return "\n".join([*lines, ""])


def _started(process: DeviceProcess) -> bool:
    """KilotuneError where it has said that something went wrong, or that it is another version."""
    log = process.output()
    renode_program.require_right(renode_program.version_in(log))
    if _ERRORS.search(log) is None:
        return _READY in log
    time.sleep(_REASON_S)
    log = process.output()
    wrong = _ERRORS.search(log)
    start = log.rfind("\n", 0, wrong.start()) + 1 if wrong is not None else 0
    raise KilotuneError(
        "cannot_start",
        f"Renode refuses the board's script: {log[start:].strip()[:500]}",
        f"use Renode {renode_program.RIGHT}",
    )


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
