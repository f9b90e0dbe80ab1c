"""Another model over the serial line: the old one or the new one runs, whatever happens in between."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from kilotune.device.device import Device
from kilotune.device.model_swap import swap_model
from kilotune.device.results import Progress
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link.status import RefusedError
from kilotune.link.transport import open_port
from kilotune.targets import native
from kilotune.targets.target import parse_target
from kilotune.targets.twin import Twin

pytestmark = pytest.mark.usefixtures("needs_flash")


def rows(image: Image, seed: int = 0) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, (8, image.input_bytes)).astype(np.int8)


def outputs(image: Image) -> bytes:
    with Twin(image) as twin:
        return twin.infer(rows(image)).tobytes()


def stays_on_a_chip(target: str, flash: str) -> bool:
    """QEMU puts the model that it was started with into its chip's flash again at every reset."""
    return not (flash == "memory" and parse_target(target).kind == "qemu")


@pytest.fixture
def swappable(device: Device, image: Image) -> Device:
    """Where the flash holds two models; a board whose partition is erased as a whole must say so."""
    refused = None
    try:
        device.replace_model(image)
    except RefusedError as error:
        refused = error
    if refused is None:
        device.rollback_model()
        return device
    assert (refused.code, refused.detail) == ("no_room", 0), refused
    assert "kilotune flash" in refused.hint
    assert device.infer(rows(image)).tobytes() == outputs(image)
    pytest.skip(refused.message)


def test_another_model_runs_and_the_former_one_returns_with_what_it_had_learned(
    swappable: Device, image: Image, other_image: Image, target: str, flash: str
) -> None:
    device = swappable
    device.train(rows(image), steps=20, lr=0.01)
    committed = device.commit()
    trained = device.infer(rows(image)).tobytes()
    assert trained != outputs(image)
    told: list[Progress] = []
    assert device.replace_model(other_image, progress=told.append).image_hash == other_image.image_hash.hex()
    assert (told[-1].done, told[-1].total) == (len(other_image.content), len(other_image.content))
    assert device.infer(rows(image)).tobytes() == outputs(other_image) != outputs(image)
    assert device.status().checkpoint.sequence == 0  # what another model has learned is not its own
    with Twin(other_image) as twin:
        assert device.pull_bytes() == twin.pull_bytes()
        twin.train(rows(image), steps=30, lr=0.01)
        device.train(rows(image), steps=30, lr=0.01)
        assert device.pull_bytes() == twin.pull_bytes()
    if stays_on_a_chip(target, flash):
        device.reset()
        assert device.info().image_hash == other_image.image_hash.hex()
        assert device.infer(rows(image)).tobytes() == outputs(other_image)
    assert device.rollback_model().image_hash == image.image_hash.hex()
    assert device.infer(rows(image)).tobytes() == trained
    assert device.status().checkpoint == committed
    if stays_on_a_chip(target, flash):
        device.reset()
        assert device.infer(rows(image)).tobytes() == trained
    memory = device.status().memory
    assert memory.stack_bytes == 0 or memory.stack_peak + 128 <= memory.stack_bytes


def test_models_follow_each_other(swappable: Device, image: Image, other_image: Image) -> None:
    """More often than the partition has places, so that each is erased and used again."""
    for turn in range(5):
        chosen = other_image if turn % 2 == 0 else image
        swappable.replace_model(chosen)
        assert swappable.infer(rows(image)).tobytes() == outputs(chosen)


def sealed(content: bytearray) -> bytes:
    """With a right hash and checksum again: only what is inside is wrong."""
    content[16:48] = hashlib.sha256(content[48:]).digest()
    struct.pack_into("<I", content, 12, zlib.crc32(content[16:]))
    return bytes(content)


def changed(image: Image, at: int, layout: str, value: int) -> bytes:
    content = bytearray(image.content)
    struct.pack_into(layout, content, at, value)
    return sealed(content)


