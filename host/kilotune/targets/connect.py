"""`connect`: a device on any target behind one interface."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.link.transport import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.image.image import Image


def connect(
    target: str,
    image: Image | Path | str | None = None,
    state: Path | str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    key_file: Path | str | None = None,
    *,
    fresh: bool = False,
    insecure: bool = False,
) -> Device:
    """Opens `twin`, `native`, `qemu:BOARD`, `renode:BOARD` or a serial port; close it with `with`.

    `image` (or its file) is required if the device has no model. `state` is the folder for the flash of a target
    without hardware; None: one in the user's cache. `fresh`: without hardware and `state`, start with empty flash and
    discard it at the end. `key_file`: key of a locked device; None: from the user's key folder, by the device's
    unique id. `insecure`: accept a device that claims to have no key, or another one, although its key is here
    (`lock_lost`, `wrong_key`). `timeout_s`: longest wait for any one answer. Raises KilotuneError: `bad_argument` (no
    such target), `no_device`, `port_busy`, `port_denied`, `no_image`, `no_emulator`, `cannot_start`, `timeout` and, if
    firmware has to be built, `missing_tool` and `build_failed`. A failed connect leaves nothing running.
    """
    from kilotune.device.device import Device
    from kilotune.image.image import Image
    from kilotune.link.keys import KeyRing
    from kilotune.targets.target import parse_target

    loaded = Image.load(image) if isinstance(image, (str, Path)) else image
    folder = Path(state) if state is not None else None
    chosen = parse_target(target)
    made_now = fresh and folder is None and chosen.kind != "port"  # such a device cannot have had a key
    line = chosen.start(loaded, state=folder, fresh=made_now, timeout_s=timeout_s)
    keys = KeyRing(Path(key_file)) if key_file is not None else None
    # Closes the line if it fails.
    return Device(line, image=loaded, timeout_s=timeout_s, keys=keys, insecure=insecure or made_now)
