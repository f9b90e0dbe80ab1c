"""A stream of samples to the device: sends pieces up to the device's credit and collects results as they arrive."""

from __future__ import annotations

from dataclasses import dataclass

from kilotune.errors import KilotuneError
from kilotune.link import frames, messages
from kilotune.link.cbor import bad_message
from kilotune.link.client import FIRST_ATTEMPT_S, LONGEST_ATTEMPT_S, Answer, Client
from kilotune.link.messages import ANSWER, ERROR_KIND, HEADER, Kind, WindowResult
from kilotune.link.pace import LEAST_BYTES_PER_S, Pace
from kilotune.terms import StreamKind

_U32 = 0xFFFFFFFF
_SAMPLES_FIELDS_BYTES = 17  # CBOR around the data, at most
_MAX_TRACKED = 512


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """`rate_mhz` and `axes` must be the model's; `label`: the class, in a labelled learn phase."""

    kind: StreamKind
    rate_mhz: int
    axes: int
    label: int = 0
    hop: int = 1  # frames per window: limits what may be in flight, so that no result is evicted unread
    window: int = 1
    frame_bytes: int = 0  # that the model's frames have; 0: not known


@dataclass(slots=True)
class _Sent:
    end: int
    epoch: int
    line_bytes: int  # on the line, or in the device's buffer, until answered
    at: float  # when


