"""Keys on the host: the same BLAKE2s as on the device, files that only their owner reads, text without secrets."""

from __future__ import annotations

import hashlib
import os
import random
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kilotune.adapters.adapter import Adapter
from kilotune.adapters.trust import Trust
from kilotune.device import provisioning
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link import keys
from kilotune.link.auth import Key, Lock
from kilotune.link.keys import KeyRing
from kilotune.link.status import RefusedError
from kilotune.link.transport import InProcess

from tests.support import locked
from tests.support.locked import KEY, LAYOUT, OTHER_KEY

native = pytest.importorskip("kilotune._native", reason="the compiled module is not installed")


@given(st.data())
def test_blake2s_is_hashlibs_with_any_key_length_and_split(data: st.DataObject) -> None:
    message = data.draw(st.binary(max_size=400))
    key = data.draw(st.binary(max_size=32))
    size = data.draw(st.integers(1, 32))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(message)), max_size=6)))
    pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
    assert native.blake2s(pieces, key, size) == hashlib.blake2s(message, digest_size=size, key=key).digest()


def test_blake2s_is_hashlibs_around_every_block_border() -> None:
    rng = random.Random(3)
    for n in [*range(0, 260), 1023, 1024, 1025, 70_000]:
        message, key = rng.randbytes(n), rng.randbytes(n % 33)
        cut = rng.randrange(n + 1)
        right = hashlib.blake2s(message, key=key).digest()
        assert native.blake2s([message[:cut], message[cut:]], key, 32) == right


def test_a_key_shows_in_no_text() -> None:
    session = KEY.session(bytes(16), bytes(16), b"id")
    for text in (repr(KEY), str(KEY), f"{KEY}", repr([KEY]), repr(session), str(session)):
        assert KEY.secret.hex() not in text
        assert repr(KEY.secret) not in text
        assert "x" not in text.replace("Key", "")


def test_key_files_are_their_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.key"
    old = os.umask(0)
    try:
        keys.write(path, KEY)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keys.read(path) == KEY
    assert [p.name for p in path.parent.iterdir()] == ["a.key"]
    path.chmod(0o640)
    with pytest.raises(KilotuneError, match="others may read"):
        keys.read(path)


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"00" * 31, b"00" * 33, b"\xff" * 64, b"00" * 5000])
def test_what_is_no_key_file_is_refused_without_being_quoted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KilotuneError, match="is not a key file") as error:
        keys.read(path)
    assert error.value.code == "bad_key_file"
    assert "zz" not in str(error.value)


def test_new_keys_differ() -> None:
    assert len({Key.new().secret for _ in range(100)}) == 100


@pytest.fixture(scope="module")
def image() -> Image:
    return locked.make_image()


class Board:
    """A twin's flash, and the key ring of its owner."""

    def __init__(self, image: Image, folder: Path) -> None:
        self.image, self.ring = image, KeyRing(folder / "device.key")
        self.flash, self.keys = bytearray(b"\xff" * 4096 * 16), bytearray(b"\xff" * LAYOUT.key_bytes)

    def open(self, ring: KeyRing | None = None, *, insecure: bool = False) -> Device:
        session = native.Session(self.image.content, self.flash, 4096, "board-1", keys=self.keys)
        line = InProcess(session)
        return Device(line, image=self.image, keys=ring or self.ring, insecure=insecure, timeout_s=5)


@pytest.fixture
def board(image: Image, tmp_path: Path) -> Board:
    return Board(image, tmp_path)


def test_a_key_locks_changes_and_goes(board: Board, tmp_path: Path) -> None:
    device = board.open()
    device.commit()
    done = provisioning.provision(device, board.ring, Lock.writes)
    assert (device.lock, device.key_id.hex()) == (Lock.writes, done.key_id)
    with pytest.raises(KilotuneError, match="has a key"):
        provisioning.provision(device, board.ring, Lock.writes)
    device.commit()
    stranger = board.open(KeyRing(tmp_path / "nothing.key"))
    assert stranger.status().checkpoint.sequence == 2
    for forbidden in (stranger.commit, stranger.rollback, stranger.restore, stranger.pull, stranger.reset):
        with pytest.raises(KilotuneError, match="is locked, and there is no key for it") as error:
            forbidden()
        assert error.value.code == "locked"
    first = keys.read(board.ring.path(b"board-1"))
    device = board.open()
    provisioning.change(device, board.ring, Lock.all)
    assert keys.read(board.ring.path(b"board-1")) != first
    device.commit()
    keys.write(tmp_path / "old.key", first)
    with pytest.raises(KilotuneError, match="another key") as error:
        board.open(KeyRing(tmp_path / "old.key"))  # reading is closed too
    assert error.value.code == "wrong_key"
    provisioning.remove(board.open(), board.ring)
    assert not board.ring.path(b"board-1").exists()
    stranger = board.open(KeyRing(tmp_path / "nothing.key"))
    assert stranger.lock is Lock.none
    stranger.commit()
    with pytest.raises(RefusedError, match="has no key"):
        stranger.set_key(Lock.none, None)
    with pytest.raises(KilotuneError, match="has no key"):
        provisioning.remove(stranger, board.ring)


