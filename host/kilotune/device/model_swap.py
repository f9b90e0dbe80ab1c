"""Replaces the model over the wire: sent in pieces, verified and checked by the device, then run; all or nothing."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from hashlib import blake2s

from kilotune.errors import KilotuneError
from kilotune.link import messages, transfer
from kilotune.link.client import Client
from kilotune.link.messages import Kind
from kilotune.link.status import RefusedError

_ATTEMPTS = 3  # each in another place of the flash, in case one is worn out
_UNIT = 16  # a piece ends with a whole flash word
_OF_SENSOR = {
    "wrong_rate": "does not measure at this rate",
    "wrong_range": "has no range of this full scale",
    "wrong_axes": "has fewer axes",
}


def swap_model(
    client: Client, content: bytes, image_hash: bytes, chunk: int, done: Callable[[int], None]
) -> messages.Model:
    """Sends `content`; returns the device's description of it when it runs. If anything fails, the old model runs on.

    Raises KilotuneError `no_room`, `no_memory`, `unsupported_op`, `wrong_rate` and others if refused before the switch.
    """
    try:
        for last in (False,) * (_ATTEMPTS - 1) + (True,):
            try:
                _send(client, content, image_hash, chunk, done)
                break
            except RefusedError as error:
                if error.code != "flash_failed" or last:
                    raise
        return client.ask(messages.Model, Kind.model_end, messages.ModelEndRequest(digest=blake2s(content).digest()))
    except RefusedError as error:
        raise _explained(error, len(content)) from error


def _send(client: Client, content: bytes, image_hash: bytes, chunk: int, done: Callable[[int], None]) -> None:
    announced = messages.ModelBeginRequest(image_hash=image_hash, total=len(content), crc=zlib.crc32(content))
    begun = client.ask(messages.PushNext, Kind.model_begin, announced)
    transfer.send(client, Kind.model_piece, content, begun.next, chunk // _UNIT * _UNIT, "model", done)


def _explained(error: RefusedError, size: int) -> KilotuneError:
    """The refusal with a text for this command; its status stays the code."""
    flash = "write it with `kilotune flash`, which overwrites the present model and must not be interrupted"
    if error.code == "no_room" and error.detail == 0:
        text = "the flash of this board cannot hold two models: its model partition has too few parts to erase"
        return _in_words(error, text, flash)
    if error.code == "no_room" and size > error.detail:
        text = f"the model image has {size:,} bytes, but next to another this device has room for {error.detail:,}"
        return _in_words(error, text, flash)
    if error.code == "no_room":
        text = f"the running model has more than the {error.detail:,} bytes that this device can keep next to another"
        return _in_words(error, text, flash)
    if error.code == "no_memory":
        text = f"the model needs {error.detail:,} bytes of RAM, more than this firmware has for it"
        return _in_words(error, text, "build and flash the firmware for this model, or choose a smaller one")
    if error.code in _OF_SENSOR:
        text = f"the device's sensor {_OF_SENSOR[error.code]}"
        return _in_words(error, text, "compile the model for this sensor; `kilotune flash` takes any model")
    return error


def _in_words(error: RefusedError, text: str, hint: str) -> RefusedError:
    return RefusedError(error.status, error.detail, error.doing, text, hint)
