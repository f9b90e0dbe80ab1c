"""The targets `qemu:BOARD`: the firmware in QEMU, with flash in a file if the machine supports that, and the serial
line on a TCP port."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.targets import flashfile
from kilotune.targets.boards import Board, board
from kilotune.targets.build import build
from kilotune.targets.process import DeviceProcess, accepts, free_port

START_S = 15.0


@contextlib.contextmanager
def run(
    board_id: str,
    state: Path,
    image: bytes | None = None,
    *,
    firmware: Path | None = None,
    counting: bool = False,
    terminal: bool = False,
    timeout_s: float = START_S,
) -> Iterator[tuple[str, DeviceProcess]]:
    """Runs the board with the flash file in `state`; gives its port (`socket://...`) and its process.

    `firmware`: an ELF file; None: it is built. `counting`: one instruction takes one nanosecond of the board's time,
    so that it can count instructions; this runs more slowly. `terminal`: the port is a pseudo-terminal.
    """
    chosen = emulated(board_id)
    program = find_qemu(chosen)
    elf = firmware if firmware is not None else Path(build(board_id).firmware)
    with flashfile.held(state, chosen.flash, image) as (flash, lock):
        port = None if terminal else free_port()
        if chosen.emulator.flash == "file":
            memory = _flash_in_file(chosen, flash)
        else:
            memory = _flash_of_chip(chosen, flash, state / "model.bin")
        command = command_line(chosen, program, elf, memory, port, counting=counting)
        with DeviceProcess(command, state / "qemu.log", f"QEMU ({chosen.emulator.machine})", holds=lock) as process:
            process.wait_for(lambda: _place(process, port) != "", timeout_s)
            yield _place(process, port), process


def _place(process: DeviceProcess, port: int | None) -> str:
    """Address of the serial line, "" until it is ready; only QEMU knows the name of a pseudo-terminal."""
    if port is not None:
        return f"socket://127.0.0.1:{port}" if accepts(port) else ""
    told = re.search(r"redirected to (\S+) \(label", process.output())
    return told[1] if told is not None else ""


def emulated(board_id: str) -> Board:
    """The board, if QEMU has it; else raises KilotuneError `unknown_board` or `no_emulator`."""
    chosen = board(board_id)
    if chosen.emulator.kind != "qemu":
        raise KilotuneError("no_emulator", f"QEMU has no board '{board_id}'", "use another target: docs/BOARDS.md")
    return chosen


def find_qemu(chosen: Board) -> str:
    program = shutil.which(chosen.emulator.program)
    if program is None:
        raise KilotuneError(
            "missing_tool",
            f"{chosen.emulator.program} is not installed; the target qemu:{chosen.id} needs it",
            "apt-get install qemu-system-arm, or use --target native",
        )
    return program


def command_line(
    chosen: Board, program: str, elf: Path, memory: list[str], port: int | None, *, counting: bool
) -> list[str]:
    """QEMU's arguments; `memory`: those for the machine and its flash. `port` None: a pseudo-terminal."""
    return [
        program,
        *memory,
        "-kernel", str(elf),
        *["-serial", "null"] * chosen.emulator.serial,
        "-serial", "pty" if port is None else f"tcp:127.0.0.1:{port},server=on,wait=off,nodelay=on",
        "-display", "none",
        "-monitor", "none",
        *(["-icount", "shift=0"] if counting and chosen.emulator.counts else []),
    ]  # fmt: skip


def _flash_in_file(chosen: Board, flash: Path) -> list[str]:
    """The file is the flash, so it survives resets and the end of the emulator."""
    memory = f"memory-backend-file,id=flash,mem-path={escaped(flash)},share=on,size={chosen.flash.bytes}"
    return ["-object", memory, "-M", f"{chosen.emulator.machine},memory-backend=flash"]


def _flash_of_chip(chosen: Board, flash: Path, model: Path) -> list[str]:
    """The emulated chip has its own flash, which ends with it: only the model partition is loaded.

    Every reset of the chip loads it again, like the firmware; checkpoints stay until the emulator ends.
    """
    arguments = ["-M", chosen.emulator.machine]
    content = flashfile.model_partition(flash.read_bytes(), chosen.flash)
    if content:
        model.write_bytes(content)
        loader = f"loader,file={escaped(model)},addr={chosen.model_address:#x},force-raw=on"
        arguments += ["-device", loader]
    return arguments


def escaped(path: Path) -> str:
    """A path within one of QEMU's arguments."""
    return str(path).replace(",", ",,")  # QEMU's own escape
