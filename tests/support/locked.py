"""A locked device on a raw line, its owner, and an attacker who has heard everything but the key."""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import kilotune
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.device.learning import TrainOptions
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link import frames, messages
from kilotune.link import keys as keys_module
from kilotune.link.auth import Key, Lock
from kilotune.link.client import Client
from kilotune.link.keys import KeyRing
from kilotune.link.messages import ANSWER, ERROR_KIND, HEADER, TAGGED, BenchKind, Kind, StreamKind
from kilotune.link.status import statuses
from kilotune.link.transport import InProcess
from kilotune.targets import flashfile, native
from kilotune.targets.boards import board

from tests.support.model_device import zero
from tests.support.small_models import chain

_native = pytest.importorskip("kilotune._native", reason="the compiled module is not installed")

KEY, OTHER_KEY = Key(bytes(range(32))), Key(bytes(range(1, 33)))
LAYOUT = board("native").flash
ANYONE = frozenset({Kind.hello, Kind.challenge})
READERS = frozenset({Kind.model, Kind.status, Kind.results, Kind.life})
OWNERS = frozenset(Kind) - ANYONE - READERS  # new requests belong here until decided otherwise
_SYNC_VERSION = 9  # answered with `bad_version` and without any effect
CONFIG = TrainOptions().train_config(2.0**-10)


def make_image() -> Image:
    features = FeatureConfig(rate_hz=1600.0, window=64, hop=40, fft_points=64, axes=3, bands=8)
    return kilotune.compile(chain(24, 12, 24), method="bias+head", features=features)


def payloads(image: Image) -> dict[Kind, bytes]:
    """A request of every kind that a device may execute."""
    row, blob, content = bytes(24), bytes(image.adapter_bytes), image.content
    learn = replace(zero(messages.LearnConfig), train_config=CONFIG, passes=2, hold_period=8, hold_count=2, noise=8)
    fields: dict[Kind, object] = {
        Kind.challenge: messages.ChallengeRequest(nonce=bytes(16)),
        Kind.key: messages.KeyRequest(lock=Lock.writes, key=OTHER_KEY.secret),
        Kind.learn_begin: learn,
        Kind.stream_begin: messages.StreamBeginRequest(
            stream=1, kind=StreamKind.samples, rate_mhz=1_600_000, axes=3, label=0
        ),
        Kind.samples: messages.SamplesRequest(stream=1, offset=0, results_from=0, data=bytes(120)),
        Kind.stream_end: messages.StreamEndRequest(stream=1),
        Kind.results: messages.ResultsRequest(results_from=0),
        Kind.acknowledge: messages.AcknowledgeRequest(what=messages.Acknowledgement.normal),
        Kind.alarm_rule: messages.AlarmRule(alarmed=2, of=3),
        Kind.input_write: messages.InputWriteRequest(offset=0, data=row),
        Kind.infer: messages.InferRequest(input=row),
        Kind.output_read: messages.OutputReadRequest(offset=0),
        Kind.train_begin: CONFIG,
        Kind.train_step: messages.TrainStepRequest(step=0, label=0, input=row, target=b""),
        Kind.bench: messages.BenchRequest(what=BenchKind.step, count=1, label=0),
        Kind.pull: messages.PullRequest(offset=0, length=100),
        Kind.push_begin: messages.PushBeginRequest(
            image_hash=image.image_hash, total=len(blob), crc=zlib.crc32(blob), windows=1, steps=1
        ),
        Kind.push: messages.PushRequest(offset=0, data=blob[:100]),
        Kind.model_begin: messages.ModelBeginRequest(
            image_hash=image.image_hash, total=len(content), crc=zlib.crc32(content)
        ),
        Kind.model_piece: messages.PushRequest(offset=0, data=content[:304]),
        Kind.model_end: messages.ModelEndRequest(digest=hashlib.blake2s(content).digest()),
        Kind.raw: messages.RawRequest(frames_from=0),
    }
    return {kind: messages.encode_request(kind, fields.get(kind)) for kind in Kind}


class Line(Protocol):
    """A running device: bytes to it, and the raw content of its flash."""

    def exchange(self, data: bytes) -> bytes: ...
    def flash(self) -> bytes: ...
    def restart(self) -> None: ...


