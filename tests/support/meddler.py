"""Somebody on the line between a locked device and its owner, who has everything but the key."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from kilotune.link import frames, messages
from kilotune.link.messages import ANSWER, ERROR_KIND, HEADER, REQUESTS, TAGGED, Hello, Kind
from kilotune.link.status import statuses

from tests.support.faulty_line import Clock

_TICK_S = 0.1


class Exchange(Protocol):
    """A running device."""

    def exchange(self, data: bytes) -> bytes: ...


def kind_of(body: bytes) -> int:
    """What is asked for, or answered, with a tag or without."""
    return body[1] & ~(ANSWER | TAGGED)


def refusal(request: bytes, name: str) -> bytes:
    """An error answer to a request, as anyone can make it."""
    code = next(s.code for s in statuses().values() if s.name == name)
    _, _, session, sequence = HEADER.unpack_from(request)
    told = messages.encode(messages.ErrorAnswer(kind=kind_of(request), status=code, detail=0))
    return HEADER.pack(1, ERROR_KIND, session, sequence) + told


def asked(request: bytes, kind: Kind) -> bool:
    return kind_of(request) == kind


@dataclass
class Meddler:
    """`answers`: the bodies that the host gets for a request; as it is, those of the device."""

    line: Exchange
    answers: Callable[[Meddler, bytes], list[bytes]] = field(default=lambda self, request: self.device(request))
    heard: list[bytes] = field(default_factory=list)  # tagged answers of the device
    _up: frames.FrameDecoder = field(default_factory=frames.FrameDecoder)
    _down: frames.FrameDecoder = field(default_factory=frames.FrameDecoder)

    def exchange(self, data: bytes) -> bytes:
        bodies = self._up.feed(data)
        if not bodies:
            self.line.exchange(b"")  # a training goes on
        return b"".join(frames.encode(answer) for body in bodies for answer in self.answers(self, body))

    def device(self, request: bytes) -> list[bytes]:
        """What the device answers."""
        answers = self._down.feed(self.line.exchange(b"\0" + frames.encode(request)))
        for _ in range(200):  # a process takes its time
            if answers:
                break
            answers = self._down.feed(self.line.exchange(b""))
        self.heard += [a for a in answers if a[1] != ERROR_KIND and a[1] & TAGGED]
        return answers


class MeddledPort:
    """A meddler as a transport, in a time that passes while nothing comes."""

    name, poll_s = "meddled", 0.0

    def __init__(self, meddler: Meddler, clock: Clock) -> None:
        self._meddler, self._clock, self._ready = meddler, clock, b""

    def write(self, data: bytes) -> None:
        self._ready += self._meddler.exchange(data)

    def read(self, timeout_s: float) -> bytes:
        data, self._ready = self._ready, b""
        if not data:
            self._meddler.exchange(b"")
            self._clock.now_s += max(timeout_s, 1e-3)
        return data

    def reopen(self, timeout_s: float) -> None:
        self._ready = b""

    def close(self) -> None:
        return None


def says(hello: bytes, **fields: object) -> bytes:
    """A device's `hello` with other fields."""
    told = messages.decode(Hello, hello[HEADER.size :])
    changed = {name: getattr(told, name) for name in Hello.__slots__} | fields
    return hello[: HEADER.size] + messages.encode(Hello(**changed))


# --- what a meddler does, with a request of `kind` or with every one ----------------------------------


Meddling = Callable[[Meddler, bytes], list[bytes]]


def made_up(kind: Kind) -> bytes:
    """Fields that an answer to a `kind` may have: the least that the schema allows."""
    cls = REQUESTS[kind].answer
    return b"" if cls is None else messages.encode(*_least(msgspec.inspect.type_info(cls)))


def _least(info: msgspec.inspect.Type) -> list[int | bytes | str]:
    if isinstance(info, msgspec.inspect.DataclassType):
        return [item for f in info.fields for item in _least(f.type)]
    if isinstance(info, msgspec.inspect.Metadata):
        return _least(info.type)
    if isinstance(info, msgspec.inspect.BytesType):
        return [bytes(info.min_length or 0)]
    if isinstance(info, msgspec.inspect.StrType):
        return [""]
    return [info.ge or 0] if isinstance(info, msgspec.inspect.IntType) else [0]


