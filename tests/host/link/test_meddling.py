"""Whoever sits on the line of a locked device makes no command succeed that the device has not carried out.

Every kind of request that needs the key, as requests.def lists them: one that is added is tried here too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from kilotune.device import provisioning
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link import keys as keys_module
from kilotune.link import messages
from kilotune.link.auth import Lock
from kilotune.link.keys import KeyRing
from kilotune.link.messages import ANSWER, REQUESTS, TAGGED, Access, Kind
from kilotune.link.status import statuses

from tests.support import locked, meddler
from tests.support.faulty_line import Clock
from tests.support.locked import KEY, LAYOUT, OTHER_KEY, TwinLine, Victim
from tests.support.meddler import MeddledPort, Meddler, Meddling, greeted

TIMEOUT_S, PATIENT_S = 5.0, 120.0
NEEDING_KEY = sorted(kind for kind, request in REQUESTS.items() if request.access is Access.owner)
UNLOCKED = b"\xff" * LAYOUT.used_bytes

Command = Callable[[Device], object]


@pytest.fixture(scope="module")
def image() -> Image:
    return locked.make_image()


@pytest.fixture(scope="module")
def flash(image: Image, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return locked.prepared_flash(image, Lock.writes, tmp_path_factory.mktemp("keys"))


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    keys_module.write(tmp_path / "device.key", KEY)
    return KeyRing(tmp_path / "device.key")


def command(kind: Kind, image: Image) -> Command:
    """What makes the tools send a request of that kind; of a new one the request alone."""
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(2000, 3)).astype(np.float32)
    rows = np.zeros((2, 24), np.int8)

    def push(device: Device) -> object:
        return device.push(device.pull())

    def learn(device: Device) -> object:
        return device.learn(samples, passes=1)

    def train(device: Device) -> None:
        device.train(rows, steps=3, lr=0.1)

    def score(device: Device) -> object:
        return device.score(samples)

    named: dict[Kind, Command] = {
        Kind.reset: Device.reset,
        Kind.key: lambda device: device.set_key(Lock.writes, OTHER_KEY),
        Kind.learn_begin: learn,
        Kind.learn_end: learn,
        Kind.stream_begin: score,
        Kind.samples: score,
        Kind.stream_end: score,
        Kind.infer: lambda device: device.infer(rows),
        Kind.train_begin: train,
        Kind.train_step: train,
        Kind.bench: Device.bench,
        Kind.commit: Device.commit,
        Kind.rollback: Device.rollback,
        Kind.restore: Device.restore,
        Kind.pull: Device.pull,
        Kind.push_begin: push,
        Kind.push: push,
        Kind.push_end: push,
        Kind.adapter_tag: Device.pull,
        Kind.commit_candidate: lambda device: device.commit(candidate=True),
        Kind.mark_stable: Device.mark_stable,
        Kind.model_begin: lambda device: device.replace_model(image),
        Kind.model_rollback: Device.rollback_model,
        Kind.sensor_test: Device.sensor_test,
        Kind.raw: Device.raw,
    }
    payload = locked.payloads(image)[kind]
    return named.get(kind, lambda device: device.client.request(kind, payload))


class Attacked:
    """A locked twin, and its owner's tools with somebody between them."""

    def __init__(self, image: Image, flash: bytes, ring: KeyRing, timeout_s: float = TIMEOUT_S) -> None:
        self.image, self.ring, self.timeout_s = image, ring, timeout_s
        self.line = TwinLine(image, flash)
        self.meddler = Meddler(self.line)
        self.clock = Clock()

    def connect(self) -> Device:
        port = MeddledPort(self.meddler, self.clock)
        return Device(
            port, image=self.image, timeout_s=self.timeout_s, keys=self.ring, clock=self.clock, rng=random.Random(5)
        )

    def run(self, command: Command, meddling: Meddling | None = None) -> str:
        """How it ended: "" or the error's code. Somebody meddles only once the session is open."""
        device = self.connect()
        device.status()
        if meddling is not None:
            self.meddler.answers = meddling
        try:
            command(device)
        except KilotuneError as error:
            return error.code
        return ""

    def state(self) -> tuple[object, ...]:
        """What the owner finds, whichever key the device has now."""
        self.meddler.answers = Meddler.device
        victim = Victim(self.line)
        key = next(k for k in (KEY, OTHER_KEY) if k.id(b"locked") == victim.hello(0x3FFF).key_id)
        return (key, *victim.state(key))


@pytest.fixture
def attacked(image: Image, flash: bytes, ring: KeyRing) -> Attacked:
    return Attacked(image, flash, ring)


@pytest.mark.parametrize("kind", NEEDING_KEY, ids=lambda kind: kind.name)
def test_a_success_can_be_made_up_of_every_kind(kind: Kind) -> None:
    """Else what follows would refuse it for another reason."""
    answer = REQUESTS[kind].answer
    if answer is not None:
        messages.decode(answer, meddler.made_up(kind))


