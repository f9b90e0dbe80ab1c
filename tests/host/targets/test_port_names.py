"""Serial ports: the board's is found by its USB id, or by the device that answers, and never guessed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.link.transport import SerialPort
from kilotune.targets import native, ports
from kilotune.targets.boards import board, boards

from tests.support.paths import ROOT


def port(device: str, usb: str) -> ports.Port:
    return ports.Port(device, "", usb, "")


def test_a_port_is_found_by_usb_id_and_never_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [port("/dev/ttyACM0", "0d28:0204"), port("/dev/ttyUSB0", "0403:6001"), port("/dev/ttyS0", "")]
    monkeypatch.setattr(ports, "list_ports", lambda: found)
    assert ports.sole_port() == "/dev/ttyACM0"
    assert [p.device for p in ports.ports_of(board("microbit"))] == ["/dev/ttyACM0"]
    assert not ports.ports_of(board("nrf52840dk"))
    found.append(port("/dev/ttyACM1", "0483:374b"))
    with pytest.raises(KilotuneError) as error:
        ports.sole_port()
    assert error.value.code == "ambiguous_device"
    assert "/dev/ttyACM0, /dev/ttyACM1" in error.value.message
    del found[0], found[-1]
    assert ports.sole_port() == "/dev/ttyUSB0"


def test_of_several_ports_the_one_that_answers_is_taken(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board of another use has the same interface chip; a port in use could be the right one."""
    master, slave = os.openpty()
    silent = port(os.ttyname(slave), "0d28:0204")
    with native.run(tmp_path / "state", content) as (name, _):
        found = [silent, port(name, "0d28:0204")]
        monkeypatch.setattr(ports, "list_ports", lambda: found)
        assert ports.sole_port() == name
        with contextlib.closing(SerialPort(silent.device, timeout_s=1.0)), pytest.raises(KilotuneError) as error:
            ports.sole_port()
        assert error.value.code == "ambiguous_device"
        assert silent.device in error.value.message
    os.close(master)
    os.close(slave)


def test_the_udev_rule_covers_every_board() -> None:
    rule = (ROOT / "host" / "60-kilotune.rules").read_text()
    for b in boards():
        for usb in b.usb.ids:
            vendor, product = usb.split(":")
            assert f'ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}"' in rule