class SampleStream:
    """Go-back-N: the device accepts a piece only after the one before it, and asks for that one otherwise.

    `lost` counts results that the device evicted before they could be read. It stays 0 unless the device computes more
    windows than `hop` says.
    """

    def __init__(self, client: Client, hello: messages.Hello, spec: StreamSpec, stream: int) -> None:
        self._client = client
        self._id = stream
        self._spec = spec
        begin = messages.StreamBeginRequest(
            stream=stream, kind=spec.kind, rate_mhz=spec.rate_mhz, axes=spec.axes, label=spec.label
        )
        begun = client.ask(messages.StreamBegun, Kind.stream_begin, begin)
        self.frame_bytes = begun.frame_bytes
        self._ring = hello.result_ring
        self._credit = hello.credit
        if spec.frame_bytes and begun.frame_bytes != spec.frame_bytes:
            raise bad_message(f"frames of {begun.frame_bytes} bytes where its model has {spec.frame_bytes}")
        in_ring = hello.result_ring * max(1, spec.hop) * begun.frame_bytes
        self._piece = min(hello.chunk // begun.frame_bytes * begun.frame_bytes, in_ring)
        if self._piece == 0:
            raise bad_message("frames of a stream are longer than its own limit for a message")
        self._under_way = in_ring
        self._unsent = bytearray()  # from byte `acked` of the stream on: not acknowledged yet
        self._acked = self._sent = self._furthest = 0
        self._ends: set[int] = set()  # of pieces that were sent, beyond `acked`: the device takes them whole
        self._pace = self._paced()
        self._paced_from = 0  # acked when this pace began
        self._epoch = 0  # grows each time it goes back; answers to earlier pieces do not make it go back again
        self._requests: dict[int, _Sent] = {}
        self._attempt_s = FIRST_ATTEMPT_S
        self._progress_at = self._heard_at = client.clock()
        self._results: list[WindowResult] = []
        self._results_next = 0
        self.lost = 0

    def push(self, data: bytes) -> list[WindowResult]:
        """Sends whole frames, int16 little-endian; returns results that arrived in the meantime."""
        if len(data) % self.frame_bytes:
            raise KilotuneError("bad_argument", "the samples are not whole frames", "give a value for every axis")
        self._begin_waiting()
        self._unsent += data
        while self._sent < self._end:
            self._advance(wait=True)
        self._advance(wait=False)
        return self._take_results()

    def drain(self) -> list[WindowResult]:
        """Waits until the device has everything; returns the results that belong to it."""
        self._begin_waiting()
        while self._acked < self._end:
            self._advance(wait=True)
        return self._take_results()

    def finish(self) -> list[WindowResult]:
        """Ends the stream; returns the last results."""
        results = self.drain()
        ended = self._client.ask(messages.StreamEnded, Kind.stream_end, messages.StreamEndRequest(stream=self._id))
        if ended.total_bytes != self._acked & _U32:
            raise bad_message(f"it counted {ended.total_bytes} bytes of a stream of {self._acked & _U32}")
        if ended.windows > self._windows_of(self._acked):
            raise bad_message(f"it counted {ended.windows} windows in a stream of {self._windows_of(self._acked)}")
        pace = Pace(self._client.clock, self._client.timeout_s, "reading results", 1.0, "results")
        first = self._results_next
        while self._results_next < ended.windows:
            pace.require(self._results_next - first)
            wanted = messages.ResultsRequest(results_from=self._results_next)
            more = self._client.ask(messages.Results, Kind.results, wanted)
            before = self._results_next
            self._keep(more.results_first, more.results)
            if self._results_next == before:
                self.lost += ended.windows - before
                break
        return results + self._take_results()

    def _begin_waiting(self) -> None:
        """Between two calls of its user, a stream may rest as long as it likes."""
        self._progress_at = self._client.clock()
        self._pace, self._paced_from = self._paced(), self._acked

    def _paced(self) -> Pace:
        """A window a second, or what a slow line passes, if a window has more than that."""
        window = max(1, self._spec.hop) * self.frame_bytes
        return Pace(self._client.clock, self._client.timeout_s, "the stream", min(LEAST_BYTES_PER_S, window))

    def _windows_of(self, size: int) -> int:
        """Windows that end within so many bytes of the stream."""
        return max(0, (size // self.frame_bytes - self._spec.window) // max(1, self._spec.hop) + 1)

    @property
    def _end(self) -> int:
        return self._acked + len(self._unsent)

    def _take_results(self) -> list[WindowResult]:
        results, self._results = self._results, []
        return results

    def _advance(self, *, wait: bool) -> None:
        """Sends as much as allowed, then takes one answer, or goes back if none arrives in time."""
        client = self._client
        while self._send_next():
            pass
        attempt_ends = self._heard_at + self._attempt_s
        answer = client.receive(attempt_ends if wait else client.clock())
        if answer is not None:
            self._on_answer(answer)
        now = client.clock()
        if now >= self._progress_at + client.timeout_s:
            raise client.timed_out()
        self._pace.require(self._acked - self._paced_from)
        # Even if everything was acknowledged: pieces sent twice may still count against the credit.
        if answer is None and now >= attempt_ends and (self._acked < self._furthest or self._waiting):
            for request in self._requests.values():
                request.line_bytes = 0  # presumably lost
            self._attempt_s = min(self._attempt_s * 2, LONGEST_ATTEMPT_S)
            client.repeats += 1
            client.transport.write(b"\0")  # ends a frame that noise may have begun
            self._go_back()

    def _send_next(self) -> bool:
        start = self._sent - self._acked
        size = min(self._piece, len(self._unsent) - start)
        if size <= 0 or (start and start + size > self._under_way):
            return False
        body_bytes = HEADER.size + _SAMPLES_FIELDS_BYTES + size + frames.CRC_BYTES
        waiting = self._waiting
        if waiting and waiting + frames.encoded_bytes(body_bytes) > self._credit:
            return False
        data = bytes(self._unsent[start : start + size])
        piece = messages.SamplesRequest(
            stream=self._id, offset=self._sent & _U32, results_from=self._results_next, data=data
        )
        sequence, frame = self._client.frame(Kind.samples, messages.encode_request(Kind.samples, piece))
        if not waiting:
            self._heard_at = self._client.clock()
        self._client.transport.write(frame)
        self._sent += size
        self._furthest = max(self._furthest, self._sent)
        self._ends.add(self._sent)
        self._requests[sequence] = _Sent(self._sent, self._epoch, len(frame), self._client.clock())
        return True

    @property
    def _waiting(self) -> int:
        """Bytes on the line or in the device's buffer."""
        return sum(r.line_bytes for r in self._requests.values())

    def _go_back(self) -> None:
        self._sent = self._acked
        self._epoch += 1
        self._heard_at = self._client.clock()
        while len(self._requests) > _MAX_TRACKED:
            del self._requests[next(iter(self._requests))]

    def _on_answer(self, answer: Answer) -> None:
        if answer.sequence in self._requests:
            # The device answers in order: what was sent before this has left its buffer, or never arrived.
            for sequence, earlier in self._requests.items():
                if sequence == answer.sequence:
                    break
                earlier.line_bytes = 0
        request = self._requests.pop(answer.sequence, None)
        if request is None or answer.kind not in (Kind.samples | ANSWER, ERROR_KIND):
            return
        taken = messages.decode(messages.SamplesTaken, self._client.payload(answer, Kind.samples))
        self._heard_at = self._client.clock()
        # A slow device gets the time that it needs; otherwise repeated pieces would fill its buffer.
        self._attempt_s = min(max(FIRST_ATTEMPT_S, 2 * (self._heard_at - request.at)), LONGEST_ATTEMPT_S)
        self._credit = taken.credit
        self._keep(taken.results_first, taken.results)
        # `next` counts modulo 2^32. It is between what was acknowledged and what was ever sent, or slightly before
        # that if an older answer arrives late.
        ahead = (taken.next - self._acked) & _U32
        if ahead > _U32 // 2:
            return
        if ahead > self._furthest - self._acked:
            raise bad_message("it claims to have samples that were not sent")
        if ahead:
            if self._acked + ahead not in self._ends:
                raise bad_message("it claims to have a part of what it takes as a whole")
            self._ends = {end for end in self._ends if end > self._acked + ahead}
            del self._unsent[:ahead]
            self._acked += ahead
            self._sent = max(self._sent, self._acked)
            self._progress_at = self._heard_at
        if request.epoch == self._epoch and self._acked < request.end:
            self._go_back()

    def _keep(self, first: int, packed: bytes) -> None:
        """Adds the new results; a gap means that the device evicted some."""
        results = messages.unpack_results(first, packed)
        if not results or results[-1].index < self._results_next:
            return
        if results[-1].index >= self._windows_of(self._furthest) or len(results) > self._ring:
            raise bad_message("it has results of windows that were never sent")
        self.lost += max(0, first - self._results_next)
        self._results += [r for r in results if r.index >= self._results_next]
        self._results_next = results[-1].index + 1