def undisturbed(image: Image, flash: bytes, ring: KeyRing, command: Command) -> tuple[str, object]:
    alone = Attacked(image, flash, ring)
    return alone.run(command), alone.state()


@pytest.mark.parametrize("kind", NEEDING_KEY, ids=lambda kind: kind.name)
def test_a_success_without_a_tag_counts_for_nothing(attacked: Attacked, kind: Kind, image: Image) -> None:
    """From a device that is not locked, and so carries everything out."""
    double = TwinLine(image, UNLOCKED)
    sent: list[int] = []
    forgeries: list[int] = []
    forge = meddler.forged(kind, double)

    def noting(self: Meddler, request: bytes) -> list[bytes]:
        sent.append(request[1])
        told = forge(self, request)
        forgeries.extend(body[1] for body in told if meddler.asked(request, kind))
        return told

    before = attacked.state()
    ended = attacked.run(command(kind, image), noting)
    assert ended == "timeout"
    assert kind | ANSWER in forgeries
    assert kind | TAGGED in sent
    assert kind not in sent
    if kind in (Kind.reset, Kind.commit, Kind.rollback, Kind.mark_stable, Kind.push_begin, Kind.model_rollback):
        assert attacked.state() == before


@pytest.mark.parametrize("kind", NEEDING_KEY, ids=lambda kind: kind.name)
def test_an_answer_that_was_given_before_counts_for_nothing(attacked: Attacked, kind: Kind, image: Image) -> None:
    assert attacked.run(command(kind, image), meddler.replayed(kind)) == "timeout"
    assert len(attacked.meddler.heard) > 1


@pytest.mark.parametrize("name", ["locked", "no_session", "wrong_key", "busy"])
@pytest.mark.parametrize("kind", NEEDING_KEY, ids=lambda kind: kind.name)
def test_a_forged_refusal_makes_nothing_happen_twice(
    image: Image, flash: bytes, ring: KeyRing, kind: Kind, name: str
) -> None:
    """The device carries the request out, and somebody says that it has not."""
    status = next(s.code for s in statuses().values() if s.name == name)
    assert status
    carried_out: list[bytes] = []
    refuse = meddler.refused(kind, name)

    def counting(self: Meddler, request: bytes) -> list[bytes]:
        if meddler.asked(request, kind):
            carried_out.append(request)
        return refuse(self, request)

    attacked = Attacked(image, flash, ring)
    ended = attacked.run(command(kind, image), counting)
    assert ended in (name, "timeout")
    if kind not in (Kind.reset, Kind.samples):  # asked for until it is confirmed; several under way
        assert len(set(carried_out)) == 1


@pytest.mark.parametrize("kind", NEEDING_KEY, ids=lambda kind: kind.name)
@pytest.mark.parametrize("meddling", [partial(meddler.dropped, 1), meddler.reordered], ids=["dropped", "reordered"])
def test_what_is_lost_or_late_is_carried_out_once(
    image: Image, flash: bytes, ring: KeyRing, kind: Kind, meddling: Callable[[], Meddling]
) -> None:
    attacked = Attacked(image, flash, ring, PATIENT_S)
    ended = attacked.run(command(kind, image), meddling())
    assert (ended, attacked.state()) == undisturbed(image, flash, ring, command(kind, image))


# --- the greeting -------------------------------------------------------------------------------------


def test_a_device_that_claims_to_have_no_key_is_refused(attacked: Attacked) -> None:
    attacked.meddler.answers = greeted(lock=Lock.none, key_id=b"")
    with pytest.raises(KilotuneError, match="claims to have no key") as error:
        attacked.connect()
    assert error.value.code == "lock_lost"
    assert "--insecure" in error.value.hint


def test_nor_is_it_believed_under_another_name_where_its_key_was_named(attacked: Attacked) -> None:
    attacked.meddler.answers = greeted(lock=Lock.none, key_id=b"", unique_id=b"nobody")
    with pytest.raises(KilotuneError, match="claims to have no key"):
        attacked.connect()


