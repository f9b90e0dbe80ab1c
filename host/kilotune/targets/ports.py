"""Serial ports of this computer, and which of them may be a board."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from kilotune.targets.boards import Board

_ASK_S = 1.0


@dataclass(frozen=True, slots=True)
class Port:
    device: str  # what to give to --port
    description: str
    usb: str  # "vendor:product" in hex, "" if it is not USB
    serial_number: str


def list_ports() -> list[Port]:
    """Ports sorted by name; USB ones first."""
    from serial.tools import list_ports as tools

    found = [
        Port(
            p.device,
            p.description if p.description and p.description != "n/a" else "",
            f"{p.vid:04x}:{p.pid:04x}" if p.vid is not None and p.pid is not None else "",
            p.serial_number or "",
        )
        for p in tools.comports()
    ]
    return sorted(found, key=lambda p: (not p.usb, p.device))


def ports_of(chosen: Board) -> list[Port]:
    """Ports with the board's USB ids; boards share interface chips, so an id alone is no proof."""
    return [p for p in list_ports() if p.usb in chosen.usb.ids]


def board_on(port: Port) -> str | None:
    """The board that answers on a port; None if nothing does. Raises KilotuneError if the port cannot be opened."""
    from kilotune.link.client import Client
    from kilotune.link.transport import open_port

    with contextlib.ExitStack() as stack:
        line = open_port(port.device, timeout_s=_ASK_S)
        stack.callback(line.close)
        try:
            return Client(line, timeout_s=_ASK_S).open().board  # what a locked device tells anyone too
        except KilotuneError:
            return None


def sole_port() -> str:
    """The only port with the USB id of a known board, else the only USB port; none is an error.

    If several have known ids, they are asked, as other devices have such interface chips too. If not exactly one
    answers, or one cannot be asked, the error `ambiguous_device` lists them.
    """
    from kilotune.targets.boards import boards

    known = {usb for b in boards() for usb in b.usb.ids}
    ports = [p for p in list_ports() if p.usb]
    found = [p for p in ports if p.usb in known]
    if len(found) > 1:
        with contextlib.suppress(KilotuneError):  # one of them cannot be asked
            found = [p for p in found if board_on(p) is not None] or found
    found = found or ports
    if len(found) == 1:
        return found[0].device
    if not found:
        raise KilotuneError(
            "no_device",
            "no board was found, as there is no USB serial port",
            "plug a board in with a data cable, or name a device with --port PORT or --target twin",
        )
    names = ", ".join(p.device for p in found)
    raise KilotuneError("ambiguous_device", f"{len(found)} boards are connected: {names}", "choose one with --port")
