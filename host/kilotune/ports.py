"""Serial ports of this computer, and which of them may be a board."""

from __future__ import annotations

from dataclasses import dataclass

from kilotune.errors import KilotuneError


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


def sole_port() -> str:
    """The one USB serial port there is; none or several is an error."""
    boards = [p for p in list_ports() if p.usb]
    if len(boards) == 1:
        return boards[0].device
    if not boards:
        raise KilotuneError(
            "no_device",
            "no board was found, there is no USB serial port",
            "plug one in with a data cable, or name a device: --port PORT, --target twin",
        )
    names = ", ".join(p.device for p in boards)
    raise KilotuneError(
        "ambiguous_device", f"{len(boards)} boards are connected: {names}", "choose one with --port"
    )
