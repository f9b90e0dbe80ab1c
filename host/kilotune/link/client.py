"""Requests and their answers, exactly once each over a line that may lose, repeat or damage frames."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kilotune.errors import KilotuneError
from kilotune.link import frames, messages
from kilotune.link.cbor import bad_message
from kilotune.link.messages import ANSWER, DOING, ERROR_ANSWER, HEADER, PROTOCOL_VERSION, Kind
from kilotune.link.status import RefusedError, statuses
from kilotune.link.transport import Transport

FIRST_ATTEMPT_S = 0.4
LONGEST_ATTEMPT_S = 3.0
_MAX_WAITING = 256  # frames that arrived and were not looked at
_NO_SESSION = "no_session"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    kind: int
    sequence: int
    payload: bytes


class Client:
    """One session with a device. Every wait ends after `timeout_s` without an answer, with `timeout`."""

    def __init__(
        self,
        transport: Transport,
        *,
        timeout_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.transport = transport
        self.timeout_s = timeout_s
        self.clock = clock
        self._rng = rng if rng is not None else random.SystemRandom()
        self._decoder = frames.FrameDecoder()
        self._waiting: deque[Answer] = deque(maxlen=_MAX_WAITING)
        self._session = 0
        self._sequence = 0
        self._heard_bytes = 0
        self.repeats = 0

    @property
    def frame_counters(self) -> frames.FrameCounters:
        return self._decoder.counters

    # --- sessions --------------------------------------------------------------------------------

    def open(self) -> messages.Hello:
        """Opens a session. Its numbers are random: no answer of an earlier one can be taken for ours."""
        previous = self._session
        while self._session == previous:
            self._session = self._rng.randrange(1, 0x10000)
        self._sequence = self._rng.randrange(0x10000)
        self._waiting.clear()
        return self.ask(messages.Hello, Kind.hello)

    def reset(self) -> messages.Hello:
        """Restarts the device and opens a session with what comes up."""
        try:
            self.request(Kind.reset)
        except RefusedError as error:
            if statuses()[error.status].name != _NO_SESSION:
                raise  # else the answer was lost, and the device has restarted
        self.transport.reopen(self.timeout_s)
        self._decoder = frames.FrameDecoder(counters=self._decoder.counters)
        return self.open()

    def close(self) -> None:
        self.transport.close()

    # --- one request, one answer ----------------------------------------------------------------

    def ask(self, cls: type[T], kind: Kind, *values: Any) -> T:
        """The decoded answer to a request of `values`."""
        return messages.decode(cls, self.request(kind, messages.encode(*values)))

    def tell(self, kind: Kind, *values: Any) -> None:
        """A request whose answer has no fields."""
        if self.request(kind, messages.encode(*values)):
            raise bad_message(f"the answer to {kind.name} has fields")

    def request(self, kind: Kind, payload: bytes = b"") -> bytes:
        """Sends, and repeats until answered; the device carries it out once however often it arrives."""
        sequence, frame = self.frame(kind, payload)
        deadline = self.clock() + self.timeout_s
        attempt_s = FIRST_ATTEMPT_S
        self.transport.write(frame)
        while True:
            attempt_ends = min(deadline, self.clock() + attempt_s)
            while (answer := self.receive(attempt_ends)) is not None:
                if answer.sequence == sequence and answer.kind in (kind | ANSWER, ERROR_ANSWER):
                    return self.payload(answer, kind)
                if self.clock() >= attempt_ends:
                    break  # others may keep coming for ever
            if self.clock() >= deadline:
                raise self.timed_out()
            attempt_s = min(attempt_s * 2, LONGEST_ATTEMPT_S)
            self.repeats += 1
            self.transport.write(b"\0" + frame)  # the zero ends what noise may have begun

    def payload(self, answer: Answer, kind: Kind) -> bytes:
        """Of the answer to a `kind`, or the device's refusal raised."""
        if answer.kind != ERROR_ANSWER:
            return answer.payload
        error = messages.decode(messages.ErrorAnswer, answer.payload)
        if error.kind != kind or error.status == 0:
            raise bad_message("an error answer that belongs to nothing")
        raise RefusedError(error.status, error.detail, DOING[kind])

    # --- frames, for requests that are under way several at a time ------------------------------

    def frame(self, kind: Kind, payload: bytes) -> tuple[int, bytes]:
        """(sequence number, encoded frame) of a new request."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        header = HEADER.pack(PROTOCOL_VERSION, kind, self._session, self._sequence)
        return self._sequence, frames.encode(header + payload)

    def receive(self, deadline: float) -> Answer | None:
        """The next answer of this session; None at `deadline`. Anything else is dropped."""
        while not self._waiting:
            left = deadline - self.clock()
            data = self.transport.read(max(0.0, left))
            self._heard_bytes += len(data)
            for body in self._decoder.feed(data):
                self._sort(body)
            if left <= 0 and not self._waiting:
                return None
        return self._waiting.popleft()

    def _sort(self, body: bytes) -> None:
        if len(body) < HEADER.size:
            return
        version, kind, session, sequence = HEADER.unpack_from(body)
        if session != self._session or kind < ANSWER:
            return
        if version != PROTOCOL_VERSION:
            raise KilotuneError(
                "bad_version",
                f"the device speaks protocol version {version}, these tools version {PROTOCOL_VERSION}",
                "use the firmware and the tools of one release",
            )
        self._waiting.append(Answer(kind, sequence, body[HEADER.size :]))

    def timed_out(self) -> KilotuneError:
        """The error for no answer in time, by what was heard instead."""
        name, seconds = self.transport.name, f"{self.timeout_s:g} s"
        if self._decoder.counters.frames == 0 and self._heard_bytes:
            return KilotuneError(
                "timeout",
                f"{name} sends bytes but gave no answer within {seconds}",
                "is this the right port, with Kilotune's firmware on the board, at the right baud rate?",
            )
        return KilotuneError(
            "timeout",
            f"{name} gave no answer within {seconds}",
            "check the cable and that the firmware runs (press reset); a longer --timeout helps slow devices",
        )
