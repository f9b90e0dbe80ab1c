"""Adapters over the wire, in pieces: pull repeats until all pieces belong together, push continues where it stopped."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from kilotune.errors import KilotuneError
from kilotune.link import messages
from kilotune.link.cbor import bad_message
from kilotune.link.client import Client
from kilotune.link.messages import Kind
from kilotune.link.pace import Pace

_PULL_RESTARTS = 5
_U32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class OutgoingAdapter:
    """An adapter to push, with the image that it belongs to and its training counts."""

    blob: bytes
    image_hash: bytes
    windows: int
    steps: int


def pull(client: Client, size: int, chunk: int, done: Callable[[int], None]) -> bytes:
    """All `size` bytes of the device's adapter, from the same moment, with the right checksum."""
    for _ in range(_PULL_RESTARTS):
        blob = _pull_once(client, size, chunk, done)
        if blob is not None:
            return blob
    raise KilotuneError(
        "busy", "the adapter keeps changing while it is read", "finish the learn phase first, then pull"
    )


def pull_start(client: Client, size: int, length: int) -> bytes:
    """The first `length` of the adapter's `size` bytes: few enough for one message, so from one moment."""
    piece = _piece(client, size, 0, length)
    if len(piece.data) != length:
        raise bad_message(f"{len(piece.data)} bytes of the adapter instead of {length}")
    return piece.data


def _pull_once(client: Client, size: int, chunk: int, done: Callable[[int], None]) -> bytes | None:
    """The whole adapter; None if it changed while it was read."""
    blob = bytearray()
    first: messages.PullChunk | None = None
    pace = Pace(client.clock, client.timeout_s, "reading the adapter")
    while first is None or len(blob) < size:
        piece = _piece(client, size, len(blob), chunk)
        first = first or piece
        if (piece.generation, piece.crc) != (first.generation, first.crc):
            return None
        blob += piece.data
        pace.require(len(blob))
        done(len(blob))
    if zlib.crc32(blob) != first.crc:
        raise KilotuneError("bad_crc", "the pulled adapter has a wrong checksum", "pull it again")
    return bytes(blob)


def _piece(client: Client, size: int, at: int, most: int) -> messages.PullChunk:
    """`most` bytes of the adapter from `at` on, fewer only at its end: a device that sent less could go on for ever."""
    piece = client.ask(messages.PullChunk, Kind.pull, messages.PullRequest(offset=at, length=most))
    if piece.total != size or piece.offset != at:
        raise bad_message("a piece of the adapter from another offset")
    wanted = min(most, size - at)
    if len(piece.data) != wanted:
        raise bad_message(f"{len(piece.data)} bytes of the adapter instead of {wanted}")
    return piece


def push(client: Client, outgoing: OutgoingAdapter, chunk: int, done: Callable[[int], None]) -> messages.Checkpoint:
    """Returns the new checkpoint when the device has verified it in its flash."""
    blob = outgoing.blob
    announced = messages.PushBeginRequest(
        image_hash=outgoing.image_hash,
        total=len(blob),
        crc=zlib.crc32(blob),
        windows=outgoing.windows & _U32,
        steps=outgoing.steps & _U32,
    )
    begun = client.ask(messages.PushNext, Kind.push_begin, announced)
    send(client, Kind.push, blob, begun.next, chunk, "adapter", done)
    made = client.ask(messages.Checkpoint, Kind.push_end)
    if (made.total_bytes, made.crc) != (announced.total, announced.crc):
        raise bad_message("its new checkpoint is not the adapter that was sent")
    return made


def send(
    client: Client, kind: Kind, content: bytes, at: int, step: int, what: str, done: Callable[[int], None]
) -> None:
    """Sends `content` from `at` on, in messages of `kind` with `step` bytes each. `what`: its name in errors."""
    if at > len(content):
        raise bad_message(f"it claims to have {at:,} bytes of the {what}, which has {len(content):,}")
    begun, pace = at, Pace(client.clock, client.timeout_s, f"sending the {what}")
    while at < len(content):
        piece = content[at : at + step]
        taken = client.ask(messages.PushNext, kind, messages.PushRequest(offset=at, data=piece))
        if taken.next != at + len(piece):
            raise bad_message(f"it accepted another piece of the {what} than the one sent")
        at = taken.next
        pace.require(at - begun)
        done(at)
