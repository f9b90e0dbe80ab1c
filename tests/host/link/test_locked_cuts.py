"""The power goes amid what an authenticated host asks of a locked device: python tests/host/link/test_locked_cuts.py

At every flash word of a push, a commit and a change of key (a build of its own of the native firmware tears the
word at which a fuse in the flash file burns down), and at random bytes of the exchange, either way. The device that
starts then has the old state or the new one, is locked, and takes nothing of what was recorded.
"""

from __future__ import annotations

import argparse
import mmap
import random
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kilotune.image.image import Image
from kilotune.link import frames, messages
from kilotune.link.auth import Lock
from kilotune.link.client import Client
from kilotune.link.messages import Kind

from tests.support import locked
from tests.support.locked import KEY, LAYOUT, OTHER_KEY, NativeLine, Tap, Victim, tagged
from tests.support.torn import FOREVER, fuse_left, set_fuse, torn_firmware

REFUSED = {"locked", "wrong_key", "slowed"}


class PowerCutError(Exception):
    """The device has restarted in the middle of it."""


class CutLine(NativeLine):
    """A line whose device loses its power at a flash word, or after a number of bytes in both directions."""

    left: int | None = None  # bytes; None: for ever
    passed = 0
    _armed = False

    def __init__(self, image: Image, flash: bytes, folder: Path) -> None:
        super().__init__(image, flash, folder, torn_firmware("native"))
        self._whole = flash
        with (folder / "flash.bin").open("r+b") as file:
            self._flash = mmap.mmap(file.fileno(), 0)
        self.set_fuse(FOREVER)

    def set_fuse(self, words: int, seed: int = 0) -> None:
        self._armed = words != FOREVER
        set_fuse(self._flash, words, seed)

    def fuse(self) -> int:
        return fuse_left(self._flash)

    def put_back(self) -> None:
        """The flash as it was at first, and a start."""
        for start, size in ((LAYOUT.checkpoint_offset, LAYOUT.checkpoint_bytes), (LAYOUT.key_offset, LAYOUT.key_bytes)):
            self._flash[start : start + size] = self._whole[start : start + size]
        self.press_reset()

    def press_reset(self) -> None:
        self._process.press_reset()
        time.sleep(0.005)  # what is sent now is the next run's

    def exchange(self, data: bytes) -> bytes:
        if self._count(len(data)):
            self._socket.sendall(data[: self.left])
            self._cut()
        if data:
            self._socket.sendall(data)
        ends = time.monotonic() + (5 if data else 0.02)
        self._socket.settimeout(0.005)
        while time.monotonic() < ends:
            try:
                answer = self._socket.recv(1 << 16)
            except TimeoutError:
                if self._armed and self.fuse() == FOREVER:
                    raise PowerCutError from None
                continue
            if self._count(len(answer)):
                self._cut()
            return answer
        return b""

    def _count(self, n: int) -> bool:
        """Whether the power goes within these bytes."""
        self.passed += n
        if self.left is None:
            return False
        if n > self.left:
            return True
        self.left -= n
        return False

    def _cut(self) -> None:
        self.left = None
        self.press_reset()
        raise PowerCutError

    def close(self) -> None:
        super().close()
        self._flash.close()


@dataclass(frozen=True, slots=True)
class State:
    """What a cut may find before or after, and nothing between."""

    adapter: int  # CRC of what the device runs, which is what its checkpoint says
    sequence: int
    key: bytes


@dataclass
class Cuts:
    words: int = 0
    bytes: int = 0
    to_before: int = 0
    to_after: int = 0
    replayed: int = 0
    longest: dict[str, int] = field(default_factory=dict)  # flash words of each command


