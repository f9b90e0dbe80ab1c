"""Writes firmware and model to a board, or to the flash file of an emulated board."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.targets.boards import board
from kilotune.targets.build import build, native_program
from kilotune.targets.sensors import AS_THE_BOARD, SensorChoice

if TYPE_CHECKING:
    from kilotune.targets.target import Target


@dataclass(frozen=True, slots=True)
class Flashed:
    """What `flash` did."""

    target: str
    firmware: str
    flash_file: str  # of a board without hardware
    image_hash: str  # hex; "": the model on the board stays
    way: str = ""  # for hardware: the debug probe, or the drive's folder
    bytes_written: int = 0
    port: str = ""  # serial port of the board; "": none or several found


def flash(
    board_id: str,
    image: Path | None = None,
    state: Path | None = None,
    *,
    probe: str | None = None,
    drive: Path | None = None,
    erase_locked: bool = False,
    sensors: SensorChoice = AS_THE_BOARD,
) -> Flashed:
    """Builds the firmware with these sensors, and writes it and the model to a real board.

    For boards that exist only in an emulator, `qemu:BOARD`, `renode:BOARD` and `native`, the model is written to their
    flash file. `erase_locked`: erase the whole chip if its debug port is locked; otherwise it is left alone.
    """
    from kilotune.image.image import Image
    from kilotune.targets import hardware
    from kilotune.targets.fit import require_fit
    from kilotune.targets.ports import ports_of
    from kilotune.targets.target import parse_target

    target = None  # a real board
    if ":" in board_id or board_id in ("native", "twin"):
        target = parse_target(board_id)
    elif not board(board_id).usb.method:
        target = parse_target(f"qemu:{board_id}")
    content, image_hash = None, ""
    if image is not None:
        model = Image.load(image)
        require_fit(model, target.board if target is not None else board_id)
        content, image_hash = model.content, model.image_hash.hex()
    if target is not None:
        if sensors != AS_THE_BOARD:
            raise KilotuneError(
                "bad_argument",
                f"'{target.name}' starts the firmware with the board's own sensors",
                "omit --sensors and --sensor-bus, or build such firmware with `kilotune build`",
            )
        if probe is not None or drive is not None:
            raise KilotuneError("bad_argument", f"'{target.name}' is not a real board", "omit --probe and --drive")
        return _flash_emulated(target, content, image_hash, state)
    if state is not None:
        raise KilotuneError("bad_argument", f"the board '{board_id}' has flash of its own", "omit --state")
    chosen = board(board_id)
    hardware.refuse_unused(chosen, probe=probe, drive=drive)
    elf = Path(build(board_id, sensors=sensors).firmware)  # with room for any model
    written = hardware.write(chosen, elf, content, probe=probe, drive=drive, erase_locked=erase_locked)
    ports = ports_of(chosen)
    return Flashed(
        board_id, str(elf), "", image_hash, written.way, written.bytes_written,
        ports[0].device if len(ports) == 1 else "",
    )  # fmt: skip


def _flash_emulated(target: Target, content: bytes | None, image_hash: str, state: Path | None) -> Flashed:
    from kilotune.targets import flashfile
    from kilotune.targets.target import state_folder

    if target.kind not in ("native", "qemu", "renode"):
        raise KilotuneError(
            "unavailable",
            f"'{target.name}' cannot be flashed, as it gets its model when it starts",
            "give a board, qemu:BOARD, renode:BOARD or native",
        )
    chosen = board(target.board)
    firmware = native_program() if target.kind == "native" else Path(build(target.board).firmware)
    with flashfile.held(state_folder(target, state), chosen.flash, content) as (file, _):
        return Flashed(target.name, str(firmware), str(file), image_hash)
