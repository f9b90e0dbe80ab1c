"""Writes firmware and model to a real board: through a debug probe, or to its boot drive."""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilotune.errors import KilotuneError
from kilotune.targets import uf2
from kilotune.targets.boards import Board
from kilotune.targets.elf import load_segments
from kilotune.targets.flashfile import check_size

Segment = tuple[int, bytes]  # address, content
_UDEV = "on Linux, install the udev rule host/60-kilotune.rules (the file says how) and plug the board in again"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written to the board, and how."""

    way: str  # the probe's name, or the drive's folder
    bytes_written: int  # firmware and model


def segments_of(chosen: Board, elf: Path, model: bytes | None) -> list[Segment]:
    """What to write where: the firmware and, if given, the model in its partition.

    Raises KilotuneError `too_large`, `bad_firmware`.
    """
    segments = load_segments(elf)
    if model is not None:
        check_size(chosen.flash, model)
        segments.append((chosen.model_address, model))
    return sorted(segments)


def refuse_unused(chosen: Board, *, probe: str | None, drive: Path | None) -> None:
    """Raises KilotuneError `bad_argument` for a drive that would be ignored."""
    if drive is not None and (chosen.usb.method != "uf2" or probe is not None):
        raise KilotuneError(
            "bad_argument", f"'{chosen.id}' is written through a debug probe, not to a drive", "omit --drive"
        )


def write(
    chosen: Board,
    elf: Path,
    model: bytes | None,
    *,
    probe: str | None = None,
    drive: Path | None = None,
    erase_locked: bool = False,
) -> Written:
    """Writes to the only connected board or, with `probe` (its id or part of it) or `drive`, to that one.

    Only the sectors of firmware and model are erased. A chip with a locked debug port is left alone, unless
    `erase_locked`: unlocking the port erases everything on it.
    Raises KilotuneError: `unavailable`, `missing_package`, `no_probe`, `ambiguous_probe`, `no_drive`,
    `ambiguous_drive`, `chip_locked`, `flash_failed`.
    """
    segments = segments_of(chosen, elf, model)
    size = sum(len(content) for _, content in segments)
    if chosen.usb.method == "uf2" and probe is None:
        return Written(str(_write_drive(chosen, segments, drive)), size)
    if chosen.usb.pyocd_target:
        return Written(_write_probe(chosen, segments, probe, erase_locked), size)
    raise KilotuneError(
        "unavailable", f"there is no way to write a {chosen.id}", "see the board table in docs/BOARDS.md"
    )


# --- boot drive --------------------------------------------------------------------------------------


def _write_drive(chosen: Board, segments: Sequence[Segment], drive: Path | None) -> Path:
    folder = drive if drive is not None else _sole_drive(chosen)
    file = folder / "kilotune.uf2"
    try:
        with file.open("wb") as output:
            output.write(uf2.encode(segments, chosen.usb.uf2_family))
            output.flush()
            os.fsync(output.fileno())
    except OSError as error:
        raise KilotuneError(
            "flash_failed",
            f"the drive {folder} did not accept the firmware: {error.strerror}",
            "hold BOOTSEL while you plug the board in, and try again; you need permission to write to the drive",
        ) from error
    return folder


def _sole_drive(chosen: Board) -> Path:
    found = sorted({folder for folder in mounted() if is_boot_drive(folder, chosen.usb.uf2_drive)})
    if len(found) == 1:
        return found[0]
    if not found:
        raise KilotuneError(
            "no_drive",
            f"no drive {chosen.usb.uf2_drive} is mounted",
            f"hold BOOTSEL while you plug the {chosen.id} in, and mount its drive, or name it with --drive FOLDER",
        )
    raise KilotuneError(
        "ambiguous_drive",
        f"there are {len(found)} such boards: {', '.join(map(str, found))}",
        "choose one with --drive",
    )


def mounted() -> Iterator[Path]:
    """Folders where drives are mounted on this system."""
    table = Path("/proc/mounts")
    if table.is_file():
        for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
            yield Path(line.split(" ")[1].replace("\\040", " "))
    elif sys.platform == "win32":
        yield from (Path(f"{letter}:\\") for letter in string.ascii_uppercase)
    elif Path("/Volumes").is_dir():
        yield from Path("/Volumes").iterdir()


def is_boot_drive(folder: Path, board_id: str) -> bool:
    """Whether the drive says that it is the boot loader of such a board."""
    try:
        text = (folder / "INFO_UF2.TXT").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(line.strip() == f"Board-ID: {board_id}" for line in text.splitlines())


# --- debug probe -------------------------------------------------------------------------------------


def _write_probe(chosen: Board, segments: Sequence[Segment], probe: str | None, erase_locked: bool) -> str:
    pyocd = _Pyocd()
    found = pyocd.sole_probe(probe)
    session = None
    try:
        session = pyocd.session(found, chosen.usb.pyocd_target, erase_locked=erase_locked)
        with session:
            if not erase_locked and _locked(session):
                raise _chip_locked(chosen)
            loader = pyocd.loader(session, chip_erase="sector")
            for address, content in segments:
                loader.add_data(address, list(content))
            loader.commit()
            session.target.reset()
    except pyocd.support_error as error:
        raise KilotuneError(
            "missing_package",
            f"pyocd does not know the chip {chosen.usb.pyocd_target}: {error}",
            f"pyocd pack install {chosen.usb.pyocd_target}",
        ) from error
    except (pyocd.error, OSError) as error:
        if session is not None and not erase_locked and _locked(session):
            raise _chip_locked(chosen) from error  # nothing on it could be reached
        raise KilotuneError(
            "flash_failed",
            f"writing the {chosen.id} through {_name(found)} failed: {error}",
            f"check cable and power, and close other debuggers; {_UDEV}",
        ) from error
    return _name(found)


def _locked(session: Any) -> bool:
    """Whether the chip says that its debug port is locked; False if it has no such lock, or does not say."""
    try:
        return bool(session.target.is_locked())
    except Exception:  # half open, or closed: what pyocd raises then says nothing about the lock
        return False


def _chip_locked(chosen: Board) -> KilotuneError:
    return KilotuneError(
        "chip_locked",
        f"the debug port of the {chosen.id} is locked: a probe can unlock it only by erasing the whole chip, including "
        "the firmware, the key and everything that the device has learned",
        "to keep them, replace the model over the serial line (`kilotune flash-model`); to erase the chip, first pull "
        "the adapter, then give --erase-locked",
    )


class _Pyocd:
    """The part of pyocd's interface that is used."""

    def __init__(self) -> None:
        try:
            from pyocd.core import exceptions
            from pyocd.core.helpers import ConnectHelper
            from pyocd.core.session import Session
            from pyocd.flash.loader import FlashLoader
        except ImportError as error:
            raise KilotuneError(
                "missing_package",
                "flashing through a debug probe needs pyocd, which is not installed",
                "pip install 'kilotune[flash]'",
            ) from error
        self.error = exceptions.Error
        self.support_error = exceptions.TargetSupportError
        self._probes = ConnectHelper.get_all_connected_probes
        self._session = Session
        self.loader = FlashLoader

    def sole_probe(self, wanted: str | None) -> Any:
        try:
            found = list(self._probes(blocking=False, print_wait_message=False))
        except self.error as error:
            raise KilotuneError("no_probe", f"debug probes cannot be listed: {error}", _UDEV) from error
        matching = [p for p in found if wanted is None or wanted.lower() in str(p.unique_id).lower()]
        exact = [p for p in matching if str(p.unique_id) == wanted]
        if len(exact or matching) == 1:
            return (exact or matching)[0]
        names = ", ".join(_name(p) for p in (matching or found))
        if matching:
            raise KilotuneError(
                "ambiguous_probe",
                f"there are {len(matching)} debug probes: {names}",
                "choose one with --probe ID",
            )
        what = f"no debug probe matches '{wanted}'; found: {names}" if found else "no debug probe was found"
        raise KilotuneError("no_probe", what, f"plug the board in with a data cable; {_UDEV}")

    def session(self, probe: Any, target: str, *, erase_locked: bool) -> Any:
        """By default, pyocd unlocks a locked chip by erasing all of it; here that happens only on request."""
        return self._session(probe, options={"target_override": target, "auto_unlock": erase_locked})


def _name(probe: Any) -> str:
    return f"{probe.unique_id} ({probe.description})"