class Campaign:
    """`line` is put back to the same flash before each cut."""

    def __init__(self, image: Image, line: CutLine) -> None:
        self._image, self._line, self._victim = image, line, Victim(line)
        self._rng = random.Random(1)
        self.commands: dict[str, Callable[[Client], object]] = {
            "push": self._push, "commit": lambda client: self._send(client, Kind.commit), "key": self._change_key
        }  # fmt: skip
        self.cuts = Cuts()

    def _send(self, client: Client, kind: Kind, *values: object) -> bytes:
        return client.request(kind, messages.encode(*values))

    def _push(self, client: Client) -> None:
        blob = bytearray(self._blob)
        blob[self._image.calibration_bytes] ^= 1
        whole = (self._image.image_hash, len(blob), zlib.crc32(blob), 1, 1)
        self._send(client, Kind.push_begin, *whole)
        for at in range(0, len(blob), 256):
            self._send(client, Kind.push, at, bytes(blob[at : at + 256]))
        self._send(client, Kind.push_end)

    def _change_key(self, client: Client) -> None:
        client.set_key(Lock.writes, OTHER_KEY)

    def _begin(self, name: str) -> tuple[Client, Tap]:
        """The owner, about to send the command, on flash as it was at first."""
        self._line.put_back()
        client, tap = self._victim.owner()
        self._blob = self._pull(client)
        if name == "commit":
            self._send(client, Kind.train_begin, locked.CONFIG)
            self._send(client, Kind.train_step, 0, 0, bytes(range(24)), b"")
        return client, tap

    def _pull(self, client: Client) -> bytes:
        blob = b""
        while len(blob) < self._image.adapter_bytes:
            wanted = messages.PullRequest(offset=len(blob), length=0xFFFF)
            blob += client.ask(messages.PullChunk, Kind.pull, wanted).data
        return blob

    def look(self) -> State:
        """Of the device as it has started: locked, and owned by one of both keys."""
        hello = self._victim.hello(0x3FFF)
        assert hello.lock == Lock.writes
        (key,) = [k for k in (KEY, OTHER_KEY) if k.id(hello.unique_id) == hello.key_id]
        client, _ = self._victim.someone(key)
        status = client.ask(messages.DeviceStatus, Kind.status)
        crc = zlib.crc32(self._pull(client))
        assert crc == status.checkpoint.crc
        return State(crc, status.checkpoint.sequence, hello.key_id)

    def measure(self, name: str) -> tuple[State, State, int, int]:
        """State before and after, flash words and bytes of the whole command."""
        self._begin(name)
        self._line.put_back()
        before = self.look()
        client, _ = self._begin(name)
        self._line.set_fuse(1 << 30)
        self._line.passed = 0
        self.commands[name](client)
        words, passed = (1 << 30) - self._line.fuse(), self._line.passed
        self._line.set_fuse(FOREVER)
        self._line.press_reset()
        after = self.look()
        assert after != before
        self.cuts.longest[name] = words
        return before, after, words, passed

    def cut(self, name: str, before: State, after: State, *, word: int = 0, byte: int | None = None) -> None:
        client, tap = self._begin(name)
        if word != 0:
            self._line.set_fuse(word, self._rng.getrandbits(32))
        self._line.left = byte
        try:
            self.commands[name](client)
            raise AssertionError("the power did not go")
        except PowerCutError:
            pass
        self._line.set_fuse(FOREVER)
        self._victim.send()  # takes in what was answered before the cut
        found = self.look()
        assert found in (before, after), f"{name}, word {word}, byte {byte}: {found}"
        assert self.look() == found
        self.cuts.words += word != 0
        self.cuts.bytes += byte is not None
        self.cuts.to_after += found == after
        self.cuts.to_before += found == before
        self._attack(tap.heard, client)
        assert self.look() == found

    def _attack(self, heard: list[bytes], client: Client) -> None:
        """What was recorded up to the cut, played again; what the client would have sent next; what has no tag."""
        decoder = frames.FrameDecoder()
        opening, challenge, *rest = [body for frame in heard for body in decoder.feed(frame)]
        rest.append(tagged(client, Kind.rollback, b""))
        assert len(self._victim.send(opening)) == 1
        assert len(self._victim.send(challenge)) == 1
        self._victim.attack(*rest, expect=REFUSED)
        session = self._victim.open()
        self._victim.attack(messages.HEADER.pack(1, Kind.commit, session, 1), expect={"locked"})
        self.cuts.replayed += len(rest)


@contextmanager
def campaign(folder: Path) -> Iterator[Campaign]:
    image = locked.make_image()
    flash = locked.prepared_flash(image, Lock.writes, folder)
    line = CutLine(image, flash, folder)
    try:
        yield Campaign(image, line)
    finally:
        line.close()


def run(folder: Path, *, stride: int, positions: int) -> Cuts:
    """Every `stride`-th flash word of each command, and numbers of bytes of its exchange, drawn at random."""
    with campaign(folder) as c:
        rng = random.Random(2)
        for name in c.commands:
            before, after, words, passed = c.measure(name)
            for word in range(1 + rng.randrange(stride), words + 1, stride):
                c.cut(name, before, after, word=word)
            for _ in range(positions):
                c.cut(name, before, after, byte=rng.randrange(passed))
        return c.cuts


def test_a_cut_amid_an_authenticated_command_leaves_the_device_locked_and_whole(tmp_path: Path) -> None:
    cuts = run(tmp_path, stride=79, positions=3)
    assert set(cuts.longest) == {"push", "commit", "key"}
    assert cuts.words > 20
    assert cuts.bytes == 9
    assert cuts.to_before > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="flash words from one cut to the next")
    parser.add_argument("--positions", type=int, default=200, help="bytes of each command's exchange")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cuts = run(Path(folder), stride=options.stride, positions=options.positions)
    print(f"flash words: {cuts.longest}; cuts in {cuts.words} of them and after {cuts.bytes} bytes: "
          f"{cuts.to_before} to the state before, {cuts.to_after} to the state after, 0 others; "
          f"{cuts.replayed} recorded messages refused")  # fmt: skip


if __name__ == "__main__":
    main()
