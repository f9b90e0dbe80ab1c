"""Encodes and decodes the messages of `wire`; checks the range of every field."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec

from kilotune.link import cbor
from kilotune.link.wire import *  # noqa: F403 (whatever the schema has, under its own names)
from kilotune.link.wire import REQUESTS, Kind

HEADER = struct.Struct("<BBHH")  # protocol version, kind, session, sequence number
RESULT = struct.Struct("<hBBBB")  # score, refused, flags, category, reserved


@dataclass(frozen=True, slots=True)
class WindowResult:
    """`index`: windows since the stream began; `score`: Q10 log2; `refused`, `flags`: bits; see SPEC 3.4."""

    index: int
    score: int
    refused: int  # `Refusal` bits
    flags: int  # `WindowFlag` bits
    category: int


T = TypeVar("T")


def encode(*values: Any) -> bytes:
    """CBOR of the array of `values`; dataclasses are laid out in place. No values: no bytes."""
    items = [item for value in values for item in _flat(value)]
    return cbor.encode(tuple(items)) if items else b""


def encode_request(kind: Kind, message: object) -> bytes:
    """CBOR of the fields that this kind of request has; None: it has none."""
    wanted = REQUESTS[kind].fields or type(None)
    if type(message) is not wanted:
        raise TypeError(f"the fields of {kind.name} are {wanted.__name__}, not {type(message).__name__}")
    return b"" if message is None else encode(message)


def decode(cls: type[T], payload: bytes) -> T:
    """The message of class `cls`; raises KilotuneError `bad_message` if anything differs from the schema."""
    items = cbor.decode(payload)
    layout: Any = cls
    if len(items) != _width(layout):
        raise cbor.bad_message(f"{cls.__name__} has {_width(layout)} fields, not {len(items)}")
    try:
        return msgspec.convert(_nest(layout, iter(items)), cls, strict=True, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise cbor.bad_message(f"{cls.__name__}: {error}") from None


def unpack_results(first: int, packed: bytes) -> list[WindowResult]:
    """Window results as stored in a message, 6 bytes each."""
    if len(packed) % RESULT.size:
        raise cbor.bad_message("results with an incomplete length")
    results = []
    for i, (score, refused, flags, category, _) in enumerate(RESULT.iter_unpack(packed)):
        results.append(WindowResult(first + i, score, refused, flags, category))
    return results


def _flat(value: Any) -> list[Any]:
    if is_dataclass(value) and not isinstance(value, type):
        return [item for f in fields(value) for item in _flat(getattr(value, f.name))]
    return [int(value)] if isinstance(value, int) else [value]


@cache
def _layout(cls: Any) -> tuple[tuple[str, type | None], ...]:
    """(field, its class if it is a group of fields), in the order on the wire."""
    hints = get_type_hints(cls)
    return tuple((f.name, hints[f.name] if is_dataclass(hints[f.name]) else None) for f in fields(cls))


@cache
def _width(cls: Any) -> int:
    return sum(1 if group is None else _width(group) for _, group in _layout(cls))


def _nest(cls: type, items: Any) -> dict[str, Any]:
    return {name: next(items) if group is None else _nest(group, items) for name, group in _layout(cls)}
