"""The whole firmware for one model fits the RAM that the README promises, and runs in exactly that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.image.image import Image
from kilotune.link.transport import open_port
from kilotune.studies.base_models import base_model
from kilotune.targets import build as firmware
from kilotune.targets import qemu
from kilotune.targets.boards import board

from tests.support import small_models

KB = 1000


def three_axes(method: Any) -> Image:
    return kilotune.compile(base_model("vibration_ae_20k"), method=method)


def one_axis(method: Any) -> Image:
    """32-32-8-32-32, one axis of the shipped model's features."""
    features = three_axes("bias").features
    assert features is not None
    return kilotune.compile(small_models.chain(32, 32, 8, 32, 32), method=method, features=replace(features, axes=1))


def small_window(method: Any) -> Image:
    """The same network on windows of 256 samples of a slow sensor."""
    features = kilotune.compile(base_model("vibration_ae_1k6")).features
    assert features is not None
    return kilotune.compile(
        small_models.chain(32, 32, 8, 32, 32),
        method=method,
        features=replace(features, axes=1, window=256, hop=128),
    )


@pytest.mark.parametrize(
    ("board_id", "make", "window", "method", "budget"),
    [
        ("mps2-an386", three_axes, 1024, "bias", 20 * KB),
        ("mps2-an386", three_axes, 1024, "bias+head", 34 * KB),
        ("mps2-an386", one_axis, 1024, "bias+head", 16 * KB),
        ("microbit", one_axis, 1024, "bias+head", 15 * KB),
        ("microbit", small_window, 256, "bias+head", 15 * KB),  # 1 KB of its RAM stays free
    ],
    ids=["three-axes-bias", "three-axes-bias+head", "one-axis-bias+head", "microbit", "microbit-small"],
)
def test_the_whole_firmware_fits(
    board_id: str, make: Callable[[str], Image], window: int, method: str, budget: int, tmp_path: Path
) -> None:
    for tool in ("arm-none-eabi-g++", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    image = make(method)
    features = image.features
    assert features is not None
    assert (features.window, image.input_bytes) == (window, 32 * features.axes)
    file = tmp_path / "model.ktm"
    image.save(file)
    built = firmware.build(board_id, image=file)
    assert built.stack == board(board_id).stack_bytes
    assert built.ram_bytes <= budget
    assert built.ram_left == board(board_id).ram_bytes - built.ram_bytes
    _learn_in(board_id, Path(built.firmware), image, tmp_path, reserved=built.stack)


def _learn_in(board_id: str, elf: Path, image: Image, state: Path, *, reserved: int) -> None:
    """Learns, scores and commits in this firmware; its stack must have stayed within what is reserved."""
    assert image.features is not None
    rng = np.random.default_rng(1)
    samples = rng.normal(0, 500, (image.features.hop * 40, image.features.axes)).astype(np.int16)
    with (
        qemu.run(board_id, state, image.content, firmware=elf) as (port, _),
        Device(open_port(port, timeout_s=60), image=image, timeout_s=60) as device,
    ):
        device.learn(samples, passes=2)
        device.score(samples[: image.features.window * 2])
        device.commit()
        memory = device.status().memory
    assert memory.static_bytes + memory.stack_bytes < board(board_id).ram_bytes
    assert memory.stack_peak + 128 <= reserved  # an interrupt at the deepest point (about 100) may be in it
    assert memory.stack_bytes == reserved
