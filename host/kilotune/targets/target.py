"""From a target's name to a running device: `twin`, `native[:CHIP=RECORDING]`, `qemu:BOARD`, or a port, and so on."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.common.files import make_private
from kilotune.errors import KilotuneError
from kilotune.link.clock import SYSTEM_CLOCK, Clock
from kilotune.link.transport import DEFAULT_TIMEOUT_S, Transport, open_port

if TYPE_CHECKING:
    from kilotune.image.image import Image
    from kilotune.targets.feed import Feed

_BOARDLESS = ("twin", "native")
_EMULATORS = ("qemu", "renode", "rp2040js")
# Bytes that reach an emulated serial port before the reset are lost, and would have to be repeated later.
_EMULATOR_RESET_S = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """Where a device runs. `kind` is "twin", "native", "qemu", "renode", "rp2040js" or "port"."""

    kind: str
    name: str  # as given
    board: str = ""  # of an emulator, and "native"
    port: str = ""  # "/dev/ttyACM0", "socket://host:port"
    feed: Feed | None = None  # the sensor of "native" and "renode"

    def start(
        self,
        image: Image | None = None,
        *,
        state: Path | None = None,
        fresh: bool = False,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> Transport:
        """The line to the device, which is started if necessary; closing the line ends it.

        `image` is written to the model partition of a target without hardware; None keeps what is there.
        `state`: folder for the flash (None: in the user's cache). `fresh`: empty flash, discarded at the end.
        """
        if self.kind == "port":
            return open_port(self.port, timeout_s=timeout_s)
        if image is not None and self.kind in _EMULATORS:
            from kilotune.targets.fit import require_fit

            require_fit(image, self.board, learns=False)  # it may be here to infer
        content = image.content if image is not None else None
        if self.kind == "twin":
            from kilotune.targets import twin

            return twin.open_transport(None if fresh else state_folder(self, state), content)
        rate_hz = image.features.rate_hz if image is not None and image.features is not None else None
        with contextlib.ExitStack() as stack:
            if fresh:
                state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kilotune-")))
            folder = state_folder(self, state)
            line = _start(self, stack, folder, content, rate_hz=rate_hz, timeout_s=timeout_s)
            stack.callback(line.close)
            settle_s = _EMULATOR_RESET_S if self.kind in _EMULATORS else 0.0
            return StartedDevice(line, self.name, stack.pop_all(), settle_s=settle_s)


def parse_target(text: str) -> Target:
    """Raises KilotuneError `bad_argument` for a name without meaning, `unknown_board` for an unknown board."""
    if text in _BOARDLESS:
        return Target(text, text, board="native")
    kind, _, rest = text.partition(":")
    if kind == "native":
        from kilotune.targets.feed import parse_feed

        return Target(kind, text, board="native", feed=parse_feed(rest))
    if kind in _EMULATORS and not rest.startswith("//"):
        if not rest:
            raise KilotuneError("bad_argument", f"'{text}' names no board", f"write it as {kind}:mps2-an386")
        if kind == "renode":
            return _parse_renode(text, rest)
        if kind == "qemu":
            from kilotune.targets.qemu import emulated

            emulated(rest)
        else:
            from kilotune.targets import rp2040js

            rp2040js.emulated(rest)
        return Target(kind, text, board=rest)
    looks_like_port = text.startswith(("/", "socket://", "COM", "loop://", "rfc2217://")) or Path(text).is_char_device()
    if not looks_like_port:
        raise KilotuneError(
            "bad_argument",
            f"'{text}' is not a target",
            "give twin, native, native:CHIP=RECORDING, qemu:BOARD, renode:BOARD, a serial port, or socket://host:port",
        )
    return Target("port", text, port=text)


def _parse_renode(text: str, rest: str) -> Target:
    from kilotune.targets import renode
    from kilotune.targets.feed import parse_feed

    board_id, comma, sensor = rest.partition(",")
    feed = parse_feed(sensor) if comma else None
    if feed is not None and (feed.virtual or feed.spi):
        raise KilotuneError("bad_argument", f"'{text}': Renode determines time and bus", "omit 'virtual,' and 'spi,'")
    renode.emulated(board_id, feed.chip if feed is not None else "")
    return Target("renode", text, board=board_id, feed=feed)


def state_folder(target: Target, state: Path | None) -> Path:
    """Where the target keeps its flash between commands: one folder per target, created if missing."""
    base = state if state is not None else _cache() / "devices"
    # With and without a sensor, it is the same device.
    name = {"native": "native", "renode": f"renode:{target.board}"}.get(target.kind, target.name)
    folder = base / name.replace(":", "-")
    try:
        base.mkdir(parents=True, exist_ok=True)
        make_private(folder)  # the flash holds the key of a locked device
    except OSError as error:
        raise KilotuneError(
            "bad_state", f"cannot create the folder {folder}: {error.strerror}", "name another one with --state"
        ) from error
    return folder.resolve()


def _cache() -> Path:
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "kilotune"


def _start(
    target: Target,
    stack: contextlib.ExitStack,
    folder: Path,
    content: bytes | None,
    *,
    rate_hz: float | None,
    timeout_s: float,
) -> Transport:
    from kilotune.targets import native, qemu, renode, rp2040js

    if target.kind == "native":
        options = target.feed.arguments(folder, rate_hz) if target.feed is not None else ()
        port, _ = stack.enter_context(native.run(folder, content, options=options))
    elif target.kind == "renode":
        feed = target.feed
        resd = feed.resd(folder, rate_hz) if feed is not None else None
        chip = feed.chip if feed is not None else ""
        port, _ = stack.enter_context(renode.run(target.board, folder, content, chip=chip, resd=resd))
    elif target.kind == "rp2040js":
        port, _ = stack.enter_context(rp2040js.run(target.board, folder, content))
    else:
        # Its time counts instructions, so that they can be measured.
        port, _ = stack.enter_context(qemu.run(target.board, folder, content, counting=True))
    return open_port(port, timeout_s=timeout_s)


class StartedDevice:
    """The line to a device that was started for it; closing it ends the device."""

    def __init__(
        self,
        line: Transport,
        name: str,
        stack: contextlib.ExitStack,
        *,
        settle_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.name = name
        self.poll_s = line.poll_s
        self._line = line
        self._stack = stack
        self._settle_s = settle_s
        self._clock = clock

    def write(self, data: bytes) -> None:
        self._line.write(data)

    def read(self, timeout_s: float) -> bytes:
        return self._line.read(timeout_s)

    def reopen(self, timeout_s: float) -> None:
        self._clock.sleep(self._settle_s)
        self._line.reopen(timeout_s)

    def close(self) -> None:
        self._stack.close()
