"""Serial ports of this computer, and which of them may be a board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from kilotune.targets.boards import Board


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


def sole_port() -> str:
    """The one port with the USB id of a known board, else the one USB port; none or several is an error."""
    from kilotune.targets.boards import boards

    known = {usb for b in boards() for usb in b.usb.ids}
    ports = [p for p in list_ports() if p.usb]
    found = [p for p in ports if p.usb in known] or ports
    if len(found) == 1:
        return found[0].device
    if not found:
        raise KilotuneError(
            "no_device",
            "no board was found, there is no USB serial port",
            "plug one in with a data cable, or name a device: --port PORT, --target twin",
        )
    names = ", ".join(p.device for p in found)
    raise KilotuneError(
        "ambiguous_device", f"{len(found)} boards are connected: {names}", "choose one with --port"
    )
