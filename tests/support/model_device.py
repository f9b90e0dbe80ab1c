"""A second implementation of a device, from docs/SPEC.md."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import cbor2
from kilotune.link import frames, messages
from kilotune.link.messages import ANSWER, ERROR_KIND, HEADER, Kind, Phase
from kilotune.link.status import statuses

WINDOW, HOP, AXES, RATE_MHZ = 64, 24, 3, 1_600_000
RING = 16
CHUNK = 464
INPUTS = 600  # more than a message holds
ADAPTER_BYTES = 3000
IMAGE_HASH = bytes(range(32))
T = TypeVar("T")


def zero(cls: type[T]) -> T:
    """A message in which every number is 0."""
    return messages.decode(cls, cbor2.dumps([0] * messages._width(cast(Any, cls))))


class RefuseError(Exception):
    def __init__(self, name: str, detail: int = 0) -> None:
        self.status = next(s.code for s in statuses().values() if s.name == name)
        self.detail = detail


@dataclass
class ModelDevice:
    """What a device would do; `log` has everything that was executed, in order."""

    log: list[str] = field(default_factory=list)
    taken: bytearray = field(default_factory=bytearray)  # of the present stream
    adapter: bytes = bytes(ADAPTER_BYTES)
    phase: Phase = Phase.idle
    passes_left: int = 0
    boots: int = 0
    credit: int = 2048

    def __post_init__(self) -> None:
        self._boot()

    def _boot(self) -> None:
        self.boots += 1
        self._decoder = frames.FrameDecoder(512)
        self._session = self._sequence = self._stream = 0
        self._answer = b""
        self._steps = self._learned = self._generation = 0
        self._input = bytearray(INPUTS)
        self._output = bytes(INPUTS)
        self._push: dict[str, Any] = {}
        self.phase = Phase.idle

    def exchange(self, data: bytes) -> bytes:
        out = b""
        for body in self._decoder.feed(data):
            boots = self.boots
            out += self._on_frame(body)
            if boots != self.boots:
                break
        if self.phase is Phase.train:
            self._generation += 1
            self.passes_left -= 1
            if self.passes_left <= 0:
                self.phase = Phase.detect
        return out

    def _on_frame(self, body: bytes) -> bytes:
        if len(body) < HEADER.size:
            return b""
        version, kind, session, sequence = HEADER.unpack_from(body)
        if kind & ANSWER:
            return b""
        opens = kind == Kind.hello and session != self._session
        if version != 1 or session == 0 or (session != self._session and not opens):
            code = 3 if version != 1 else 23
            error = cbor2.dumps([kind, code, 1 if version != 1 else self._session])
            return frames.encode(HEADER.pack(1, ERROR_KIND, session, sequence) + error)
        ahead = (sequence - self._sequence) & 0xFFFF
        if not opens and ahead > 0x7FFF:
            return b""
        if opens or ahead:
            self._session, self._sequence = session, sequence
            if opens:
                self._stream = 0
            self._answer = self._execute(kind, body[HEADER.size :])
        return frames.encode(self._answer)

    def _execute(self, kind: int, payload: bytes) -> bytes:
        try:
            fields = cbor2.loads(payload) if payload else []
            values = getattr(self, "_push_" if kind == Kind.push else f"_{Kind(kind).name}")(*fields)
            answer_kind = kind | ANSWER
        except RefuseError as error:
            values, answer_kind = [kind, error.status, error.detail], ERROR_KIND
        header = HEADER.pack(1, answer_kind, self._session, self._sequence)
        return header + (cbor2.dumps(values) if values else b"")

    def _hello(self) -> list[object]:
        return ["0.1.0", "model", b"\1\2", 512, CHUNK, self.credit, RING, 0, self.phase, 0, b""]

    def _model(self) -> list[object]:
        sizes = [INPUTS, INPUTS, ADAPTER_BYTES, 0, 5000]
        return [IMAGE_HASH, bytes(32), *sizes, 1, 3, 3, AXES, RATE_MHZ, 16_000_000, WINDOW, HOP, 48]

    def _status(self) -> list[object]:
        head = (self.phase, self._generation, 1, self._stream, self._learned, self._steps, self._steps, 40)
        return [*head, *[0] * (messages._width(cast(Any, messages.DeviceStatus)) - len(head))]

    def _reset(self) -> list[object]:
        self.log.append("reset")
        self._boot()
        return []

    def _learn_begin(self, *config: int) -> list[object]:
        assert len(config) == 22
        self.passes_left = config[7]
        self.phase = Phase.learn
        self.log.append("learn_begin")
        return []

    def _learn_end(self) -> list[object]:
        if self.phase is not Phase.learn:
            raise RefuseError("wrong_state")
        if self._learned < 2:
            raise RefuseError("too_few_windows")
        self.phase = Phase.train
        self.log.append("learn_end")
        return []

    def _learn_cancel(self) -> list[object]:
        self.phase = Phase.idle
        self.log.append("learn_cancel")
        return []

    def _stream_begin(self, stream: int, kind: int, rate_mhz: int, axes: int, label: int) -> list[object]:
        if rate_mhz != RATE_MHZ:
            raise RefuseError("wrong_rate")
        if axes != AXES:
            raise RefuseError("wrong_axes")
        self._stream = stream
        self.taken.clear()
        self.log.append(f"stream {label}")
        return [2 * AXES]

    @property
    def _windows(self) -> int:
        return max(0, (len(self.taken) // (2 * AXES) - WINDOW) // HOP + 1)

    def _pack(self, start: int) -> tuple[int, bytes]:
        end = self._windows
        first = max(min(start, end), end - RING)
        return first, b"".join(messages.RESULT.pack(*self.score(i), 0) for i in range(first, end))

    def score(self, index: int) -> tuple[int, int, int, int]:
        digest = hashlib.sha256(self.taken[: (index * HOP + WINDOW) * 2 * AXES]).digest()
        return int.from_bytes(digest[:2], "big", signed=True), digest[2], 1, digest[3]

    def _samples(self, stream: int, offset: int, results_from: int, data: bytes) -> list[object]:
        if stream != self._stream:
            raise RefuseError("stale_stream", self._stream)
        assert len(data) <= CHUNK
        if offset == len(self.taken):
            before = self._windows
            self.taken += data
            self._learned += self._windows - before
        return [len(self.taken), self.credit, *self._pack(results_from)]

    def _results(self, start: int) -> list[object]:
        first, packed = self._pack(start)
        return [first, self._windows, packed]

    def _stream_end(self, stream: int) -> list[object]:
        if stream != self._stream:
            raise RefuseError("stale_stream", self._stream)
        self._stream = 0
        self.log.append(f"end {hashlib.sha256(self.taken).hexdigest()}")
        return [len(self.taken), self._windows]

    def _input_write(self, offset: int, data: bytes) -> list[object]:
        self._input[offset : offset + len(data)] = data
        return []

    def _infer(self, data: bytes) -> list[object]:
        self._output = bytes((b + 1) & 0xFF for b in (data or self._input))
        self.log.append("infer")
        return self._output_read(0)

    def _output_read(self, offset: int) -> list[object]:
        return [INPUTS, offset, self._output[offset : offset + CHUNK]]

    def _train_begin(self, *config: int) -> list[object]:
        self._steps = 0
        self.log.append("train_begin")
        return []

    def _train_step(self, step: int, label: int, data: bytes, target: bytes) -> list[object]:
        if step > self._steps:
            raise RefuseError("out_of_order", self._steps)
        if step == self._steps:
            self._steps += 1
            row = data or bytes(self._input)
            self.log.append(f"step {step} {zlib.crc32(row)}")
            self._change(zlib.crc32(row).to_bytes(4, "big") + self.adapter[4:])
        return [self._steps]

    def _change(self, adapter: bytes) -> None:
        self.adapter = adapter
        self._generation += 1

    def _commit(self) -> list[object]:
        self.log.append("commit")
        return [1, ADAPTER_BYTES, zlib.crc32(self.adapter), 0, 0, 0]

    def _pull(self, offset: int, length: int) -> list[object]:
        total, crc = len(self.adapter), zlib.crc32(self.adapter)
        return [offset, total, crc, self._generation, self.adapter[offset : offset + min(length, CHUNK)]]

    def _push_begin(self, image: bytes, total: int, crc: int, windows: int, steps: int) -> list[object]:
        if image != IMAGE_HASH:
            raise RefuseError("wrong_base")
        if self._push.get("crc") != crc:
            self._push = {"crc": crc, "data": bytearray()}
            self.log.append("push_begin")
        return [len(self._push["data"])]

    def _push_data(self) -> bytearray:
        if not self._push:
            raise RefuseError("wrong_state")
        data: bytearray = self._push["data"]
        return data

    def _push_(self, offset: int, data: bytes) -> list[object]:
        staged = self._push_data()
        if offset > len(staged):
            raise RefuseError("out_of_order", len(staged))
        staged[offset : offset + len(data)] = data
        return [len(staged)]

    def _push_end(self) -> list[object]:
        staged = bytes(self._push_data())
        if zlib.crc32(staged) != self._push["crc"]:
            raise RefuseError("bad_crc")
        self._push = {}
        self._change(staged)
        self.log.append("push_end")
        return [1, ADAPTER_BYTES, zlib.crc32(staged), 0, 0, 0]
