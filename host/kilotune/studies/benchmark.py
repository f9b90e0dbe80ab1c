"""What a model costs on a device: instructions of an inference and of a training step, and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.report.data import Benchmark, Instructions, Ram

if TYPE_CHECKING:
    from pathlib import Path

    from kilotune.device.device import Device
    from kilotune.image.image import Image
    from kilotune.targets.build import FirmwareBuild
    from kilotune.targets.window_costs import WindowCosts


def benchmark(device: Device, image: Image, *, firmware: FirmwareBuild | None, count: int = 1) -> Benchmark:
    """Runs `count` inferences and steps on the device; gives the means.

    `firmware`: the build for exactly this model; None if the target has none.
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
    """Instructions of an inference and of a step; None on a target without a counter."""
    try:
        counted = device.bench(runs=count)
    except KilotuneError as error:
        if error.code != "unavailable":
            raise
        return None, None
    return counted.instructions_inference or None, counted.instructions_step or None


def window_costs(target: str, image: Path) -> WindowCosts:
    """Instructions of a window by stage and of the rest of a device's job.

    Raises KilotuneError: `unavailable` (the target cannot count), what `count_window` raises.
    """
    from kilotune.targets.target import parse_target
    from kilotune.targets.window_costs import count_window

    parsed = parse_target(target)
    if parsed.kind != "qemu":
        raise KilotuneError(
            "unavailable", f"the target {target} cannot count a window's stages", "use --target qemu:mps2-an386"
        )
    return count_window(parsed.board, image)


def firmware_for(target: str, image: Path) -> FirmwareBuild | None:
    """The firmware of an emulated board, built for exactly this model; None for other targets."""
    from kilotune.targets.build import build
    from kilotune.targets.target import parse_target

    parsed = parse_target(target)
    return build(parsed.board, image) if parsed.kind == "qemu" else None
