"""The part of CBOR that messages use; anything else from a device is refused, not interpreted.

A general decoder builds whatever a sender asks for (big numbers, patterns, shared references, deep nesting). A
message is one array of integers, byte strings and texts, so this decoder knows nothing else.
"""

from __future__ import annotations

import cbor2

from kilotune.errors import KilotuneError

Item = int | bytes | str
_LENGTH_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}
_BREAK = 0xFF
_INDEFINITE = 31


def encode(items: tuple[Item, ...]) -> bytes:
    return cbor2.dumps(list(items))


def decode(payload: bytes) -> list[Item]:
    """The items of the array in `payload`; raises KilotuneError `bad_message` for anything else."""
    try:
        major, value, at = _head(payload, 0)
        if major != 4:
            raise ValueError("it is not an array")
        items: list[Item] = []
        while value is None or len(items) < value:
            if value is None and payload[at] == _BREAK:
                at += 1
                break
            item, at = _item(payload, at)
            items.append(item)
        if at != len(payload):
            raise ValueError("bytes follow its end")
    except (IndexError, ValueError) as error:
        raise bad_message(str(error)) from None
    return items


def bad_message(why: str) -> KilotuneError:
    return KilotuneError(
        "bad_message",
        f"the device sent a message that cannot be decoded: {why}",
        "use firmware and tools of the same release",
    )


def _head(payload: bytes, at: int) -> tuple[int, int | None, int]:
    """(major type, value or None if the length is indefinite, offset after it)"""
    major, low = payload[at] >> 5, payload[at] & 31
    at += 1
    if low < 24:
        return major, low, at
    if low == _INDEFINITE and major == 4:
        return major, None, at
    n = _LENGTH_BYTES.get(low)
    if n is None or at + n > len(payload):
        raise ValueError("an item is malformed or cut off")
    return major, int.from_bytes(payload[at : at + n], "big"), at + n


def _item(payload: bytes, at: int) -> tuple[Item, int]:
    major, value, at = _head(payload, at)
    if value is None or major > 3:
        raise ValueError("it holds an item of an unexpected type")
    if major == 0:
        return value, at
    if major == 1:
        return -1 - value, at
    end = at + value
    if end > len(payload):
        raise ValueError("a string is cut off")
    return (payload[at:end] if major == 2 else payload[at:end].decode("utf-8")), end
