"""What a model costs on a device: instructions of an inference and of a training step, and memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from pathlib import Path

    from kilotune.device.device import Device
    from kilotune.image.image import Image
    from kilotune.targets.build import FirmwareBuild


@dataclass(frozen=True, slots=True)
class Instructions:
    """Of one call; None where the target does not count."""

    inference: int | None
    step: int | None  # None also for an image that is not trained


@dataclass(frozen=True, slots=True)
class Ram:
    """Bytes; None where the target does not know."""

    arena: int
    adapter: int
    static: int | None  # all else: firmware, window buffers, reservoir
    stack_peak: int | None


@dataclass(frozen=True, slots=True)
class Benchmark:
    instructions: Instructions
    macs: int  # of one inference
    ram_bytes: Ram
    flash_bytes: int | None  # firmware and model image; None where the firmware's size is not known
    model_bytes: int


def benchmark(device: Device, image: Image, *, firmware: FirmwareBuild | None, count: int = 1) -> Benchmark:
    """Runs `count` inferences and steps on the device; the means are given.

    `firmware`: the build that holds exactly this model; None where the target has none of its own.
    """
    inference, step = _counted(device, count)
    memory = device.status().memory
    model_bytes = len(image.content)
    static = memory.static_bytes or None
    if firmware is not None:
        static = firmware.data + firmware.bss + firmware.engine - image.arena_bytes - image.adapter_bytes
    return Benchmark(
        instructions=Instructions(inference, step),
        macs=image.macs,
        ram_bytes=Ram(image.arena_bytes, image.adapter_bytes, static, memory.stack_peak or None),
        flash_bytes=None if firmware is None else firmware.flash_bytes + model_bytes,
        model_bytes=model_bytes,
    )


def _counted(device: Device, count: int) -> tuple[int | None, int | None]:
    """Instructions of an inference and of a step; a target without a counter has none to tell."""
    try:
        counted = device.bench(runs=count)
    except KilotuneError as error:
        if error.code != "unavailable":
            raise
        return None, None
    return counted.instructions_inference or None, counted.instructions_step or None


def firmware_for(target: str, image: Path) -> FirmwareBuild | None:
    """The firmware of an emulated board, built for exactly this model; None for other targets."""
    from kilotune.targets.build import build
    from kilotune.targets.target import parse_target

    parsed = parse_target(target)
    return build(parsed.board, image) if parsed.kind == "qemu" else None