def test_the_key_that_crosses_the_line_in_a_change_is_hidden(board: Board) -> None:
    device = board.open()
    provisioning.provision(device, board.ring, Lock.writes)
    heard: list[bytes] = []
    write = device.client.transport.write

    def tapped(data: bytes) -> None:
        heard.append(data)
        write(data)

    device.client.transport.write = tapped  # type: ignore[method-assign]
    provisioning.change(device, board.ring, Lock.writes)
    new = keys.read(board.ring.path(b"board-1"))
    assert len(heard) > 2
    assert all(new.secret[i : i + 4] not in data for data in heard for i in range(29))


def test_a_change_that_was_cut_off_leaves_a_key_that_opens(board: Board) -> None:
    """Whichever of both the device has: the old file or the new one beside it."""
    provisioning.provision(board.open(), board.ring, Lock.writes)
    for reached_the_device in (False, True):
        coming = Key.new()
        keys.write(board.ring.next_path(b"board-1"), coming)
        if reached_the_device:
            board.open().set_key(Lock.writes, coming)
        board.open().commit()
    provisioning.change(board.open(), board.ring, Lock.writes)
    board.open().commit()


def test_a_key_that_exists_is_not_overwritten(board: Board, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    ring = KeyRing()
    keys.write(ring.path(b"board-1"), OTHER_KEY)
    with pytest.raises(KilotuneError) as error:
        provisioning.provision(board.open(ring), ring, Lock.writes)
    assert error.value.code == "lock_lost"
    assert keys.read(ring.path(b"board-1")) == OTHER_KEY
    # A file that was named is meant where its key may cross the line.
    ring.path(b"board-1").unlink()
    keys.write(board.ring.path(b"board-1"), KEY)
    with pytest.raises(KilotuneError, match="claims to have no key"):
        board.open()
    provisioning.provision(board.open(insecure=True), board.ring, Lock.writes)
    assert keys.read(board.ring.path(b"board-1")) == KEY
    board.open().commit()


def test_what_another_computer_of_the_owner_did_is_told_apart(board: Board, tmp_path: Path) -> None:
    """A key that was changed there, then taken away: refused here, and by leave what is open to anyone is read."""
    provisioning.provision(board.open(), board.ring, Lock.writes)
    there = KeyRing(tmp_path / "there" / "device.key")
    keys.write(there.path(b"board-1"), keys.read(board.ring.path(b"board-1")))
    provisioning.change(board.open(there), there, Lock.writes)
    with pytest.raises(KilotuneError, match="claims to have another key") as error:
        board.open()
    assert error.value.code == "wrong_key"
    reader = board.open(insecure=True)
    assert reader.status().checkpoint.sequence == 0
    with pytest.raises(KilotuneError, match="claims to have another key"):
        reader.commit()
    provisioning.remove(board.open(there), there)
    with pytest.raises(KilotuneError, match="claims to have no key"):
        board.open()
    board.open(insecure=True).commit()
    board.ring.path(b"board-1").unlink()
    board.open().commit()


def test_an_answer_that_the_device_did_not_make_is_not_believed(board: Board) -> None:
    """A forged answer is dropped; the right one counts."""
    device = board.open()
    provisioning.provision(device, board.ring, Lock.writes)
    device.commit()
    client = device.client
    read = client.transport.read
    forged: list[bytearray] = []

    def flip(timeout_s: float) -> bytes:
        from kilotune.link import frames

        data = read(timeout_s)
        bodies = frames.FrameDecoder().feed(data)
        if not bodies or len(forged) >= 3:
            return data
        body = bytearray(bodies[0])
        body[7] ^= 1
        forged.append(body)
        return frames.encode(bytes(body))

    client.transport.read = flip  # type: ignore[method-assign]
    before = device.status().checkpoint.sequence
    assert device.commit().sequence == before + 1
    assert client.forged == 3


def test_a_pulled_adapter_is_vouched_for(board: Board, tmp_path: Path) -> None:
    plain = board.open().pull()
    assert plain.config.tag == ""
    assert plain.trust(board.ring) is Trust.no_tag
    provisioning.provision(board.open(), board.ring, Lock.writes)
    adapter = board.open().pull()
    assert adapter.trust(board.ring) is Trust.verified
    assert adapter.trust(KeyRing(tmp_path / "nothing.key")) is Trust.unknown_key
    adapter.save(tmp_path / "a")
    assert Adapter.load(tmp_path / "a", keys=board.ring) == adapter
    blob = bytearray(adapter.blob)
    blob[-1] ^= 1
    config = adapter.config
    for forged in (
        replace(adapter, blob=bytes(blob)),
        replace(adapter, config=replace(config, steps=config.steps + 1)),
        replace(adapter, config=replace(config, windows_seen=config.windows_seen + 1)),
        replace(adapter, config=replace(config, image_hash="00" * 32)),
        replace(adapter, config=replace(config, tag="00" * 16)),
        replace(adapter, config=replace(config, tag="no hex")),
        replace(adapter, config=replace(config, tag=config.tag[:-2])),
    ):
        with pytest.raises(KilotuneError) as error:
            forged.trust(board.ring)
        assert error.value.code == "bad_tag"
    replace(adapter, blob=bytes(blob)).save(tmp_path / "b")
    with pytest.raises(KilotuneError, match="tag is wrong"):
        Adapter.load(tmp_path / "b", keys=board.ring)
    # A key that was replaced still verifies what was pulled under it.
    provisioning.change(board.open(), board.ring, Lock.writes)
    assert adapter.trust(board.ring) is Trust.verified
    provisioning.remove(board.open(), board.ring)
    assert adapter.trust(board.ring) is Trust.verified
