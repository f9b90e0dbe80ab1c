"""A serial line between a host and a device that both talk TCP: its speed, its bounded buffer, its faults."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

BITS_A_BYTE = 10  # start, 8 data, stop
_TICK_S = 0.0005
_CHUNK = 65536

# Takes what one side sent; gives what reaches the other side, each piece with its delay in seconds.
Channel = Callable[[bytes], list[tuple[float, bytes]]]


@dataclass
class Direction:
    """Bytes one way: a bounded buffer in front of a line that passes them at its pace."""

    rate: float  # bytes a second; inf: at once
    capacity: int  # of the buffer; what does not fit is dropped, as a UART does
    channel: Channel | None = None
    passed: int = 0
    dropped: int = 0
    busy_s: float = 0.0
    _queue: bytearray = field(default_factory=bytearray)
    _late: list[tuple[float, int, bytes]] = field(default_factory=list)
    _count: int = 0
    _free_at: float = 0.0  # when the line has passed what it was given so far

    def put(self, data: bytes, now: float) -> None:
        pieces = [(0.0, data)] if self.channel is None else self.channel(data)
        for delay_s, piece in pieces:
            if delay_s > 0:
                self._count += 1
                self._late.append((now + delay_s, self._count, piece))
            else:
                self._append(piece, now)

    def _append(self, data: bytes, now: float) -> None:
        if not self._queue:
            self._free_at = max(self._free_at, now)
        room = self.capacity - len(self._queue)
        self._queue += data[:room]
        self.dropped += max(0, len(data) - room)

    def take(self, now: float) -> bytes:
        """The bytes whose stop bit has passed by `now`."""
        due = sorted(entry for entry in self._late if entry[0] <= now)
        self._late = [entry for entry in self._late if entry[0] > now]
        for _, _, piece in due:
            self._append(piece, now)
        if not self._queue:
            return b""
        n = len(self._queue)
        if self.rate != float("inf"):
            n = min(n, int((now - self._free_at) * self.rate))
            self._free_at += n / self.rate
            self.busy_s += n / self.rate
        out = bytes(self._queue[:n])
        del self._queue[:n]
        self.passed += n
        return out

    @property
    def waiting(self) -> bool:
        return bool(self._queue or self._late)

    def forget(self) -> None:
        self._queue.clear()
        self._late.clear()


class Proxy:
    """`socket://127.0.0.1:<port>` leads to `device_port` through `up` (to the device) and `down`."""

    def __init__(self, device_port: int, up: Direction, down: Direction) -> None:
        self.up, self.down = up, down
        self._device_port = device_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._ends = False
        self.error: BaseException | None = None

    def serve(self) -> None:
        """Until `close`: one host after the other. The device keeps its connection where it can."""
        try:
            device: socket.socket | None = None
            while not self._ends:
                if not select.select([self._listener], [], [], 0.05)[0]:
                    continue
                host, _ = self._listener.accept()
                with host:
                    if device is None:
                        device = self._connect()
                    if self._carry(host, device) == "device":
                        device.close()
                        device = None
            if device is not None:
                device.close()
        except OSError as error:
            if not self._ends:
                self.error = error

    def _connect(self) -> socket.socket:
        device = socket.create_connection(("127.0.0.1", self._device_port), timeout=10)
        device.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return device

    def _carry(self, host: socket.socket, device: socket.socket) -> str:
        """Passes bytes until one end is gone; gives its name."""
        host.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        routes = ((host, device, self.up, "host"), (device, host, self.down, "device"))
        while not self._ends:
            busy = self.up.waiting or self.down.waiting
            ready, _, _ = select.select([host, device], [], [], _TICK_S if busy else 0.05)
            now = time.monotonic()
            for source, target, direction, name in routes:
                if source in ready:
                    try:
                        data = source.recv(_CHUNK)
                    except OSError:
                        data = b""
                    if not data:
                        direction.forget()
                        return name
                    direction.put(data, now)
                due = direction.take(time.monotonic())
                if due:
                    try:
                        target.sendall(due)
                    except OSError:
                        return "device" if target is device else "host"
        return "host"

    def close(self) -> None:
        self._ends = True


@contextlib.contextmanager
def between(device_port: int, up: Direction, down: Direction) -> Iterator[Proxy]:
    """A proxy in a thread of its own."""
    proxy = Proxy(device_port, up, down)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(5)
        proxy._listener.close()
        if proxy.error is not None:
            raise proxy.error


def serial_line(device_port: int, baud: float, buffer_bytes: int) -> contextlib.AbstractContextManager[Proxy]:
    """A line of `baud` both ways without faults."""
    rate = baud / BITS_A_BYTE
    return between(device_port, Direction(rate, buffer_bytes), Direction(rate, 1 << 20))
