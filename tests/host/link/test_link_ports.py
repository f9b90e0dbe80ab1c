"""Real byte pipes: a terminal as the serial port, a TCP socket, and what happens when they break."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import tty
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.link.transport import SerialPort, cannot_open, open_port

from tests.support.model_device import AXES, ModelDevice


def serve(read: Callable[[], bytes], write: Callable[[bytes], object], model: ModelDevice) -> None:
    with contextlib.suppress(OSError):
        while data := read():
            write(model.exchange(data))


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """(the device's end, the name of the host's end)"""
    master, slave = os.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    for fd in (master, slave):
        with contextlib.suppress(OSError):
            os.close(fd)


def start_on_terminal(master: int, model: ModelDevice) -> None:
    def write_all(data: bytes) -> None:
        while data:
            data = data[os.write(master, data) :]

    threading.Thread(target=serve, args=(lambda: os.read(master, 4096), write_all, model), daemon=True).start()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        yield server


def url(listener: socket.socket) -> str:
    return f"socket://127.0.0.1:{listener.getsockname()[1]}"


def test_a_serial_port_carries_a_stream(terminal: tuple[int, str]) -> None:
    master, name = terminal
    model = ModelDevice()
    start_on_terminal(master, model)
    samples = np.random.default_rng(0).integers(-32768, 32767, (5000, AXES)).astype(np.int16)
    with Device(open_port(name, timeout_s=10.0), timeout_s=10.0) as device:
        assert device.score(samples).lost == 0
        assert bytes(model.taken) == samples.astype("<i2").tobytes()
        device.reset()
        assert device.info().target == name
    assert model.boots == 2


def test_a_socket_carries_a_stream(listener: socket.socket) -> None:
    model = ModelDevice()

    def accept() -> None:
        with listener.accept()[0] as connection:
            serve(lambda: connection.recv(4096), connection.sendall, model)

    threading.Thread(target=accept, daemon=True).start()
    samples = np.random.default_rng(0).integers(-32768, 32767, (5000, AXES)).astype(np.int16)
    with Device(open_port(url(listener), timeout_s=10.0), timeout_s=10.0) as device:
        assert device.score(samples).lost == 0
    assert bytes(model.taken) == samples.astype("<i2").tobytes()


def test_an_unplugged_port_is_named(terminal: tuple[int, str]) -> None:
    master, name = terminal
    start_on_terminal(master, ModelDevice())
    device = Device(open_port(name, timeout_s=5.0), timeout_s=5.0)
    device.status()
    os.close(master)
    with pytest.raises(KilotuneError, match=name) as caught:
        device.status()
    assert caught.value.code == "device_lost"
    assert "unplugged" in caught.value.hint
    device.close()


def test_a_socket_that_closes_is_named(listener: socket.socket) -> None:
    threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
    with pytest.raises(KilotuneError) as caught:
        Device(open_port(url(listener), timeout_s=5.0), timeout_s=5.0)
    assert caught.value.code == "device_lost"


def test_a_busy_port_is_told_apart(terminal: tuple[int, str]) -> None:
    _, name = terminal
    first = SerialPort(name, timeout_s=1.0)
    with pytest.raises(KilotuneError) as caught:
        SerialPort(name, timeout_s=1.0)
    assert caught.value.code == "port_busy"
    first.close()
    SerialPort(name, timeout_s=1.0).close()


def test_a_failed_connect_leaves_no_open_port(terminal: tuple[int, str]) -> None:
    _, name = terminal
    with pytest.raises(KilotuneError) as caught:
        Device(open_port(name, timeout_s=0.3), timeout_s=0.3)  # nobody answers
    assert caught.value.code == "timeout"
    SerialPort(name, timeout_s=1.0).close()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EBUSY, "Device or resource busy"), "port_busy"),
        (OSError("Could not exclusively lock port COM3: [Errno 11]"), "port_busy"),
        (PermissionError(errno.EACCES, "Permission denied"), "port_denied"),
        (OSError("could not open port 'COM3': PermissionError(13, 'Access is denied.')"), "port_denied"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "no_device"),
        (OSError(errno.EIO, "Input/output error"), "no_device"),
    ],
)
def test_causes_of_a_failed_open_are_told_apart(error: OSError, code: str) -> None:
    found = cannot_open("COM3", error)
    assert found.code == code
    assert "COM3" in found.message
    assert found.hint


def test_a_port_that_is_not_there_and_a_socket_that_nobody_serves() -> None:
    with pytest.raises(KilotuneError) as caught:
        open_port("/dev/no-such-port", timeout_s=1.0)
    assert caught.value.code == "no_device"
    with socket.create_server(("127.0.0.1", 0)) as server:
        unused = url(server)
    with pytest.raises(KilotuneError) as caught:
        open_port(unused, timeout_s=1.0)
    assert caught.value.code == "no_device"


@pytest.mark.parametrize("name", ["socket://", "socket://host", "socket://host:0", "socket://host:port", "socket://:1"])
def test_a_name_that_is_no_socket_is_a_usage_error(name: str) -> None:
    with pytest.raises(KilotuneError) as caught:
        open_port(name, timeout_s=1.0)
    assert caught.value.code == "bad_argument"
