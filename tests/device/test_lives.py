"""A life is the same on every core, bit for bit, with what an operator says in it; and a power cut takes none of it."""

from __future__ import annotations

import functools
import hashlib
import mmap
import random
import shutil
import subprocess
import zlib
from pathlib import Path

import kilotune
import numpy as np
import numpy.typing as npt
import pytest
from kilotune.common.files import lock_file
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import LifeSettings
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.messages import Life
from kilotune.link.status import RefusedError
from kilotune.link.transport import open_port
from kilotune.targets import qemu
from kilotune.targets.boards import board
from kilotune.targets.connect import connect
from kilotune.targets.target import parse_target
from kilotune.targets.twin import Twin

from tests.support import small_models
from tests.support.paths import ROOT
from tests.support.torn import FOREVER, fuse_left, set_fuse, torn_firmware

FIRST, CUTS = 4, 6
SAMPLES = 64 + 3 * 40  # of a record of four windows

Snapshot = tuple[Life, str]

needs_qemu = pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-g++") is None,
    reason="needs QEMU and the Arm compiler",
)


@pytest.fixture(scope="module")
def living() -> Image:
    features = FeatureConfig(rate_hz=1600.0, window=64, hop=40, fft_points=64, axes=3, bands=8)
    settings = LifeSettings(first=FIRST)
    return kilotune.compile(
        small_models.chain(24, 12, 24, seed=3), method="bias+head", features=features, life=settings,
        alone_windows=16, reservoir=16,
    )  # fmt: skip


def record(t: int, level: float = 0.1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(t).normal(0, level, (SAMPLES, 3)).astype(np.float32)


def begin(device: Device) -> None:
    device.learn([record(t) for t in range(FIRST)], lives=True, passes=3, lr=0.01)


def snapshot(device: Device) -> Snapshot:
    device.settled_phase()
    return device.life(), hashlib.sha256(device.pull_bytes()).hexdigest()


def live(device: Device, *, answered: bool) -> list[Snapshot]:
    """`answered`: an operator calls the alarm normal, and later says that there was a fault."""
    begin(device)
    told = [snapshot(device)]
    for t in range(FIRST, 16):
        device.score(record(t))
        told.append(snapshot(device))
    for t in range(16, 20):
        device.score(record(t, 0.4))
    told.append(snapshot(device))
    if answered:
        assert told[-1][0].alarm
        device.acknowledge("normal")
        for t in range(20, 28):
            device.score(record(t, 0.4))
        told.append(snapshot(device))
        device.set_alarm_rule(2, 4)
        device.acknowledge("fault")
        told.append(snapshot(device))
    return told


def has_life(target: str) -> bool:
    parsed = parse_target(target)
    return (
        parsed.kind == "native" or '"life": 0' not in (ROOT / f"firmware/boards/{parsed.board}/board.json").read_text()
    )


def test_a_life_gives_the_twins_bits(target: str, living: Image, flash: str) -> None:
    if parse_target(target).kind == "port":
        pytest.skip("needs a model of its own on the board")
    if not has_life(target):
        pytest.skip("its firmware is built without going on learning; a build with it is tried below")
    answered = flash != "read-only"
    with Twin(living) as twin:
        expected = live(twin, answered=answered)
    with connect(target, living, timeout_s=60.0, fresh=True) as device:
        assert live(device, answered=answered) == expected


@needs_qemu
def test_a_firmware_without_a_life_runs_such_an_image_and_learns_once(living: Image) -> None:
    with Twin(living) as twin:
        twin.learn([record(t) for t in range(8)], passes=3, lr=0.01)
        expected = twin.score(record(9)).values
    with connect("qemu:microbit", living, timeout_s=60.0, fresh=True) as device:
        for ask in (device.life, lambda: device.acknowledge("fault"), lambda: begin(device)):
            with pytest.raises(RefusedError) as refused:
                ask()
            assert refused.value.code == "no_life"
        device.learn([record(t) for t in range(8)], passes=3, lr=0.01)
        np.testing.assert_array_equal(device.score(record(9)).values, expected)


@functools.cache
def microbit_with_life(model: Path) -> Path:
    """With the operators of this model alone, so that there is room."""
    folder = ROOT / "build" / "microbit-with-life"
    folder.mkdir(parents=True, exist_ok=True)
    options = ("-G", "Ninja", "-DKILOTUNE_BOARD=microbit", "-DKILOTUNE_LIFE=1", f"-DKILOTUNE_MODEL={model}")
    busy = KilotuneError("build_failed", f"another build in {folder} does not end", "end it")
    with lock_file(folder / ".lock", 600, busy):
        for command in (["cmake", "-S", str(ROOT), "-B", str(folder), *options], ["cmake", "--build", str(folder)]):
            subprocess.run(command, check=True, capture_output=True, timeout=600)
    return folder / "kilotune.elf"


@needs_qemu
def test_a_life_gives_the_twins_bits_on_a_cortex_m0(living: Image, tmp_path: Path) -> None:
    model = tmp_path / "m.ktm"
    living.save(model)
    with Twin(living) as twin:
        expected = live(twin, answered=True)
    elf = microbit_with_life(model)
    with (
        qemu.run("microbit", tmp_path / "state", living.content, firmware=elf, timeout_s=60) as (port, _),
        Device(open_port(port, timeout_s=60), timeout_s=60, image=living) as device,
    ):
        assert live(device, answered=True) == expected


@needs_qemu
def test_a_life_that_loses_power_at_any_flash_word_goes_on_from_its_last_checkpoint_or_the_next(
    living: Image, tmp_path: Path
) -> None:
    """Phases commit by themselves, and so does what an operator says."""
    board_id, rng, cuts = "mps2-an386", random.Random(5), 0
    words = 3 * living.adapter_bytes // board(board_id).flash.word_bytes
    with (
        qemu.run(board_id, tmp_path, living.content, firmware=torn_firmware(board_id), timeout_s=60) as (port, _),
        (tmp_path / "flash.bin").open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as flash,
    ):
        with Device(open_port(port, timeout_s=60), timeout_s=60, image=living) as device:
            begin(device)
            device.commit()
        while cuts < CUTS:
            set_fuse(flash, rng.randint(1, words), rng.getrandbits(32))
            with Device(open_port(port, timeout_s=60), timeout_s=60, image=living) as device:
                known = _live_until_cut(device)
            assert fuse_left(flash) == 0
            set_fuse(flash, FOREVER)
            with Device(open_port(port, timeout_s=60), timeout_s=60, image=living) as device:
                status, life = device.status(), device.life()
                # A phase and an answer may have followed the last look.
                assert known <= status.checkpoint.sequence <= known + 2
                assert status.checkpoint.crc == zlib.crc32(device.pull_bytes())
                assert life.lives
                assert life.age >= FIRST
            cuts += 1


def _live_until_cut(device: Device) -> int:
    """Number of the checkpoint at the last look."""
    known = device.status().checkpoint.sequence
    for t in range(100, 300):
        try:
            device.score(record(t))
            device.acknowledge("fault")
            known = device.status().checkpoint.sequence
        except KilotuneError:
            return known
    raise AssertionError("its power never failed")
