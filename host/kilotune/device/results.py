"""Results of a device, as callers get them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kilotune.link import messages
from kilotune.link.messages import WindowResult
from kilotune.link.status import statuses
from kilotune.terms import Q10, Loss, Method, WindowFlag, word_for


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device and its model; sizes in bytes, hashes in hexadecimal. `axes` 0: no features.

    `model`: "ok", or the name of the status that says why there is none; its fields are then 0. `method` and `loss`:
    words of `kilotune.terms`; "none" if nothing is trained.
    """

    target: str
    firmware: str
    board: str
    unique_id: str
    max_frame: int
    chunk: int
    credit: int
    model: str
    image_hash: str = ""
    base_hash: str = ""
    method: str = "none"
    loss: str = "none"
    classes: int = 0
    input_bytes: int = 0
    output_bytes: int = 0
    adapter_bytes: int = 0
    state_bytes: int = 0
    arena_bytes: int = 0
    axes: int = 0
    rate_hz: float = 0.0
    full_scale_g: float = 0.0
    window: int = 0
    hop: int = 0
    features: int = 0
    lock: str = "none"  # what needs the key: "none", "writes", "all"
    key_id: str = ""


def device_info(target: str, hello: messages.Hello, model: messages.Model | None) -> DeviceInfo:
    """Combines both messages."""
    status = statuses().get(hello.opened)
    opened = status.name if status is not None else f"status {hello.opened}"
    device = (hello.firmware, hello.board, hello.unique_id.hex(), hello.max_frame, hello.chunk, hello.credit)
    if model is None:
        return DeviceInfo(target, *device, opened, lock=hello.lock.name, key_id=hello.key_id.hex())
    return DeviceInfo(
        target,
        *device,
        opened,
        image_hash=model.image_hash.hex(),
        base_hash=model.base_hash.hex(),
        method=word_for(Method, model.method),
        loss=word_for(Loss, model.loss),
        classes=model.classes,
        input_bytes=model.input_bytes,
        output_bytes=model.output_bytes,
        adapter_bytes=model.adapter_bytes,
        state_bytes=model.state_bytes,
        arena_bytes=model.arena_bytes,
        axes=model.axes,
        rate_hz=model.rate_mhz / 1000,
        full_scale_g=model.full_scale_ug / 1e6,
        window=model.window,
        hop=model.hop,
        features=model.features,
        lock=hello.lock.name,
        key_id=hello.key_id.hex(),
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """One result per window, in order; indices count from 0 in every segment.

    `segments`: the segment of each result. `lost`: results that the device dropped before they could be read.
    `clipped`: samples outside the full scale.
    """

    results: tuple[WindowResult, ...]
    segments: tuple[int, ...]
    lost: int
    clipped: int

    def __iter__(self) -> Iterator[WindowResult]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """(windows,) log2 of the anomaly score (classifiers: of the highest probability); NaN: not scored."""
        return np.array([r.score / Q10 if r.flags & WindowFlag.scored else np.nan for r in self.results], np.float64)

    @property
    def anomalous(self) -> npt.NDArray[np.bool_]:
        """(windows,)"""
        return np.array([bool(r.flags & WindowFlag.anomaly) for r in self.results], np.bool_)

    @property
    def categories(self) -> npt.NDArray[np.int64]:
        """(windows,) the most probable class, for classifiers"""
        return np.array([r.category for r in self.results], np.int64)


@dataclass(frozen=True, slots=True)
class Progress:
    """`what`: "stream" (bytes), "train" (passes), "pull" or "push" (bytes)."""

    what: str
    done: int
    total: int


ProgressCall = Callable[[Progress], None]


def tell(progress: ProgressCall | None, what: str, done: int, total: int) -> None:
    """Calls `progress`, if there is one."""
    if progress is not None:
        progress(Progress(what, done, total))


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One inference and one training step, averaged over `runs`, by the device's own clock and counter.

    Instructions are None if the target cannot count them; everything about a step is None if it cannot be trained.
    """

    instructions_inference: int | None
    instructions_step: int | None
    inference_ms: float
    step_ms: float | None
    runs: int