def test_a_key_in_the_users_folder_counts_beside_one_that_is_named(
    attacked: Attacked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    keys_module.write(KeyRing().path(b"locked"), KEY)
    attacked.meddler.answers = greeted(lock=Lock.none, key_id=b"")
    for ring in (KeyRing(), KeyRing(tmp_path / "new.key")):
        attacked.ring = ring
        with pytest.raises(KilotuneError, match="claims to have no key"):
            attacked.connect()


def test_a_device_that_claims_to_have_another_key_is_refused(attacked: Attacked) -> None:
    attacked.meddler.answers = greeted(key_id=OTHER_KEY.id(b"locked"))
    with pytest.raises(KilotuneError, match="another key") as error:
        attacked.connect()
    assert error.value.code == "wrong_key"
    assert "--insecure" in error.value.hint


def test_a_key_that_was_replaced_opens_no_session(attacked: Attacked, ring: KeyRing) -> None:
    """Perhaps it was replaced because somebody has it: then that somebody could make right tags."""
    keys_module.write(ring.retired_path(b"locked", OTHER_KEY), OTHER_KEY)
    attacked.meddler.answers = greeted(key_id=OTHER_KEY.id(b"locked"))
    with pytest.raises(KilotuneError, match="replaced or removed") as error:
        attacked.connect()
    assert error.value.code == "wrong_key"
    assert str(ring.retired_path(b"locked", OTHER_KEY)) in error.value.hint


@pytest.mark.parametrize("kind", NEEDING_KEY, ids=lambda kind: kind.name)
def test_without_its_key_a_locked_device_is_not_even_asked(attacked: Attacked, kind: Kind, image: Image) -> None:
    """Whoever claims that it did what it does for nobody is not the device."""
    sent: list[int] = []

    def noting(self: Meddler, request: bytes) -> list[bytes]:
        sent.append(request[1])
        return self.device(request)

    attacked.ring = KeyRing(Path("nowhere.key"))
    assert attacked.run(command(kind, image), noting) == "locked"
    assert kind not in sent


def test_the_key_is_proven_even_where_there_is_no_model(attacked: Attacked) -> None:
    """Without a question about the model, the first tagged answer would be that of a command."""
    asked: list[int] = []

    def noting(self: Meddler, request: bytes) -> list[bytes]:
        asked.append(request[1])
        return greeted(opened=5)(self, request)

    attacked.meddler.answers = noting
    assert attacked.connect().client.authenticated
    assert asked == [Kind.hello, Kind.challenge, Kind.status | TAGGED]


# --- keys that are changed ----------------------------------------------------------------------------


@pytest.mark.parametrize("later", [{}, {"lock": Lock.none, "key_id": b""}], ids=["then honest", "then downgraded"])
def test_a_forged_refusal_does_not_throw_the_new_key_away(
    attacked: Attacked, ring: KeyRing, later: dict[str, object]
) -> None:
    """The device has taken it; the tools must still have it."""
    device = attacked.connect()
    refuse, greet = meddler.refused(Kind.key, "flash_failed"), greeted(**later)

    def answers(self: Meddler, request: bytes) -> list[bytes]:
        return refuse(self, request) if meddler.asked(request, Kind.key) else greet(self, request)

    attacked.meddler.answers = answers
    with pytest.raises(KilotuneError, match="refused to accept a key"):
        provisioning.change(device, ring, Lock.writes)
    attacked.meddler.answers = Meddler.device
    attacked.connect().commit()
    assert keys_module.read(ring.next_path(b"locked")) != KEY


def test_a_key_that_was_refused_goes(attacked: Attacked, ring: KeyRing) -> None:
    device = attacked.connect()

    def answers(self: Meddler, request: bytes) -> list[bytes]:
        return [meddler.refusal(request, "busy")] if meddler.asked(request, Kind.key) else self.device(request)

    attacked.meddler.answers = answers
    with pytest.raises(KilotuneError, match="refused to accept a key"):
        provisioning.change(device, ring, Lock.writes)
    assert not ring.next_path(b"locked").exists()
    attacked.connect().commit()


def test_a_known_key_never_crosses_the_line_as_it_is(attacked: Attacked, ring: KeyRing) -> None:
    """Not in a change, and not where the device seems to be new; by leave a device gets a new one."""
    crossed: list[bytes] = []

    def answers(self: Meddler, request: bytes) -> list[bytes]:
        crossed.append(request)
        return greeted(lock=Lock.none, key_id=b"")(self, request)

    attacked.meddler.answers = answers
    with pytest.raises(KilotuneError, match="claims to have no key"):
        provisioning.provision(attacked.connect(), ring, Lock.writes)
    assert not any(KEY.secret[:8] in request for request in crossed)


def test_by_leave_an_erased_device_gets_a_new_key_and_the_old_one_is_kept(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    ring = KeyRing()
    keys_module.write(ring.path(b"locked"), KEY)
    erased = Attacked(image, UNLOCKED, ring)
    with pytest.raises(KilotuneError, match="claims to have no key"):
        erased.connect()
    port = MeddledPort(erased.meddler, erased.clock)
    device = Device(port, image=image, timeout_s=TIMEOUT_S, insecure=True, clock=erased.clock, rng=random.Random(6))
    done = provisioning.provision(device, ring, Lock.writes)
    assert done.key_id != KEY.id(b"locked").hex()
    assert keys_module.read(ring.path(b"locked")) != KEY
    assert keys_module.read(ring.retired_path(b"locked", KEY)) == KEY
    erased.connect().commit()
