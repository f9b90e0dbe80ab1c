"""`connect`: which flash a device starts with, and which clock its waits use."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune import Image, connect
from kilotune.device.device import Device
from kilotune.link.transport import InProcess
from kilotune.targets.target import StartedDevice

from tests.support import small_models
from tests.support.faulty_line import Clock, Faults, FaultyLine
from tests.support.model_device import AXES, ModelDevice


@pytest.fixture(scope="module")
def image() -> Image:
    return kilotune.compile(small_models.chain(10, 6, 10, seed=1), method="bias")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where devices keep their flash by default."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def commits(image: Image, target: str, *, state: Path | None = None, fresh: bool = False) -> tuple[int, bytes]:
    """The checkpoint's number after one more commit, and the device's id."""
    with connect(target, image, state, fresh=fresh) as device:
        device.train(np.zeros((1, 10), np.int8), steps=1, lr=0.01)
        return device.commit().sequence, device.unique_id


@pytest.mark.parametrize("target", ["twin", "native"])
def test_a_fresh_device_knows_nothing_and_leaves_nothing(target: str, image: Image, cache: Path) -> None:
    assert [commits(image, target, fresh=True)[0] for _ in range(2)] == [1, 1]
    assert not cache.exists()
    assert [commits(image, target)[0] for _ in range(2)] == [1, 2]
    assert (cache / "kilotune" / "devices" / target / "flash.bin").is_file()


def test_a_state_folder_that_is_named_counts_for_a_fresh_device_too(image: Image, tmp_path: Path) -> None:
    found = [commits(image, "twin", state=tmp_path / "state", fresh=True)[0] for _ in range(2)]
    assert found == [1, 2]


def test_every_fresh_twin_is_the_same_device(image: Image) -> None:
    assert commits(image, "twin", fresh=True) == commits(image, "twin", fresh=True) == (1, b"twin")


class Training(FaultyLine):
    """A line whose device trains by itself, and wants to be asked every two seconds."""

    poll_s = 2.0


def test_a_device_waits_for_training_in_the_time_that_it_is_given() -> None:
    clock, model = Clock(), ModelDevice()
    device = Device(Training(model.exchange, clock, Faults(), 0), clock=clock, rng=random.Random(1))
    before = clock.now_s
    device.learn(np.zeros((600, AXES), np.int16), 0, passes=40)
    assert model.log[-1] == "learn_end"
    assert clock.now_s - before >= 2.0


def test_an_emulated_port_settles_in_the_time_that_it_is_given(image: Image) -> None:
    clock, closed = Clock(), []
    line = InProcess(ModelDevice())
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: closed.append(True))
        started = StartedDevice(line, "qemu:x", stack.pop_all(), settle_s=30.0, clock=clock)
    started.reopen(1.0)
    assert clock.now_s == 30.0
    assert not closed
    started.close()
    assert closed == [True]
