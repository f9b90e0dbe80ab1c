"""`connect`: a device on any target behind one interface."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.image.image import Image


DEFAULT_TIMEOUT_S = 30.0


def connect(
    target: str,
    image: Image | Path | str | None = None,
    state: Path | str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    key_file: Path | str | None = None,
) -> Device:
    """Opens `twin`, `native`, `qemu:BOARD`, `renode:BOARD` or a serial port; close it with `with`.

    `image` (or its file) is needed where the device brings no model of its own. `state` is the folder
    that keeps the flash of a target without hardware; None: one in the user's cache. `key_file`: of a
    locked device; None: the user's, by the device's unique id. `timeout_s`: of every answer. Raises
    KilotuneError: `bad_argument` (no such target), `no_device`, `port_busy`, `port_denied`, `no_image`, `no_emulator`,
    `cannot_start`, `timeout` and, where firmware has to be built, `missing_tool` and `build_failed`.
    """
    from kilotune.image.image import Image
    from kilotune.link.keys import KeyRing
    from kilotune.targets.target import open as open_target

    loaded = Image.load(image) if isinstance(image, (str, Path)) else image
    folder = Path(state) if state is not None else None
    keys = KeyRing(Path(key_file)) if key_file is not None else None
    return open_target(target, image=loaded, state=folder, timeout_s=timeout_s, keys=keys)


@contextmanager
def connect_fresh(
    target: str,
    image: Image,
    state: Path | str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    key_file: Path | str | None = None,
) -> Iterator[Device]:
    """As `connect`, but a target without hardware starts with empty flash and leaves none behind.

    With `state`, or on a port, it is `connect`: there the device's own checkpoint counts.
    """
    from kilotune.targets.target import parse_target

    if state is not None or parse_target(target).kind == "port":
        with connect(target, image, state, timeout_s, key_file) as device:
            yield device
        return
    if parse_target(target).kind == "twin":
        from kilotune.targets.twin import Twin

        with Twin(image, timeout_s=timeout_s) as twin:
            yield twin
        return
    with (
        tempfile.TemporaryDirectory(prefix="kilotune-") as folder,
        connect(target, image, folder, timeout_s) as device,
    ):
        yield device
