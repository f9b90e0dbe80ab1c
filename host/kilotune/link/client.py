"""Requests and answers, exactly once each, over a line that may lose, repeat or damage frames."""

from __future__ import annotations

import random
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kilotune.errors import KilotuneError
from kilotune.link import frames, messages
from kilotune.link.auth import NONCE_BYTES, TAG_BYTES, Key, SessionKey
from kilotune.link.cbor import bad_message
from kilotune.link.clock import SYSTEM_CLOCK, Clock
from kilotune.link.messages import ANSWER, ERROR_KIND, HEADER, PROTOCOL_VERSION, REQUESTS, TAGGED, Kind
from kilotune.link.status import RefusedError, statuses
from kilotune.link.transport import DEFAULT_TIMEOUT_S, Transport
from kilotune.terms import Lock

FIRST_ATTEMPT_S = 0.4
LONGEST_ATTEMPT_S = 3.0
_MAX_WAITING = 256  # received frames that nobody has read yet
_NO_SESSION, _LOCKED, _SLOWED = "no_session", "locked", "slowed"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    kind: int
    sequence: int
    payload: bytes


class Client:
    """One session with a device. Every wait ends after `timeout_s` without an answer, with the error `timeout`."""

    def __init__(
        self,
        transport: Transport,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        clock: Clock = SYSTEM_CLOCK,
        rng: random.Random | None = None,
    ) -> None:
        self.transport = transport
        self.timeout_s = timeout_s
        self.clock = clock
        self._rng = rng if rng is not None else random.SystemRandom()
        self._decoder = frames.FrameDecoder()
        self._waiting: deque[Answer] = deque(maxlen=_MAX_WAITING)
        self._session = 0
        self._counter = 0  # its lower half is the sequence number
        self._key: SessionKey | None = None  # tags requests and answers from then on
        self.barred: Callable[[Kind], KilotuneError | None] | None = (
            None  # the error for what is not asked for without the key
        )
        self._heard_bytes = 0
        self.repeats = 0
        self.forged = 0  # answers with a wrong tag, dropped

    @property
    def frame_counters(self) -> frames.FrameCounters:
        return self._decoder.counters

    # --- sessions --------------------------------------------------------------------------------

    def open(self) -> messages.Hello:
        """Opens a session. Its numbers are random, so that no answer of an earlier session is mistaken for ours.

        Once in 65,535 times they equal those of the session that the device has open. Then the device may take the
        opening for an old message, or ask for a tag. After a third of the timeout, another number is tried.
        """
        ends = self.clock() + self.timeout_s
        try:
            return self._open(self.clock() + self.timeout_s / 3)
        except KilotuneError as error:
            if error.code not in ("timeout", _LOCKED):
                raise
        return self._open(ends)

    def _open(self, deadline: float) -> messages.Hello:
        previous = self._session
        while self._session == previous:
            self._session = self._rng.randrange(1, 0x10000)
        self._counter = self._rng.randrange(0x10000)
        self._key = None
        self._waiting.clear()
        return messages.decode(messages.Hello, self._request(Kind.hello, deadline=deadline))

    def restart(self) -> bool:
        """Restarts the device; then open a session. False if the device did not confirm it.

        It may have restarted all the same: if its answer was lost, it no longer knows this session. But anyone can
        claim that.
        """
        try:
            self.request(Kind.reset)
            told = True
        except RefusedError as error:
            if statuses()[error.status].name != _NO_SESSION:
                raise
            told = False
        self.transport.reopen(self.timeout_s)
        self._decoder = frames.FrameDecoder(counters=self._decoder.counters)
        return told

    def close(self) -> None:
        self.transport.close()

    # --- the device's key ------------------------------------------------------------------------

    @property
    def authenticated(self) -> bool:
        return self._key is not None

    def authenticate(self, key: Key, unique_id: bytes) -> None:
        """From now on, requests and answers of this session have tags. Waits if the device makes callers wait.

        Raises KilotuneError `slowed` if the wait would be longer than the timeout.
        """
        ends = self.clock() + self.timeout_s
        self._key = None
        while True:
            nonce = secrets.token_bytes(NONCE_BYTES)
            try:
                payload = self._request(Kind.challenge, messages.encode(messages.ChallengeRequest(nonce=nonce)))
                break
            except RefusedError as error:
                if statuses()[error.status].name != _SLOWED:
                    raise
                wait_s = error.detail / 1000
                if self.clock() + wait_s > ends:
                    raise KilotuneError(
                        _SLOWED,
                        f"after too many wrong keys, the device accepts none for {wait_s:.0f} s",
                        f"leave it powered and try again then, or give --timeout {wait_s + 1:.0f}",
                    ) from error
                self.clock.sleep(wait_s)
        challenge = messages.decode(messages.Challenge, payload).challenge
        self._counter &= 0xFFFF
        self._key = key.session(challenge, nonce, unique_id)

    def set_key(self, lock: Lock, key: Key | None) -> bytes:
        """The id of the device's new key; hidden on the line where this session is authenticated."""
        secret = b"" if key is None else key.secret
        if key is not None and self._key is not None:
            secret = self._key.hide(self._counter + 1, key)
        payload = self._request(Kind.key, messages.encode(messages.KeyRequest(lock=lock, key=secret)))
        return messages.decode(messages.KeySet, payload).key_id

    # --- one request, one answer ----------------------------------------------------------------

    def ask(self, cls: type[T], kind: Kind, fields: object = None) -> T:
        """The decoded answer to a request with these fields, if it has any."""
        return messages.decode(cls, self.request(kind, messages.encode_request(kind, fields)))

    def tell(self, kind: Kind, fields: object = None) -> None:
        """A request whose answer has no fields."""
        if self.request(kind, messages.encode_request(kind, fields)):
            raise bad_message(f"the answer to {kind.name} has fields")

    def request(self, kind: Kind, payload: bytes = b"") -> bytes:
        """Sends a request, and repeats it until it is answered; the device executes it once, however often it arrives.

        Without the key, what needs the key is not asked of a locked device: a success could only be forged. A refused
        request is not made again: refusals carry no tag, and the device may have executed it.
        """
        refused = self.barred(kind) if self.barred is not None and self._key is None else None
        if refused is not None:
            raise refused
        return self._request(kind, payload)

    def _request(self, kind: Kind, payload: bytes = b"", deadline: float | None = None) -> bytes:
        sequence, frame = self.frame(kind, payload)
        if deadline is None:
            deadline = self.clock() + self.timeout_s
        attempt_s = FIRST_ATTEMPT_S
        self.transport.write(frame)
        while True:
            attempt_ends = min(deadline, self.clock() + attempt_s)
            while (answer := self.receive(attempt_ends)) is not None:
                if answer.sequence == sequence and answer.kind in (kind | ANSWER, ERROR_KIND):
                    return self.payload(answer, kind)
                if self.clock() >= attempt_ends:
                    break  # others may keep coming forever
            if self.clock() >= deadline:
                raise self.timed_out()
            attempt_s = min(attempt_s * 2, LONGEST_ATTEMPT_S)
            self.repeats += 1
            self.transport.write(b"\0" + frame)  # the zero ends a frame that noise may have begun

    def payload(self, answer: Answer, kind: Kind) -> bytes:
        """The payload of the answer to a `kind`; raises the device's refusal."""
        if answer.kind != ERROR_KIND:
            return answer.payload
        error = messages.decode(messages.ErrorAnswer, answer.payload)
        if error.kind != kind or error.status == 0:
            raise bad_message("an error answer to no request")
        raise RefusedError(error.status, error.detail, REQUESTS[kind].doing)

    # --- frames, for requests that are under way several at a time ------------------------------

    def frame(self, kind: Kind, payload: bytes) -> tuple[int, bytes]:
        """(sequence number, encoded frame) of a new request."""
        self._counter += 1
        sequence = self._counter & 0xFFFF
        tagged = TAGGED if self._key is not None else 0
        body = HEADER.pack(PROTOCOL_VERSION, kind | tagged, self._session, sequence) + payload
        if self._key is not None:
            body += self._key.request_tag(self._counter, body)
        return sequence, frames.encode(body)

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
                f"the device speaks protocol version {version}, these tools speak version {PROTOCOL_VERSION}",
                "use firmware and tools of the same release",
            )
        if kind != ERROR_KIND:
            if bool(kind & TAGGED) != (self._key is not None):
                return
            if self._key is not None:
                body, tag = body[:-TAG_BYTES], body[-TAG_BYTES:]
                counter = self._counter - (self._counter - sequence & 0xFFFF)
                if len(body) < HEADER.size or not self._key.is_answer(counter, body, tag):
                    self.forged += 1
                    return
        self._waiting.append(Answer(kind if kind == ERROR_KIND else kind & ~TAGGED, sequence, body[HEADER.size :]))

    def timed_out(self) -> KilotuneError:
        """The error for no answer in time; its text depends on what was received instead."""
        name, seconds = self.transport.name, f"{self.timeout_s:g} s"
        if self._decoder.counters.frames == 0 and self._heard_bytes:
            return KilotuneError(
                "timeout",
                f"{name} sends bytes, but no answer within {seconds}",
                "check that this is the right port and baud rate, and that the board runs Kilotune's firmware",
            )
        return KilotuneError(
            "timeout",
            f"{name} gave no answer within {seconds}",
            "check the cable, that the firmware runs (press reset), and that no other program uses the port; "
            "give slow devices a longer --timeout",
        )
