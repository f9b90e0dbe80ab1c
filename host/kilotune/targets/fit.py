"""What a model image needs of a board, known before anything is flashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.image.calibration_block import early_bytes, early_ram_bytes
from kilotune.twin_library import twin_library

if TYPE_CHECKING:
    from kilotune.image.image import Image


@dataclass(frozen=True, slots=True)
class Fit:
    """One board: used and available bytes."""

    board: str
    fits: bool
    ram_used: int
    ram: int
    flash_used: int  # by the model image
    flash: int  # of the model partition


def ram_budget(image: Image) -> dict[str, int]:
    """Bytes of RAM by use; the sum is what the firmware gives the model."""
    parts = {"arena": image.arena_bytes, "adapter": image.adapter_bytes, "optimiser": image.state_bytes}
    early = image.reservoir.early
    if early and image.features is not None:
        parts["adapter"] -= early_bytes(image.features.inputs, early)
        parts["early windows"] = early_ram_bytes(image.features.inputs, early)
    total = engine_bytes(image)
    rest = total - sum(parts.values())
    if rest > 0:
        parts["window, features, reservoir"] = rest
    return {k: v for k, v in parts.items() if v}


@dataclass(frozen=True, slots=True)
class Optimiser:
    """Bytes of RAM that an optimiser needs besides the parameters of an image."""

    name: str
    bytes_per_bias: int
    bytes_per_weight: int
    state_bytes: int  # for this image
    available: bool  # the image has room for it


def optimisers(image: Image) -> list[Optimiser]:
    """What each optimiser costs for this image, regardless of the one that it was compiled for."""
    biases = sum(t.outputs for t in image.trained if t.bias_trained)
    weights = sum(-(-t.weight_count // 2) * 2 for t in image.trained if t.weights_trained)
    each = [("sgd", 0, 0), ("momentum", 4, 2), ("accumulation", 4, 2)]
    if not any(t.rank for t in image.trained):
        each.append(("adam", 2, 2))
    found = []
    for name, bias, weight in each:
        total = bias * biases + weight * weights
        if name == "adam":  # each layer's biases end at a multiple of 4
            total += 2 * sum(t.outputs % 2 for t in image.trained if t.bias_trained)
        mine = (image.optimiser == "adam") == (name == "adam")
        found.append(Optimiser(name, bias, weight, total, mine and image.state_bytes >= total))
    return found


def engine_bytes(image: Image) -> int:
    """RAM that the runtime needs for this image, computed as on a device; 0 if the twin is not built."""
    try:
        library = twin_library()
    except KilotuneError:
        return 0
    return int(library.Session(image.content).ram_bytes)


def fits(image: Image) -> list[Fit]:
    """For every known board: whether model and firmware fit."""
    from kilotune.targets.boards import boards

    model = sum(ram_budget(image).values())
    found = []
    for board in boards():
        ram = model + board.firmware_ram_bytes
        flash = len(image.content)
        verdict = ram <= board.ram_bytes and flash <= board.flash.model_bytes
        found.append(Fit(board.id, verdict, ram, board.ram_bytes, flash, board.flash.model_bytes))
    return found


def require_fit(image: Image, board_id: str) -> None:
    """Raises KilotuneError `too_large` if the image needs more RAM or flash than the board has for it."""
    for fit in fits(image):
        if fit.board == board_id and not fit.fits:
            raise KilotuneError(
                "too_large",
                f"the model needs {fit.ram_used:,} bytes of RAM and {fit.flash_used:,} of flash; {board_id} has "
                f"{fit.ram:,} and {fit.flash:,} (model partition)",
                "use method bias, a smaller reservoir or fewer axes, or another board: "
                "`kilotune inspect` says which ones fit",
            )