def damaged(image: Image) -> bytes:
    content = bytearray(image.content)
    content[len(content) // 2] ^= 1
    return bytes(content)


ARENA_AT, OPS_AT = 116, 92


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda image: changed(image, ARENA_AT, "<I", 0x0F000000), "no_memory"),
        (lambda image: changed(image, struct.unpack_from("<I", image.content, OPS_AT)[0], "<B", 99), "unsupported_op"),
        (lambda image: changed(image, 4, "<H", 77), "bad_version"),
        (damaged, "bad_crc"),
        (lambda _: bytes(4096), "bad_magic"),
    ],
    ids=["ram", "operator", "version", "damaged", "nothing"],
)
def test_what_the_device_cannot_run_is_refused_before_the_switch(
    swappable: Device, image: Image, other_image: Image, make: Callable[[Image], bytes], code: str
) -> None:
    device = swappable
    content = make(other_image)
    with pytest.raises(RefusedError) as refused:
        swap_model(device.client, content, content[16:48], device.info().chunk, lambda _: None)
    assert refused.value.code == code
    assert refused.value.hint
    assert device.info().image_hash == image.image_hash.hex()
    assert device.infer(rows(image)).tobytes() == outputs(image)
    device.replace_model(other_image)
    assert device.infer(rows(image)).tobytes() == outputs(other_image)


def test_one_that_is_too_large_is_refused_before_it_is_sent(swappable: Device, image: Image) -> None:
    sent: list[int] = []
    with pytest.raises(RefusedError) as refused:
        swap_model(swappable.client, bytes(64 << 20), bytes(32), 320, sent.append)
    assert refused.value.code == "no_room"
    assert refused.value.detail >= len(image.content)
    assert sent == []
    assert swappable.infer(rows(image)).tobytes() == outputs(image)


def test_there_is_no_former_model_at_first(device: Device, image: Image) -> None:
    with pytest.raises(RefusedError) as refused:
        device.rollback_model()
    assert refused.value.code in ("no_former", "unavailable")
    assert device.infer(rows(image)).tobytes() == outputs(image)


class StoppedError(Exception):
    pass


def test_a_host_that_is_gone_halfway_has_changed_nothing_and_goes_on_later(
    swappable: Device, image: Image, other_image: Image
) -> None:
    def stop(progress: Progress) -> None:
        if progress.done * 2 > progress.total:
            raise StoppedError

    with pytest.raises(StoppedError):
        swappable.replace_model(other_image, progress=stop)
    swappable.client.open()  # as another host does
    assert swappable.infer(rows(image)).tobytes() == outputs(image)
    sent: list[Progress] = []
    swappable.replace_model(other_image, progress=sent.append)
    assert sent[0].done * 2 > sent[0].total
    assert swappable.infer(rows(image)).tobytes() == outputs(other_image)


def test_a_device_whose_model_is_missing_or_of_no_use_takes_one(
    target: str, image: Image, other_image: Image, tmp_path: Path
) -> None:
    """Nothing in its flash, or an image with an operator that its firmware was built without."""
    if target != "native":
        pytest.skip("needs a device that the test can start with any flash")
    useless = changed(image, struct.unpack_from("<I", image.content, OPS_AT)[0], "<B", 99)
    for name, content, status in (("blank", None, "bad_magic"), ("useless", useless, "unsupported_op")):
        folder = tmp_path / name
        folder.mkdir()
        with native.run(folder, content) as (port, _), opened(port) as device:
            assert device.info().model == status
            assert device.replace_model(other_image).image_hash == other_image.image_hash.hex()
            with pytest.raises(RefusedError) as refused:
                device.rollback_model()
            assert refused.value.code == ("no_former" if content is None else status)
            assert device.infer(rows(image)).tobytes() == outputs(other_image)


def opened(port: str, timeout_s: float = 10) -> Device:
    return Device(open_port(port, timeout_s=timeout_s), timeout_s=timeout_s)


def test_a_device_that_is_killed_while_it_takes_a_model_starts_with_the_old_one(
    target: str, image: Image, other_image: Image, tmp_path: Path
) -> None:
    """After any piece, and with all pieces there but not judged."""
    if target != "native":
        pytest.skip("needs a device that the test can kill")
    size = len(other_image.content)
    for share in (0.01, 0.3, 0.6, 0.99, 1.0):
        folder = tmp_path / str(share)
        folder.mkdir()
        with native.run(folder, image.content) as (port, process), opened(port, timeout_s=1) as device:

            def cut(progress: Progress, share: float = share, process: object = process) -> None:
                if progress.done >= share * size:
                    process.kill()  # type: ignore[attr-defined]

            with pytest.raises(KilotuneError):
                device.replace_model(other_image, progress=cut)
        with native.run(folder) as (port, _), opened(port) as device:
            assert device.info().image_hash == image.image_hash.hex()
            device.replace_model(other_image)
        with native.run(folder) as (port, _), opened(port) as device:
            assert device.info().image_hash == other_image.image_hash.hex()
