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
    usb: str  # "vendor:product" in hex, "" where it is not USB
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
    """Those with the board's USB ids; boards share interface chips, so an id alone is no proof."""
    return [p for p in list_ports() if p.usb in chosen.usb.ids]


def board_on(port: Port) -> str | None:
    """The board that answers there; None: nothing does. KilotuneError where the port cannot be opened."""
    from kilotune.device.device import Device
    from kilotune.link.transport import open_port

    with contextlib.ExitStack() as stack:
        line = open_port(port.device, timeout_s=_ASK_S)
        stack.callback(line.close)
        try:
            with Device(line, timeout_s=_ASK_S) as device:
                return device.info().board
        except KilotuneError:
            return None


def sole_port() -> str:
    """The one port with the USB id of a known board, else the one USB port; none is an error.

    Several with known ids are asked, as other things have such interface chips too; where not just one
    answers, or one cannot be asked, they are listed: `ambiguous_device`.
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
            "no board was found, there is no USB serial port",
            "plug one in with a data cable, or name a device: --port PORT, --target twin",
        )
    names = ", ".join(p.device for p in found)
    raise KilotuneError("ambiguous_device", f"{len(found)} boards are connected: {names}", "choose one with --port")
