"""A host that says nothing, or asks and does not read, costs nobody a session: the watchdog is for hangs.

All devices of a run are left alone at the same time, so that their minute is waited for once.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from kilotune.device.device import Device
from kilotune.device.learning import LearnOptions
from kilotune.image.image import Image
from kilotune.link.messages import BenchCount, BenchKind, BenchRequest, Kind, PullRequest, decode, encode
from kilotune.link.transport import open_port
from kilotune.targets import native, qemu
from kilotune.targets.connect import connect
from kilotune.targets.target import parse_target
from kilotune.targets.twin import Twin
from kilotune.terms import Phase

from tests.device.spoiled import INFER, spoil

# For all of them to be started, and perhaps built, before the minute begins.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SILENCE_S = 61.0
# What of it must have passed on the device. Seconds of other emulators may be longer than a computer's; 0.4 of a
# minute is more than any watchdog waits, 20 s.
PASSED = {"native": 0.9, "qemu": 0.9, "port": 0.9}
WATCHED = ["--flash-chip", "stm32f4-16k"]  # the native device has a watchdog then

# Runs up to its `yield`, is left alone for a minute, and then says what must be as it was.
Story = Generator[None, None, None]


def silence(device: Device, kind: str) -> Story:
    before = device.status()
    yield
    after = device.status()  # refused where the device does not know the session any more
    assert (after.restart_cause, after.fault) == (before.restart_cause, before.fault)
    assert (after.phase, after.windows_learned) == (before.phase, before.windows_learned)
    assert (after.uptime_ms - before.uptime_ms) / 1000 >= PASSED.get(kind, 0.4) * SILENCE_S


@contextlib.contextmanager
def started(target: str, image: Image, state: Path) -> Iterator[Device]:
    """With a watchdog wherever the target can have one."""
    if target == "native":
        with (
            native.run(state, image.content, options=WATCHED) as (port, _),
            Device(open_port(port, timeout_s=60), image=image) as device,
        ):
            yield device
    else:
        with connect(target, image, state=state, timeout_s=60) as device:
            yield device


def before_learning(target: str, image: Image, state: Path) -> Story:
    with started(target, image, state) as device:
        yield from silence(device, parse_target(target).kind)


# --- amid learning

CONFIG = LearnOptions(lr=0.01, passes=2).learn_config(classifies=False)


def learn(device: Device, pause: Story) -> Generator[None, None, bytes]:
    """A learn phase with a pause amid a window; gives the adapter, which nobody commits."""
    samples = vibration(3000).tobytes()
    device.client.tell(Kind.learn_begin, CONFIG)
    stream = device.open_stream()
    half = stream.frame_bytes * 1515
    stream.push(samples[:half])
    stream.drain()
    assert device.status().windows_learned > 20
    yield from pause
    stream.push(samples[half:])
    stream.finish()
    device.client.tell(Kind.learn_end)
    end = time.monotonic() + 120
    while device.status().phase is not Phase.detect:
        assert time.monotonic() < end
    return device.pull_bytes()


def vibration(n: int) -> npt.NDArray[np.int16]:
    tone = 2000 * np.sin(np.arange(n)[:, None] * np.array([0.3, 0.7, 1.1]))
    return np.asarray(tone + np.random.default_rng(1).normal(0, 300, (n, 3))).astype(np.int16)


def amid_learning(target: str, image: Image, state: Path) -> Story:
    with started(target, image, state) as device:
        learned = yield from learn(device, silence(device, parse_target(target).kind))
    with Twin(image) as twin:
        untrained = twin.pull_bytes()
        without_a_pause = learn(twin, (None for _ in ()))
        with pytest.raises(StopIteration) as end:
            next(without_a_pause)
    assert learned == end.value.value != untrained


# --- with answers that nobody reads


def answers_unread(target: str, image: Image, state: Path) -> Story:
    """On a terminal, which keeps a few kilobytes: soon the device asks in vain whether it takes more."""
    parsed = parse_target(target)
    if target == "native":
        running = native.run(state, image.content, options=WATCHED, terminal=True)
    elif target.startswith("qemu:mps2"):
        running = qemu.run(parsed.board, state, image.content, terminal=True)
    else:
        pytest.skip("a chip's line takes what nobody reads; where QEMU's does not, it has no watchdog for that chip")
    with running as (port, _), Device(open_port(port, timeout_s=60), image=image) as device:
        pause = silence(device, parsed.kind)
        next(pause)
        line, before = device.client.transport, device.status().link.frames
        _, frame = device.client.frame(Kind.pull, encode(PullRequest(offset=0, length=256)))
        for _ in range(100):
            line.write(8 * frame)
            time.sleep(0.005)  # what its ring has no room for is lost
        yield
        kept = sum(len(data) for data in iter(lambda: line.read(timeout_s=2), b""))
        next(pause, None)
        assert 0 < kept < 256 * (device.status().link.frames - before)


# --- amid a request that takes longer than the watchdog waits

BOARD_OF_SLOW_RUNS = "mps2-an386"
RUN_MS = 30
# An inference that waits for RUN_MS, by the board's counter of milliseconds at 0x40028018, and is fine.
WAITS = struct.pack(
    "<14H",
    0x2140, 0x0209, 0x3102, 0x0209, 0x3180, 0x0209, 0x3118,  # r1 = (0x4002 << 8 | 0x80) << 8 | 0x18
    0x680A,  # r2 = [r1]
    0x680B, 0x1A9B, 0x2B00 | RUN_MS, 0xD3FB,  # until [r1] - r2 >= RUN_MS
    0x2000, 0x4770,  # return 0
)  # fmt: skip


def long_request(target: str, image: Image, state: Path) -> Story:
    if target != f"qemu:{BOARD_OF_SLOW_RUNS}":
        pytest.skip("one board with a watchdog is enough")
    _, slow = spoil(INFER, WAITS, BOARD_OF_SLOW_RUNS, state)
    with (
        qemu.run(BOARD_OF_SLOW_RUNS, state, image.content, firmware=slow) as (port, _),
        Device(open_port(port, timeout_s=60), image=image) as device,
    ):
        pause = silence(device, "qemu")
        next(pause)
        client, runs = device.client, 1000
        sequence, frame = client.frame(Kind.bench, encode(BenchRequest(what=BenchKind.inference, count=runs, label=0)))
        client.transport.write(frame)
        yield
        answer = client.receive(client.clock() + 60)
        assert answer is not None
        assert answer.sequence == sequence
        assert decode(BenchCount, client.payload(answer, Kind.bench)).elapsed_ms >= runs * RUN_MS
        next(pause, None)


# --- all of them

STORIES: dict[str, Callable[[str, Image, Path], Story]] = {
    "before-learning": before_learning,
    "amid-learning": amid_learning,
    "with-answers-unread": answers_unread,
    "amid-a-long-request": long_request,
}


@pytest.fixture(scope="module")
def begun(
    request: pytest.FixtureRequest, image: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], Story | BaseException]]:
    """Every story that this run tells, a minute after its `yield`; or why it did not get there."""
    stories: dict[tuple[str, str], Story | BaseException] = {}
    with contextlib.ExitStack() as stack:
        for item in request.session.items:
            if not isinstance(item, pytest.Function) or item.module is not request.module:
                continue
            target, name = (str(item.callspec.params[key]) for key in ("target", "story"))
            story = STORIES[name](target, image, tmp_path_factory.mktemp("state"))
            stack.callback(story.close)
            stories[target, name] = story
            try:
                next(story)
            except (Exception, pytest.skip.Exception) as reason:
                stories[target, name] = reason
        time.sleep(SILENCE_S)
        yield stories


@pytest.mark.parametrize("story", STORIES)
def test_a_minute_without_a_host_that_cares_changes_nothing(
    target: str, story: str, begun: dict[tuple[str, str], Story | BaseException]
) -> None:
    told = begun[target, story]
    if isinstance(told, BaseException):
        raise told
    with pytest.raises(StopIteration):
        next(told)