def forged(kind: Kind, double: Exchange) -> Meddling:
    """The device never hears of it: a device of the meddler's own, without a lock, takes it and answers.

    Where that one refuses, the success is made up.
    """
    own = Meddler(double)
    opened: set[int] = set()

    def answers(meddler: Meddler, request: bytes) -> list[bytes]:
        _, _, session, sequence = HEADER.unpack_from(request)
        if session not in opened:
            opened.add(session)
            own.device(HEADER.pack(1, Kind.hello, session, sequence - 1 & 0xFFFF))
        told = own.device(untagged(request))
        if not asked(request, kind):
            return meddler.device(request)
        head = bytes([1, kind | ANSWER]) + request[2 : HEADER.size]
        return [head + made_up(kind) if answer[1] == ERROR_KIND else answer for answer in told]

    return answers


def replayed(kind: Kind) -> Meddling:
    """It never hears of it, and the host gets every answer that there was, as it was and made to fit."""

    def answers(meddler: Meddler, request: bytes) -> list[bytes]:
        if not asked(request, kind):
            return meddler.device(request)
        head = bytes([1, request[1] | ANSWER | TAGGED]) + request[2 : HEADER.size]
        return [body for old in meddler.heard for body in (old, head + old[HEADER.size :])]

    return answers


def refused(kind: Kind, name: str) -> Meddling:
    """The device does it, and the host hears that it has not."""

    def answers(meddler: Meddler, request: bytes) -> list[bytes]:
        told = meddler.device(request)
        return [refusal(request, name)] if asked(request, kind) else told

    return answers


def dropped(seed: int) -> Meddling:
    """Every other request or answer gets lost."""
    rng = random.Random(seed)

    def answers(meddler: Meddler, request: bytes) -> list[bytes]:
        if rng.random() < 0.25:
            return []
        told = meddler.device(request)
        return told if rng.random() < 0.66 else []

    return answers


def reordered() -> Meddling:
    """Answers come twice, late, and behind others."""
    late: list[bytes] = []

    def answers(meddler: Meddler, request: bytes) -> list[bytes]:
        told = meddler.device(request)
        late.extend(told)
        old, late[:] = late[-6:-1], late[-6:]
        return [*old, *told, *told]

    return answers


# --- for commands as processes --------------------------------------------------------------------------


def impersonated(double: Exchange) -> Meddling:
    """The device hears the greeting and the challenge only; `double`, without a lock, does and answers the rest."""
    own = Meddler(double)
    opened: set[int] = set()

    def answers(meddler: Meddler, request: bytes) -> list[bytes]:
        _, _, session, sequence = HEADER.unpack_from(request)
        if asked(request, Kind.hello) or asked(request, Kind.challenge):
            return meddler.device(request)
        if session not in opened:
            opened.add(session)
            own.device(HEADER.pack(1, Kind.hello, session, sequence - 1 & 0xFFFF))
        return own.device(untagged(request))

    return answers


def untagged(request: bytes) -> bytes:
    """As a device without a lock takes it."""
    if not request[1] & TAGGED:
        return request
    return bytes([request[0], request[1] & ~TAGGED]) + request[2 : -messages.TAG_BYTES]


def greeted(**fields: object) -> Meddling:
    """The device's greeting with other fields; all else is its own."""

    def answers(meddler: Meddler, request: bytes) -> list[bytes]:
        told = meddler.device(request)
        return [says(body, **fields) for body in told] if asked(request, Kind.hello) else told

    return answers


@contextlib.contextmanager
def listening(meddler: Meddler) -> Iterator[str]:
    """The meddler's port; one host at a time."""
    stopping = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_TICK_S)

        def serve() -> None:
            while not stopping.is_set():
                with contextlib.suppress(OSError):
                    host, _ = server.accept()
                    with host:
                        _serve(host, meddler, stopping)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"socket://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stopping.set()
            thread.join(10)


def _serve(host: socket.socket, meddler: Meddler, stopping: threading.Event) -> None:
    host.settimeout(_TICK_S)
    while not stopping.is_set():
        try:
            data = host.recv(1 << 16)
        except TimeoutError:
            continue
        if not data:
            return
        host.sendall(meddler.exchange(data))
