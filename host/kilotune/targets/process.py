"""A device that is a process of this computer: started, waited for with a limit, and ended by its own id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from kilotune.errors import KilotuneError

_END_S = 5.0


class DeviceProcess:
    """One process in its own group, with its output in `log`. Use it with `with`, or `close` it.

    Its standard input is a pipe from this process, so that a device that watches it ends with its parent.
    `holds`: the lock of its flash file, which then lasts as long as the process.
    """

    def __init__(self, command: list[str], log: Path, name: str, *, holds: int | None = None) -> None:
        self._log = log
        self._name = name
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=() if holds is None else (holds,),
                )
        except OSError as error:
            raise KilotuneError(
                "cannot_start", f"cannot start {name}: {error.strerror}", f"command: {command[0]}"
            ) from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Polls until `ready`; raises KilotuneError with the end of the log if the process dies or time is up."""
        end = time.monotonic() + timeout_s
        while not ready():
            if self._process.poll() is not None:
                raise self._error(f"{self._name} ended with status {self._process.returncode} before it was ready")
            if time.monotonic() > end:
                self.close()
                raise self._error(f"{self._name} was not ready after {timeout_s:g} s")
            time.sleep(0.01)

    def output(self) -> str:
        """What the process has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def press_reset(self) -> None:
        """Restarts the native device at once, whatever it is doing; its line stays open."""
        self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """Ends it at once, as a power cut would."""
        self._signal(signal.SIGKILL)
        self._process.wait(_END_S)

    def close(self) -> None:
        """Ends the process: closes its input and asks it to end, then uses force. Harmless if it has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._process.poll() is None:
            self._signal(signal.SIGTERM)
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
                self._process.wait(_END_S)

    def __enter__(self) -> DeviceProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, number)  # the leader is alive, so the group is ours

    def _error(self, message: str) -> KilotuneError:
        try:
            tail = self.output().strip()[-500:]
        except OSError:
            tail = ""
        return KilotuneError("cannot_start", message + (f": {tail}" if tail else ""), f"its log: {self._log}")


def free_port() -> int:
    """A TCP port of this computer that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether something listens there; does not connect, as the server may accept one client only."""
    wanted = {f"{address}:{port:04X}" for address in ("0100007F", "00000000")}  # 127.0.0.1, any
    try:
        with Path("/proc/net/tcp").open(encoding="ascii") as table:
            return any(row.split()[1] in wanted and row.split()[3] == "0A" for row in table)
    except OSError:  # not Linux
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
