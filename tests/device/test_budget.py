"""The whole firmware for one model fits the RAM that the README promises, and runs in just that."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.basemodels import base_model
from kilotune.image import Image
from kilotune.link.device import Device
from kilotune.link.transport import open_port
from kilotune.targets import firmware, qemu
from kilotune.targets.boards import board

import models

BOARD = "mps2-an386"
KB = 1000


def three_axes(method: str) -> Image:
    return kilotune.compile(base_model("vibration_ae_20k"), method=method)


def one_axis(method: str) -> Image:
    """32-32-8-32-32, one axis of the shipped model's features."""
    features = three_axes("bias").features
    assert features is not None
    return kilotune.compile(
        models.chain(32, 32, 8, 32, 32), method=method, features=replace(features, axes=1)
    )


@pytest.mark.parametrize(
    ("make", "method", "budget"),
    [(three_axes, "bias", 20 * KB), (three_axes, "bias+head", 34 * KB), (one_axis, "bias+head", 16 * KB)],
    ids=["three-axes-bias", "three-axes-bias+head", "one-axis-bias+head"],
)
def test_the_whole_firmware_fits(make, method: str, budget: int, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    for tool in ("arm-none-eabi-g++", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    image = make(method)
    features = image.features
    assert features is not None
    assert (features.window, image.input_bytes) == (1024, 32 * features.axes)
    file = tmp_path / "model.ktm"
    image.save(file)
    built = firmware.build(BOARD, image=file)
    assert built.stack == board(BOARD).stack_bytes
    assert built.ram_bytes <= budget
    _learn_in(Path(built.firmware), image, tmp_path, reserved=built.stack)


def _learn_in(elf: Path, image: Image, state: Path, *, reserved: int) -> None:
    """Learns, scores and commits in this firmware; its stack must have stayed within what is reserved."""
    assert image.features is not None
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 500, (image.features.hop * 40, image.features.axes)).astype(np.int16)
    with (
        qemu.run(BOARD, state, image.content, firmware=elf) as (port, _),
        Device(open_port(port, timeout_s=60), image=image, timeout_s=60) as device,
    ):
        device.learn(samples, passes=2)
        device.score(samples[: image.features.window * 2])
        device.commit()
        memory = device.status().memory
    assert memory.static_bytes + memory.stack_bytes < board(BOARD).ram_bytes
    assert memory.stack_peak + 256 <= reserved
    assert memory.stack_bytes == reserved
