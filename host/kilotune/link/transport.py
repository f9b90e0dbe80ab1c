"""Byte pipes to a device: a serial port, a TCP socket, or the device's own code in this process."""

from __future__ import annotations

import errno
import select
import socket
from typing import Any, Protocol

from kilotune.errors import KilotuneError
from kilotune.link.clock import SYSTEM_CLOCK, Clock

DEFAULT_BAUD = 115200
DEFAULT_TIMEOUT_S = 30.0  # of every answer
_POLL_S = 0.05
_SOCKET_PREFIX = "socket://"


class Transport(Protocol):
    """A byte pipe; every call may raise KilotuneError `device_lost`."""

    name: str
    poll_s: float  # pause between two status requests while training runs on the device

    def write(self, data: bytes) -> None: ...

    def read(self, timeout_s: float) -> bytes:
        """What has arrived, immediately if there is something; b"" after `timeout_s` without data."""
        ...

    def reopen(self, timeout_s: float) -> None:
        """Called after a restart of the device: waits until bytes can flow again."""
        ...

    def close(self) -> None: ...


class Exchanger(Protocol):
    """A device in this process: takes what the host wrote, returns its answers, and trains a little."""

    def exchange(self, data: bytes) -> bytes: ...


class InProcess:
    """The twin: each write or read lets the device's loop run once."""

    poll_s = 0.0

    def __init__(self, device: Exchanger, name: str = "twin") -> None:
        self.name = name
        self._device = device
        self._answers = b""

    def write(self, data: bytes) -> None:
        self._answers += self._device.exchange(data)

    def read(self, timeout_s: float) -> bytes:
        data = self._answers or self._device.exchange(b"")
        self._answers = b""
        return data

    def reopen(self, timeout_s: float) -> None:
        self._answers = b""

    def close(self) -> None:
        close = getattr(self._device, "close", None)
        if close is not None:
            close()


class TcpPort:
    """`socket://host:port`: an emulator's serial port, or a process."""

    poll_s = _POLL_S

    def __init__(self, host: str, port: int, *, timeout_s: float) -> None:
        self.name = f"{_SOCKET_PREFIX}{host}:{port}"
        self._timeout_s = timeout_s
        try:
            self._socket = socket.create_connection((host, port), timeout=timeout_s)
        except OSError as error:
            raise KilotuneError(
                "no_device",
                f"cannot connect to {self.name}: {error.strerror or error}",
                "check that the emulator or process runs and listens on this port",
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def write(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.sendall(data)
        except TimeoutError as error:
            raise stalled(self.name, self._timeout_s) from error
        except OSError as error:
            raise lost(self.name, error) from error

    def read(self, timeout_s: float) -> bytes:
        try:
            ready, _, _ = select.select([self._socket], [], [], max(0.0, timeout_s))
            if not ready:
                return b""
            data = self._socket.recv(65536)
        except (OSError, ValueError) as error:
            raise lost(self.name, error) from error
        if not data:
            raise lost(self.name, None)
        return data

    def reopen(self, timeout_s: float) -> None:
        """The other end keeps the connection across a reset of the device."""

    def close(self) -> None:
        self._socket.close()


class SerialPort:
    """A serial port of this computer, held exclusively."""

    poll_s = _POLL_S

    def __init__(self, port: str, *, baud: int = DEFAULT_BAUD, timeout_s: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self.name = port
        self._clock = clock
        self._baud = baud
        self._timeout_s = timeout_s
        self._serial = self._open()

    def _open(self) -> Any:
        import serial

        try:
            return serial.serial_for_url(
                self.name, baudrate=self._baud, timeout=_POLL_S, write_timeout=self._timeout_s, exclusive=True
            )
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise cannot_open(self.name, error) from error

    def write(self, data: bytes) -> None:
        import serial

        try:
            self._serial.write(data)
        except serial.SerialTimeoutException as error:
            raise stalled(self.name, self._timeout_s) from error
        except (OSError, TypeError) as error:  # pyserial: TypeError if the port has vanished
            raise lost(self.name, error) from error

    def read(self, timeout_s: float) -> bytes:
        deadline = self._clock() + timeout_s
        while True:
            try:
                waiting = self._serial.in_waiting
                data = bytes(self._serial.read(waiting or 1)) if waiting or timeout_s > 0 else b""
            except (OSError, TypeError) as error:
                raise lost(self.name, error) from error
            if data or self._clock() >= deadline:
                return data

    def reopen(self, timeout_s: float) -> None:
        """A board with its own USB port vanishes while it restarts, and comes back under the same name."""
        deadline = self._clock() + timeout_s
        self._serial.close()
        while True:
            try:
                self._serial = self._open()
                return
            except KilotuneError:
                if self._clock() >= deadline:
                    raise
                self._clock.sleep(0.1)

    def close(self) -> None:
        self._serial.close()


def open_port(port: str, *, timeout_s: float, baud: int = DEFAULT_BAUD) -> Transport:
    """`socket://host:port`, or the name of a serial port (`/dev/ttyACM0`, `COM3`)."""
    if not port.startswith(_SOCKET_PREFIX):
        return SerialPort(port, baud=baud, timeout_s=timeout_s)
    host, _, number = port[len(_SOCKET_PREFIX) :].rpartition(":")
    if not host or not number.isdecimal() or not 0 < int(number) < 65536:
        raise KilotuneError("bad_argument", f"'{port}' is not a socket address", "write it as socket://127.0.0.1:4000")
    return TcpPort(host, int(number), timeout_s=timeout_s)


def lost(name: str, error: Exception | None) -> KilotuneError:
    why = f": {error}" if error is not None and str(error) else ""
    return KilotuneError(
        "device_lost",
        f"the connection to {name} broke{why}",
        "check whether it was unplugged or its process ended, and connect again; committed learning is kept",
    )


def stalled(name: str, timeout_s: float) -> KilotuneError:
    return KilotuneError(
        "timeout",
        f"{name} accepted no bytes for {timeout_s:g} s",
        "the device may hang: restart it; give slow devices a longer --timeout",
    )


def cannot_open(name: str, error: Exception) -> KilotuneError:
    """The error by its cause: another program, no permission, no such port."""
    text = str(error).lower()
    number = getattr(error, "errno", None)
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in text or "busy" in text:
        return KilotuneError(
            "port_busy",
            f"the port {name} is in use by another program",
            "close the other program, such as a serial monitor, and try again",
        )
    if number in (errno.EACCES, errno.EPERM) or "permission" in text or "access is denied" in text:
        return KilotuneError(
            "port_denied",
            f"no permission to use the port {name}",
            "on Linux, install the udev rule host/60-kilotune.rules (it says how), or join the group that owns "
            "the port (`sudo usermod -aG dialout $USER`, then log in again); "
            "on Windows, another program may have it open",
        )
    if number == errno.ENOENT or "no such file" in text or "could not find" in text or "filenotfound" in text:
        return KilotuneError(
            "no_device", f"there is no port {name}", "`kilotune ports` lists the ports of this computer"
        )
    return KilotuneError(
        "no_device", f"cannot open {name}: {error}", "`kilotune ports` lists the ports of this computer"
    )
