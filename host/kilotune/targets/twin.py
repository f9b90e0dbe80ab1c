"""The target `twin`: the firmware's own kernel, runtime and session inside this process."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.link.transport import DEFAULT_TIMEOUT_S, InProcess
from kilotune.targets import flashfile
from kilotune.targets.boards import FlashLayout, board
from kilotune.twin_library import twin_library

if TYPE_CHECKING:
    from kilotune.image.image import Image


class Twin(Device):
    """A device in this process that computes the same bits as any other; use it with `with`.

    `state`: folder for its flash; None: the flash lasts as long as this object.
    """

    def __init__(self, image: Image, *, state: Path | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        transport = open_transport(state, image.content)
        super().__init__(transport, image=image, timeout_s=timeout_s)  # closes the transport if it fails


def open_transport(state: Path | None, image: bytes | None) -> InProcess:
    """A twin's line. Without `image`, the model in `state` runs; raises KilotuneError `no_model` if there is none."""
    return InProcess(_Flashed(state, image))


class _Flashed:
    """The device and its flash file, if any, which is written whenever the device changes its flash."""

    def __init__(self, state: Path | None, image: bytes | None) -> None:
        layout = self._layout = board("native").flash  # so that twin and native can share a state folder
        self._checkpoints = bytearray([flashfile.ERASED]) * layout.checkpoint_bytes
        self._keys = bytearray([flashfile.ERASED]) * layout.key_bytes
        self._stack = contextlib.ExitStack()
        self._path: Path | None = None
        with contextlib.ExitStack() as stack:
            if state is not None:
                self._path, _ = stack.enter_context(flashfile.held(state, layout, image))
                content = self._path.read_bytes()
                start = layout.checkpoint_offset
                self._checkpoints[:] = content[start : start + layout.checkpoint_bytes]
                self._keys[:] = content[layout.key_offset : layout.key_offset + layout.key_bytes]
                if image is None:
                    image = flashfile.model_in(content, layout)
            if image is None:
                raise KilotuneError(
                    "no_model",
                    "the twin has no model image",
                    "give one with --image model.ktm",
                )
            name = _unique_id(self._path)
            self._session = _native_session(image, self._checkpoints, self._keys, layout, name)
            self._stack = stack.pop_all()
        self._saved = bytes(self._checkpoints), bytes(self._keys)

    def exchange(self, data: bytes) -> bytes:
        answer: bytes = self._session.exchange(data)
        checkpoints, keys = self._saved
        if self._path is not None and (self._checkpoints != checkpoints or self._keys != keys):
            self._saved = bytes(self._checkpoints), bytes(self._keys)
            flashfile.write_region(self._path, self._layout.checkpoint_offset, self._checkpoints)
            flashfile.write_region(self._path, self._layout.key_offset, self._keys)
        return answer

    def close(self) -> None:
        self._stack.close()


def _unique_id(path: Path | None) -> str:
    """A unique id from the path of the flash file: the same file is the same device."""
    return "twin" if path is None else hashlib.sha256(str(path).encode()).hexdigest()[:16]


def _native_session(image: bytes, checkpoints: bytearray, keys: bytearray, layout: FlashLayout, name: str):  # type: ignore[no-untyped-def]  # a compiled class
    return twin_library().Session(
        image, checkpoints, layout.sector_bytes, name, keys=keys, key_sector_bytes=layout.key_sector_bytes
    )
