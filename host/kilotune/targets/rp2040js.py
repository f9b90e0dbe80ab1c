"""The target `rp2040js:rpi_pico`: the Pico's UF2 file in rp2040js, the serial line on a TCP port."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.targets import flashfile, hardware, uf2
from kilotune.targets.boards import Board, board, source_root
from kilotune.targets.build import build
from kilotune.targets.process import DeviceProcess, accepts, free_port

START_S = 30.0


@contextlib.contextmanager
def run(
    board_id: str,
    state: Path,
    image: bytes | None = None,
    *,
    firmware: Path | None = None,
    options: Sequence[str] = (),
    timeout_s: float = START_S,
) -> Iterator[tuple[str, DeviceProcess]]:
    """Runs the board with the model kept in `state`; gives its port (`socket://...`) and its process.

    The chip's flash survives resets of the chip and ends with the emulator. `firmware`: an ELF file; None: it is built.
    `options`: further options of the board's script.
    """
    chosen = emulated(board_id)
    node = find_node()
    with flashfile.held(state, chosen.flash, image) as (flash, lock):
        model = flashfile.model_partition(flash.read_bytes(), chosen.flash) or None
        file = state / "kilotune.uf2"
        elf = firmware if firmware is not None else Path(build(board_id).firmware)
        segments = hardware.segments_of(chosen, elf, model)
        file.write_bytes(uf2.encode(segments, chosen.usb.uf2_family))
        port = free_port()
        command = [node, str(_script(board_id)), str(file), str(port), *options]
        with DeviceProcess(command, state / "rp2040js.log", "rp2040js", holds=lock) as process:
            process.wait_for(lambda: accepts(port), timeout_s)
            yield f"socket://127.0.0.1:{port}", process


def emulated(board_id: str) -> Board:
    """The board, if rp2040js has it; else raises KilotuneError `unknown_board` or `no_emulator`."""
    chosen = board(board_id)
    if chosen.emulator.kind != "rp2040js" or not _script(board_id).is_file():
        raise KilotuneError("no_emulator", f"rp2040js has no board '{board_id}'", "use another target: docs/BOARDS.md")
    return chosen


def find_node() -> str:
    """Path of Node.js, if it and the package are installed; else raises KilotuneError `missing_tool`."""
    node = shutil.which("node")
    folder = Path(os.environ.get("KILOTUNE_RP2040JS") or Path.cwd())
    if node is None or not (folder / "node_modules" / "rp2040js").is_dir():
        raise KilotuneError(
            "missing_tool",
            "rp2040js is not installed; the target rp2040js:rpi_pico needs it and Node.js",
            "npm install rp2040js, and set KILOTUNE_RP2040JS to that folder",
        )
    return node


def _script(board_id: str) -> Path:
    return (source_root() or Path()) / "firmware" / "boards" / board_id / "rp2040js.mjs"
