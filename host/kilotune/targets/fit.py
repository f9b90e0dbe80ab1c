"""What a model image needs of a board, known before anything is flashed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.image.calibration_block import early_bytes, early_ram_bytes
from kilotune.targets import flash_records
from kilotune.twin_library import twin_library

if TYPE_CHECKING:
    from kilotune.image.image import Image
    from kilotune.targets.boards import Board


@dataclass(frozen=True, slots=True)
class Fit:
    """One board: used and available bytes."""

    board: str
    fits: bool
    ram_used: int
    ram: int
    flash_used: int  # by the model image
    flash: int  # of the model partition
    adapter: int  # what a commit writes; 0: nothing is trained
    checkpoint: int  # the largest adapter that the region for checkpoints takes

    @property
    def runs(self) -> bool:
        return self.ram_used <= self.ram and self.flash_used <= self.flash

    @property
    def keeps(self) -> bool:
        """What is learned can be committed."""
        return self.adapter <= self.checkpoint


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
    return [_fit(image, board, model + board.firmware_ram_bytes) for board in boards()]


def _fit(image: Image, board: Board, ram: int) -> Fit:
    layout = board.flash
    adapter = image.adapter_bytes if image.trained or image.features is not None else 0
    room = flash_records.capacity(layout.checkpoint_sectors)
    flash = len(image.content)
    verdict = ram <= board.ram_bytes and flash <= layout.model_bytes and adapter <= room
    return Fit(board.id, verdict, ram, board.ram_bytes, flash, layout.model_bytes, adapter, room)


def require_fit(image: Image, board_id: str, *, learns: bool = True) -> None:
    """KilotuneError `too_large` where the image needs more RAM or flash than the board gives.

    `learns`: what the device learns is to be kept, so its adapter has to fit the region for checkpoints too. Nothing
    is said of a board that is not known here.
    """
    fit = next((f for f in fits(image) if f.board == board_id), None)
    if fit is None:
        return
    if not fit.runs:
        raise KilotuneError(
            "too_large",
            f"the model needs {fit.ram_used:,} bytes of RAM and {fit.flash_used:,} of flash; {board_id} gives "
            f"{fit.ram:,} and {fit.flash:,} (model partition)",
            "use method bias, a smaller reservoir or fewer axes, or another board: "
            "`kilotune inspect` says which one fits",
        )
    if learns:
        require_room(image, fit)


def require_room(image: Image, fit: Fit) -> None:
    """KilotuneError `too_large` where the board could not commit what this model learns."""
    if not fit.keeps:
        raise KilotuneError(
            "too_large",
            f"what the model learns, its adapter, has {fit.adapter:,} bytes; the flash for checkpoints of {fit.board} "
            f"takes {fit.checkpoint:,}: nothing that it learns could be committed",
            "use method bias, fewer layers or a smaller reservoir, or another board: `kilotune inspect` says which "
            "one fits",
        )


def require_checkpoints(image: Image, board_id: str) -> None:
    """As `require_fit`, for a device that judges RAM and flash itself: its firmware may have been built otherwise."""
    fit = next((f for f in fits(image) if f.board == board_id), None)
    if fit is not None:
        require_room(image, fit)
