"""A board starts, introduces itself, and keeps what was committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link.messages import DeviceStatus, RestartCause
from kilotune.link.status import RefusedError, statuses
from kilotune.link.transport import open_port
from kilotune.targets import flashfile, native, qemu, renode
from kilotune.targets.boards import board
from kilotune.targets.connect import connect
from kilotune.targets.process import DeviceProcess
from kilotune.targets.target import parse_target, state_folder

from tests.device.spoiled import BENCH, spoil

Run = Callable[..., AbstractContextManager[tuple[str, DeviceProcess]]]
EMULATORS: dict[str, Run] = {"qemu": qemu.run, "renode": renode.run}


def rows(image: Image, n: int, seed: int = 0) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, (n, image.input_bytes)).astype(np.int8)


def train(device: Device, image: Image, steps: int, seed: int = 0) -> None:
    device.train(rows(image, 16, seed), steps=steps, lr=0.01)


def status_name(code: int) -> str:
    return statuses()[code].name


def test_a_device_introduces_itself(device: Device, target: str, image: Image) -> None:
    info = device.info()
    wanted = parse_target(target)
    assert wanted.kind == "port" or info.board == wanted.board
    assert device.status().uptime_ms < 60_000


@pytest.mark.usefixtures("needs_flash")
def test_reset_keeps_what_was_committed_and_nothing_else(device: Device, image: Image) -> None:
    x = rows(image, 4)
    train(device, image, 30)
    committed = device.commit()
    output = device.infer(x)
    train(device, image, 30, seed=1)
    assert not np.array_equal(device.infer(x), output)
    device.reset()
    assert device.status().checkpoint == committed
    np.testing.assert_array_equal(device.infer(x), output)


@pytest.mark.usefixtures("needs_flash")
def test_rollback_returns_to_the_checkpoint_before_for_good(device: Device, image: Image, flash: str) -> None:
    if flash != "chip":  # a chip may have checkpoints from before
        with pytest.raises(RefusedError) as refused:
            device.rollback()
        assert status_name(refused.value.status) == "no_checkpoint"
    train(device, image, 20)
    first = device.commit()
    train(device, image, 20, seed=1)
    second = device.commit()
    assert second.crc != first.crc
    assert device.rollback().crc == first.crc
    device.reset()
    assert device.status().checkpoint.crc == first.crc


def test_a_reset_forgets_what_was_not_committed(device: Device, image: Image) -> None:
    x = rows(image, 4)
    output = device.infer(x)
    train(device, image, 30)
    assert not np.array_equal(device.infer(x), output)
    device.reset()
    np.testing.assert_array_equal(device.infer(x), output)


def test_flash_that_takes_nothing_is_told_and_the_device_goes_on(device: Device, image: Image, flash: str) -> None:
    if flash != "read-only":
        pytest.skip("this flash can be written")
    train(device, image, 10)
    output = device.infer(rows(image, 2))
    with pytest.raises(RefusedError) as refused:
        device.commit()
    assert status_name(refused.value.status) == "flash_failed"
    assert device.status().checkpoint.sequence == 0
    np.testing.assert_array_equal(device.infer(rows(image, 2)), output)


@pytest.mark.usefixtures("needs_file")
@pytest.mark.parametrize("end", ["close", "kill"])
def test_flash_outlives_the_device(target: str, image: Image, state: Path, end: str) -> None:
    """Killed without warning or ended: the next start finds model and checkpoint."""
    with started(target, state, image.content) as (device, process):
        train(device, image, 20)
        committed = device.commit()
        if end == "kill":
            process.kill()
    with started(target, state, None) as (device, _):
        assert device.status().checkpoint == committed


@pytest.mark.usefixtures("needs_file")
def test_a_checkpoint_of_another_model_is_ignored_and_kept(
    target: str, image: Image, other_image: Image, state: Path
) -> None:
    with connect(target, image, state) as device:
        train(device, image, 20)
        committed = device.commit()
    with connect(target, other_image, state) as device:
        assert device.status().checkpoint.sequence == 0
    with connect(target, image, state) as device:
        assert device.status().checkpoint == committed


@pytest.mark.parametrize(
    ("damage", "wanted"),
    [("none", "bad_magic"), ("bit", "bad_crc"), ("version", "bad_version"), ("cut", "bad_crc")],
)
def test_a_damaged_model_is_refused_with_its_reason(
    target: str, image: Image, state: Path, damage: str, wanted: str
) -> None:
    content = bytearray(image.content)
    if damage == "bit":
        content[len(content) // 2] ^= 1
    elif damage == "version":
        content[4] += 1
    elif damage == "cut":
        del content[-40:]
    with started(target, state, None if damage == "none" else bytes(content)) as (device, _):
        assert device.info().model == wanted
        with pytest.raises(KilotuneError):
            device.infer(rows(image, 1))
        assert device.status().checkpoint.sequence == 0


def test_memory_is_told_and_the_stack_has_room(device: Device, image: Image, target: str) -> None:
    train(device, image, 5)
    memory = device.status().memory
    assert memory.static_bytes > image.adapter_bytes
    if parse_target(target).kind in EMULATORS:
        reserved = board(parse_target(target).board).stack_bytes
        assert memory.stack_bytes == reserved
        assert 100 < memory.stack_peak <= reserved - 256


@pytest.mark.parametrize(
    ("code", "cause"),
    [(b"\x00\xde", None), (b"\xf0\xb5\xfd\xe7", 2)],  # udf; push {r4-r7, lr} for ever
    ids=["undefined-instruction", "stack-overflow"],
)
def test_a_fault_is_told_after_the_restart(
    target: str, image: Image, state: Path, code: bytes, cause: int | None
) -> None:
    """The firmware with other code where the bench request begins."""
    parsed = parse_target(target)
    if parsed.kind not in EMULATORS:
        pytest.skip("needs an emulator that runs a spoiled firmware")
    address, spoiled = spoil(BENCH, code, parsed.board, state)
    with EMULATORS[parsed.kind](parsed.board, state, image.content, firmware=spoiled) as (port, _):
        with Device(open_port(port, timeout_s=60), timeout_s=5) as device:
            assert device.status().fault.pc == 0
            with pytest.raises(KilotuneError):
                device.bench()
        with Device(open_port(port, timeout_s=60), timeout_s=60) as device:
            assert device.status().fault.pc == (address if cause is None else cause)
            assert device.status().restart_cause == RestartCause.fault
            device.reset()
            assert device.status().fault.pc == 0
            assert device.status().restart_cause == RestartCause.asked


HANG = b"\xfe\xe7"  # b .


def test_a_hang_ends_with_the_watchdog(target: str, image: Image, state: Path) -> None:
    """Within the board's time, 8 s, or 20 s if the emulator uses the computer's time."""
    parsed = parse_target(target)
    if parsed.kind != "renode" and not parsed.board.startswith("mps2"):
        pytest.skip("this target models no watchdog")
    address, hung = spoil(BENCH, HANG, parsed.board, state)
    with EMULATORS[parsed.kind](parsed.board, state, image.content, firmware=hung) as (port, _):
        with Device(open_port(port, timeout_s=60), timeout_s=5) as device:
            assert device.status().restart_cause == RestartCause.power
            with pytest.raises(KilotuneError):
                device.bench()
        status = _after_the_restart(port)
    if parsed.kind == "qemu":  # warns first, by an interrupt that tells where it hung
        assert (status.restart_cause, status.fault.pc) == (RestartCause.watchdog, address)
    else:  # Renode 1.16.1 does not tell the chip that it was the watchdog
        assert status.restart_cause in (RestartCause.watchdog, RestartCause.outside)


def _after_the_restart(port: str) -> DeviceStatus:
    """An emulated second can take several."""
    end = time.monotonic() + 300
    while True:
        try:
            with Device(open_port(port, timeout_s=5), timeout_s=5) as device:
                return device.status()
        except KilotuneError:
            if time.monotonic() > end:
                raise


def test_instructions_are_counted_alike_in_two_runs(target: str, image: Image) -> None:
    parsed = parse_target(target)
    if parsed.kind != "qemu" or not board(parsed.board).emulator.counts:
        pytest.skip("this target does not count instructions")
    counts = []
    for _ in range(2):
        with connect(target, image, fresh=True) as device:
            for bench in (device.bench(), device.bench()):
                counts.append((bench.instructions_inference, bench.instructions_step))
    assert len(set(counts)) == 1
    inference, step = counts[0]
    assert inference is not None
    assert step is not None
    assert image.macs < inference < step


def test_two_devices_cannot_share_a_flash(device: Device, target: str, image: Image, state: Path, flash: str) -> None:
    if flash == "chip":
        pytest.skip("a board on a desk is no process of this computer")
    with pytest.raises(KilotuneError) as refused:
        connect(target, image, state)
    assert refused.value.code == "busy_target"
    assert device.status().checkpoint.sequence == 0  # the first one is not disturbed


def test_a_model_larger_than_the_partition_is_refused_before_anything_changes(state: Path) -> None:
    layout = board("native").flash
    with pytest.raises(KilotuneError) as refused:
        flashfile.prepare(state / "flash.bin", layout, bytes(layout.model_bytes + 4))
    assert refused.value.code == "too_large"
    assert not state.exists()


class started:  # lower case: a context manager
    """A device and its process, on flash with these raw bytes in its model partition."""

    def __init__(self, target: str, state: Path, content: bytes | None) -> None:
        parsed = parse_target(target)
        folder = state_folder(parsed, state)
        if parsed.kind == "native":
            self._run: AbstractContextManager[tuple[str, DeviceProcess]] = native.run(folder, content)
        elif parsed.kind in EMULATORS:
            self._run = EMULATORS[parsed.kind](parsed.board, folder, content)
        else:
            pytest.skip("needs a device that the test can start and kill")

    def __enter__(self) -> tuple[Device, DeviceProcess]:
        port, process = self._run.__enter__()
        try:
            self._device = Device(open_port(port, timeout_s=60), timeout_s=60)
        except BaseException as error:
            self._run.__exit__(type(error), error, None)
            raise
        return self._device, process

    def __exit__(self, *error: object) -> None:
        self._device.close()
        self._run.__exit__(None, None, None)
