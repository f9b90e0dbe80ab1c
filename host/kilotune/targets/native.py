"""The target `native`: the firmware as a process of this computer, its serial line on a TCP port."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from kilotune.targets import flashfile
from kilotune.targets.boards import board
from kilotune.targets.build import native_program
from kilotune.targets.process import DeviceProcess

START_S = 10.0


@contextlib.contextmanager
def run(
    state: Path,
    image: bytes | None = None,
    *,
    timeout_s: float = START_S,
    options: Sequence[str] = (),
    program: Path | None = None,
    terminal: bool = False,
) -> Iterator[tuple[str, DeviceProcess]]:
    """Runs the device with the flash file in `state`; gives its port (`socket://...`) and its process.

    `options`: of the program, such as `--uart` (see `kilotune-native --help`). `program`: another build of it.
    `terminal`: the port is a pseudo-terminal.
    """
    port_file = state / "port"
    program = native_program() if program is None else program
    with flashfile.held(state, board("native").flash, image) as (flash, lock):
        port_file.unlink(missing_ok=True)
        command = [
            str(program),
            "--flash",
            str(flash),
            *(["--pty"] if terminal else ["--tcp", "0"]),
            "--port-file",
            str(port_file),
            "--exit-with-stdin",
            *options,
        ]
        with DeviceProcess(command, state / "native.log", "the native device", holds=lock) as process:
            process.wait_for(port_file.is_file, timeout_s)
            port = port_file.read_text(encoding="ascii").strip()
            yield port if terminal else f"socket://127.0.0.1:{port}", process
