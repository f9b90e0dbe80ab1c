"""A locked device executes nothing that the holder of its key has not requested exactly like that, just now.

Every kind of message that there is, in every way that someone without the key could send it:
`pytest tests/host/link/test_locked.py -s` prints how many.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link import frames, messages
from kilotune.link.auth import TAG_BYTES, Lock
from kilotune.link.client import Client
from kilotune.link.messages import ANSWER, HEADER, REQUESTS, TAGGED, Access, Kind
from kilotune.link.status import RefusedError

from tests.support import locked
from tests.support.faulty_line import Drawn
from tests.support.locked import ANYONE, OTHER_KEY, OWNERS, READERS, Tap, Victim, tagged

REFUSED = {"locked", "wrong_key", "slowed"}
total = 0


@pytest.fixture(scope="module", autouse=True)
def _tell_the_count() -> Iterator[None]:
    yield
    print(f"\n{total} messages without authority, 0 accepted")


@pytest.fixture(scope="module")
def image() -> Image:
    return locked.make_image()


@pytest.fixture(scope="module")
def payloads(image: Image) -> dict[Kind, bytes]:
    return locked.payloads(image)


@pytest.fixture(scope="module", params=[Lock.writes, Lock.all], ids=["reading-open", "reading-closed"])
def lock(request: pytest.FixtureRequest) -> Lock:
    return Lock(request.param)


@pytest.fixture(scope="module")
def flash(image: Image, lock: Lock, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return locked.prepared_flash(image, lock, tmp_path_factory.mktemp("keys"))


@pytest.fixture(params=["twin", "native"])
def victim(request: pytest.FixtureRequest, image: Image, flash: bytes, tmp_path: Path) -> Iterator[Victim]:
    """Its state is the same after the test."""
    global total
    with locked.running(request.param, image, flash, tmp_path) as running:
        before = running.state()
        yield running
        assert running.state() == before
        total += running.attempts


def needing_key(lock: Lock) -> frozenset[Kind]:
    return OWNERS if lock is Lock.writes else OWNERS | READERS


def test_every_kind_is_classified() -> None:
    """Written by hand, besides requests.def, so that access rights are decided twice."""
    named = {Access.anyone: ANYONE, Access.reader: READERS, Access.owner: OWNERS}
    assert {k: next(a for a, kinds in named.items() if k in kinds) for k in Kind} == {
        kind: request.access for kind, request in REQUESTS.items()
    }


def test_the_owner_is_obeyed(
    image: Image, flash: bytes, payloads: dict[Kind, bytes], lock: Lock, tmp_path: Path
) -> None:
    """The requests that are refused below are good ones: with the key they get past the lock."""
    with locked.running("twin", image, flash, tmp_path) as victim:
        before = victim.state()
        for kind in sorted(needing_key(lock) - {Kind.reset, Kind.key}):
            client, _ = victim.owner()
            (answer,) = victim.send(tagged(client, kind, payloads[kind]))
            assert answer.refusal not in REFUSED
            if not answer.refusal:
                check_answer(kind, answer.payload[:-TAG_BYTES])
        assert victim.state() != before


def check_answer(kind: Kind, payload: bytes) -> None:
    """It is the message that requests.def says."""
    cls = REQUESTS[kind].answer
    if cls is None:
        assert payload == b""
    else:
        messages.decode(cls, payload)


def test_without_a_tag(victim: Victim, payloads: dict[Kind, bytes], lock: Lock) -> None:
    for value in range(1, 0x40):
        kind = Kind(value) if value in set(Kind) else None
        if kind is not None and kind not in needing_key(lock):
            continue
        session = victim.open()
        payload = payloads[kind] if kind is not None else b""
        body = HEADER.pack(1, value, session, 1) + payload
        victim.attack(body, body, expect={"locked"})
        # And after a challenge that nobody answered.
        victim.challenge(session)
        victim.attack(HEADER.pack(1, value, session, 2) + payload, expect={"locked"})


def test_with_a_tag_but_no_challenge(victim: Victim, payloads: dict[Kind, bytes]) -> None:
    for kind in Kind:
        session = victim.open()
        for tag in (bytes(TAG_BYTES), bytes(range(TAG_BYTES)), b"", b"\0"):
            body = HEADER.pack(1, kind | TAGGED, session, 1) + payloads[kind] + tag
            victim.attack(body, expect={"locked", "bad_message"})


def test_with_a_wrong_key(victim: Victim, payloads: dict[Kind, bytes]) -> None:
    for kind in Kind:
        victim.state()  # the owner comes by: tries are not counted on
        client, _ = victim.someone(OTHER_KEY)
        body = tagged(client, kind, payloads[kind])
        victim.attack(body, expect={"wrong_key"})
        victim.attack(body, expect={"locked"})  # the challenge is gone


def test_replayed_at_once_is_not_carried_out_twice(victim: Victim, payloads: dict[Kind, bytes]) -> None:
    """The stored answer comes again; once another request was made, none."""
    client, _ = victim.owner()
    (first,) = victim.send(step := tagged(client, Kind.train_begin, payloads[Kind.train_begin]))
    assert victim.send(step) == [first]
    client.request(Kind.status)
    assert victim.send(step) == []
    victim.attempts += 2
    client.request(Kind.restore)


def record_of_owner(victim: Victim, payloads: dict[Kind, bytes]) -> list[bytes]:
    """Every frame of a session in which the owner asked for everything harmless, opening included."""
    client, tap = victim.owner()
    order = [Kind.train_begin, Kind.train_step, Kind.restore, Kind.push_begin, Kind.push, Kind.stream_begin,
             Kind.samples, Kind.stream_end, Kind.infer, Kind.input_write, Kind.bench, Kind.restore, Kind.learn_begin,
             Kind.learn_cancel, Kind.pull, Kind.adapter_tag, Kind.commit, Kind.commit_candidate,
             Kind.mark_stable, Kind.rollback, Kind.restore]  # fmt: skip
    for kind in order:
        with contextlib.suppress(RefusedError):  # some are asked for at the wrong time: that is recorded too
            client.request(kind, payloads[kind])
    decoder = frames.FrameDecoder()
    return [body for frame in tap.heard for body in decoder.feed(frame)]


@pytest.mark.parametrize("restarted", [False, True], ids=["same-run", "after-a-restart"])
def test_a_recorded_session_played_again(
    image: Image, flash: bytes, payloads: dict[Kind, bytes], tmp_path: Path, restarted: bool
) -> None:
    """Opening, challenge and all: the challenge is another one, so every tag in it is wrong."""
    global total
    for target in ("twin", "native"):
        with locked.running(target, image, flash, tmp_path / target) as victim:
            record = record_of_owner(victim, payloads)
            if restarted:
                victim.line.restart()
            before = victim.state()
            opening, challenge, *rest = record
            assert (opening[1], challenge[1]) == (Kind.hello, Kind.challenge)
            assert len(victim.send(opening)) == 1
            assert len(victim.send(challenge)) == 1
            assert len(rest) > 15
            for body in rest:
                victim.attack(body, expect=REFUSED)
                victim.owner()  # so that tries are not counted on
                victim.send(opening, challenge)
            assert victim.state() == before
            total += victim.attempts


def test_reordered(victim: Victim, payloads: dict[Kind, bytes]) -> None:
    for kind in sorted(OWNERS - {Kind.reset, Kind.key}):
        client, _ = victim.owner()
        earlier = tagged(client, kind, payloads[kind])
        client.request(Kind.status)
        victim.attempts += 1
        assert victim.send(earlier) == []


def test_truncated_in_a_session_of_the_owner(victim: Victim, payloads: dict[Kind, bytes]) -> None:
    client, _ = victim.owner()
    for kind in Kind:
        body = tagged(client, kind, payloads[kind])
        for n in range(HEADER.size, len(body)):
            victim.attack(body[:n], expect={"wrong_key", "bad_message"})
            if n < len(body) - TAG_BYTES:
                victim.attack(body[:n] + body[-TAG_BYTES:], expect={"wrong_key"})
        victim.attack(body + b"\0", body[:-TAG_BYTES] + b"\0" + body[-TAG_BYTES:], expect={"wrong_key"})
    client.request(Kind.status)


def test_a_flipped_bit_in_a_session_of_the_owner(victim: Victim, payloads: dict[Kind, bytes]) -> None:
    client, _ = victim.owner()
    for kind in Kind:
        body = tagged(client, kind, payloads[kind])
        flipped = []
        for bit in range(8 * len(body)):
            changed = bytearray(body)
            changed[bit // 8] ^= 1 << bit % 8
            flipped.append(bytes(changed))
        for at in range(0, len(flipped), 64):
            victim.attack(*flipped[at : at + 64], expect={"wrong_key", "locked", "no_session", "bad_version"})
    client.request(Kind.status)  # and the owner goes on undisturbed


def test_a_right_tag_on_another_message(victim: Victim, payloads: dict[Kind, bytes]) -> None:
    """Another kind, sequence number, session, payload, or an answer sent back."""
    client, _ = victim.owner()
    status = tagged(client, Kind.status, b"")
    for kind in sorted(OWNERS):
        body = bytearray(status)
        body[1] = kind | TAGGED
        victim.attack(bytes(body), expect={"wrong_key"})
        victim.attack(bytes(body[:6]) + payloads[kind] + status[6:], expect={"wrong_key"})
    for add in (1, 2, 0x100, 0x7FFE):
        version, kind_, session, sequence = HEADER.unpack_from(status)
        body = bytearray(HEADER.pack(version, kind_, session, (sequence + add) & 0xFFFF) + status[6:])
        victim.attack(bytes(body), expect={"wrong_key"})
    (answer,) = victim.send(status)
    assert answer.kind == Kind.status | ANSWER | TAGGED
    session = HEADER.unpack_from(status)[2]
    for kind in sorted(OWNERS):
        reflected = HEADER.pack(1, kind | TAGGED, session, answer.sequence + 1 & 0xFFFF) + answer.payload
        victim.attack(reflected, expect={"wrong_key"})


def test_nothing_plain_gets_into_a_session_of_the_owner(victim: Victim, payloads: dict[Kind, bytes]) -> None:
    client, _ = victim.owner()
    _, _, session, sequence = HEADER.unpack_from(tagged(client, Kind.status, b""))
    for kind in Kind:
        for add in (1, 5, 0x7000):
            body = HEADER.pack(1, kind, session, (sequence + add) & 0xFFFF) + payloads[kind]
            victim.attack(body, expect={"locked"})
    client.request(Kind.status)


def test_a_session_opened_by_anyone_does_not_end_learning(
    image: Image, flash: bytes, payloads: dict[Kind, bytes], tmp_path: Path
) -> None:
    with locked.running("twin", image, flash, tmp_path) as victim:
        client, _ = victim.owner()
        client.request(Kind.learn_begin, payloads[Kind.learn_begin])
        assert victim.hello(0x5000).phase == messages.Phase.learn
        assert victim.hello(0x5001).phase == messages.Phase.learn
        other, _ = victim.owner()
        with pytest.raises(RefusedError, match="phase"):  # the new owner's session has ended it
            other.request(Kind.learn_end)


def test_a_session_whose_number_the_owner_has_open_gets_another(victim: Victim) -> None:
    owner = Client(Tap(victim.line), timeout_s=3, rng=Drawn(7, 100))
    owner.authenticate(locked.KEY, owner.open().unique_id)
    owner.request(Kind.status)
    other = Client(Tap(victim.line), timeout_s=3, rng=Drawn(7, 200, 8, 200))
    assert other.open().lock != Lock.none


def test_ten_wrong_keys_slow_the_device_down(image: Image, flash: bytes, tmp_path: Path) -> None:
    """It waits longer with every try, through restarts too, up to a minute; the owner gets in after the wait."""
    with locked.running("twin", image, flash, tmp_path) as victim:
        victim.owner()[0].request(Kind.status)
        for _ in range(10):
            client, _ = victim.someone(OTHER_KEY)
            with pytest.raises(RefusedError, match="was not made with the device's key"):
                client.request(Kind.commit)
        answer = victim.challenge(victim.open())
        assert answer.refusal == "slowed"
        assert 0 < messages.decode(messages.ErrorAnswer, answer.payload).detail <= 1000
        victim.line.restart()
        assert victim.challenge(victim.open()).refusal == "slowed"
        client, _ = victim.owner()  # waits
        client.request(Kind.status)
        assert victim.challenge(victim.open()).refusal == ""  # and its key has settled it


def test_the_wait_is_bounded_and_told(image: Image, flash: bytes, tmp_path: Path) -> None:
    """40 tries in flash: the longest wait, and the owner's tools say how long instead of waiting."""
    tries = bytearray(flash)
    entries = locked.LAYOUT.key_offset + locked.LAYOUT.key_sector_bytes + 80  # the first record is in sector 1
    assert tries[entries - 80 : entries - 76] == b"KTK1"
    at = entries
    while tries[at : at + 4] != b"\xff" * 4:
        at += 4
    for i in range(40):
        struct.pack_into("<I", tries, at + 4 * i, 0xFFFF0000)
    with locked.running("twin", image, bytes(tries), tmp_path) as victim:
        answer = victim.challenge(victim.open())
        assert 60_000 < messages.decode(messages.ErrorAnswer, answer.payload).detail <= 64_000
        with pytest.raises(KilotuneError, match=r"accepts none for 6\d s") as told:
            victim.owner()
        assert told.value.code == "slowed"


def test_challenges_never_repeat(image: Image, flash: bytes, tmp_path: Path) -> None:
    with locked.running("twin", image, flash, tmp_path) as victim:
        seen = set()
        for _ in range(30):
            victim.line.restart()
            for _ in range(20):
                seen.add(victim.challenge(victim.open()).payload)
            victim.owner()[0].request(Kind.status)
        assert len(seen) == 600