class TwinLine:
    def __init__(self, image: Image, flash: bytes) -> None:
        end = LAYOUT.checkpoint_offset + LAYOUT.checkpoint_bytes
        self._image = image
        self._checkpoints = bytearray(flash[LAYOUT.checkpoint_offset : end])
        self._keys = bytearray(flash[LAYOUT.key_offset : LAYOUT.key_offset + LAYOUT.key_bytes])
        self.restart()

    def restart(self) -> None:
        self._session = _native.Session(
            self._image.content, self._checkpoints, LAYOUT.sector_bytes, "locked", keys=self._keys,
            key_sector_bytes=LAYOUT.key_sector_bytes,
        )  # fmt: skip

    def exchange(self, data: bytes) -> bytes:
        answer: bytes = self._session.exchange(data, 0)
        return answer

    def flash(self) -> bytes:
        return bytes(self._checkpoints)


class NativeLine:
    """The firmware as a process; `restart` kills it, as a power cut would."""

    def __init__(self, image: Image, flash: bytes, folder: Path, program: Path | None = None) -> None:
        self._image, self._folder, self._program = image, folder, program
        self._stack = contextlib.ExitStack()
        flashfile.prepare(folder / "flash.bin", LAYOUT, image.content)
        for start, size in ((LAYOUT.checkpoint_offset, LAYOUT.checkpoint_bytes), (LAYOUT.key_offset, LAYOUT.key_bytes)):
            flashfile.write_region(folder / "flash.bin", start, flash[start : start + size])
        self._start()

    def _start(self) -> None:
        name, self._process = self._stack.enter_context(native.run(self._folder, program=self._program))
        self._socket = self._stack.enter_context(
            socket.create_connection(("127.0.0.1", int(name.rpartition(":")[2])), timeout=5)
        )

    def restart(self) -> None:
        self._process.kill()
        self._stack.close()
        self._start()

    def close(self) -> None:
        self._stack.close()

    def exchange(self, data: bytes) -> bytes:
        if data:
            self._socket.sendall(data)
        self._socket.settimeout(0.02 if not data else 5)
        with contextlib.suppress(TimeoutError):
            return self._socket.recv(1 << 16)
        return b""

    def flash(self) -> bytes:
        content = (self._folder / "flash.bin").read_bytes()
        return content[LAYOUT.model_offset : LAYOUT.checkpoint_offset + LAYOUT.checkpoint_bytes]


class Tap:
    """A transport that keeps every frame that its client writes."""

    name, poll_s = "tap", 0.0

    def __init__(self, line: Line) -> None:
        self.line = line
        self.heard: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.heard.append(data)
        self._answer = self.line.exchange(data)

    def read(self, timeout_s: float) -> bytes:
        answer, self._answer = self._answer, b""
        return answer or self.line.exchange(b"")

    def reopen(self, timeout_s: float) -> None:
        self._answer = b""

    def close(self) -> None:
        return None


def prepared_flash(image: Image, lock: Lock, folder: Path) -> bytes:
    """The flash of a device that has learned, committed twice, and has `KEY`."""
    checkpoints = bytearray(b"\xff" * LAYOUT.checkpoint_bytes)
    keys = bytearray(b"\xff" * LAYOUT.key_bytes)
    session = _native.Session(image.content, checkpoints, LAYOUT.sector_bytes, "locked", keys=keys)
    keys_module.write(folder / "locked.key", KEY)
    with Device(InProcess(session), image=image, keys=KeyRing(folder / "locked.key"), insecure=True) as device:
        device.learn(np.random.default_rng(1).normal(size=(3000, 3)).astype(np.float32), passes=1)
        device.commit()
        device.learn(np.random.default_rng(2).normal(size=(3000, 3)).astype(np.float32), passes=2)
        device.commit()
        device.set_key(lock, KEY)
    flash = bytearray(b"\xff" * LAYOUT.used_bytes)
    flash[LAYOUT.checkpoint_offset : LAYOUT.checkpoint_offset + len(checkpoints)] = checkpoints
    flash[LAYOUT.key_offset : LAYOUT.key_offset + len(keys)] = keys
    return bytes(flash)


@dataclass(frozen=True, slots=True)
class Answered:
    kind: int
    sequence: int
    payload: bytes

    @property
    def refusal(self) -> str:
        """The status's name; empty: the request was executed."""
        if self.kind != ERROR_KIND:
            return ""
        return statuses()[messages.decode(messages.ErrorAnswer, self.payload).status].name


@dataclass
class Victim:
    """A locked device under attack. `attempts` counts messages that must not be accepted."""

    line: Line
    attempts: int = 0
    _sessions: int = 0
    _decoder: frames.FrameDecoder = field(default_factory=frames.FrameDecoder)

    def send(self, *bodies: bytes) -> list[Answered]:
        """All answers to these frames, which have correct checksums."""
        sync = HEADER.pack(_SYNC_VERSION, Kind.status, 0xFFFF, 0xFFFF)
        data = b"\0" + b"".join(frames.encode(b) for b in (*bodies, sync))
        answered: list[Answered] = []
        ends = time.monotonic() + 10
        answer = self.line.exchange(data)
        while time.monotonic() < ends:
            for body in self._decoder.feed(answer):
                _, kind, session, sequence = HEADER.unpack_from(body)
                if (session, sequence, kind) == (0xFFFF, 0xFFFF, ERROR_KIND):
                    return answered
                answered.append(Answered(kind, sequence, body[HEADER.size :]))
            answer = self.line.exchange(b"")
        raise AssertionError("the device is silent")

    def attack(self, *bodies: bytes, expect: set[str] | None = None) -> None:
        """Fails if any of them is executed; `expect`: the allowed refusals."""
        self.attempts += len(bodies)
        for answer in self.send(*bodies):
            assert answer.refusal, f"carried out: kind {answer.kind & ~(ANSWER | TAGGED)}"
            assert expect is None or answer.refusal in expect, answer.refusal

    def hello(self, session: int) -> messages.Hello:
        (answer,) = self.send(HEADER.pack(1, Kind.hello, session, 0))
        return messages.decode(messages.Hello, answer.payload)

    def open(self) -> int:
        """An attacker's session, a new one each time; its next sequence number is 1."""
        self._sessions += 1
        self.hello(session := 0x4000 + self._sessions)
        return session

    def challenge(self, session: int) -> Answered:
        (answer,) = self.send(HEADER.pack(1, Kind.challenge, session, 1) + messages.encode(bytes(16)))
        return answer

    def owner(self, key: Key = KEY) -> tuple[Client, Tap]:
        """The owner, in an authenticated session."""
        client, tap = self.someone(key)
        client.request(Kind.status)
        return client, tap

    def someone(self, key: Key) -> tuple[Client, Tap]:
        """A client with this key that has not sent the device a message yet."""
        tap = Tap(self.line)
        self._sessions += 1
        client = Client(tap, timeout_s=10, rng=random.Random(self._sessions))
        client.authenticate(key, client.open().unique_id)
        return client, tap

    def state(self, key: Key = KEY) -> tuple[object, ...]:
        """What no attack may change, as the owner reads it and as it is in flash."""
        client, _ = self.owner(key)
        hello_state = client.ask(messages.DeviceStatus, Kind.status)
        adapter = client.request(Kind.pull, messages.encode(0, 0xFFFF))
        tag = client.ask(messages.AdapterTag, Kind.adapter_tag)
        s = hello_state
        return (s.phase, s.train_steps, s.steps_trained, s.windows_learned, s.checkpoint, s.counters, s.report,
                adapter[-100:], tag.tag, self.line.flash())  # fmt: skip


def tagged(client: Client, kind: Kind, payload: bytes) -> bytes:
    """The body of the client's next frame, which is not sent."""
    _, frame = client.frame(kind, payload)
    decoder = frames.FrameDecoder()
    (body,) = decoder.feed(frame)
    return body


@contextlib.contextmanager
def running(target: str, image: Image, flash: bytes, folder: Path) -> Iterator[Victim]:
    if target == "twin":
        yield Victim(TwinLine(image, flash))
        return
    line = NativeLine(image, flash, folder)
    try:
        yield Victim(line)
    finally:
        line.close()
