"""How to learn: the options, and what of them a device would refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kilotune.device.results import (
    require_classes,
    require_state,
)
from kilotune.device.samples import Segment
from kilotune.errors import KilotuneError
from kilotune.link import messages
from kilotune.link.messages import Guard, Scorer

if TYPE_CHECKING:
    pass
    pass


@dataclass(frozen=True, slots=True)
class LearnOptions:
    """How a device learns; None leaves it to the default of the library."""

    passes: int | None = None  # over the stored windows; 0: calibration only
    lr: float | None = None
    seed: int = 1
    scorer: str = "automatic"  # automatic, residual, nearest or combined
    force: bool = False  # keep what training gave even where calibration is better
    resume: bool = False  # go on from the checkpoint
    recalibrate: bool = False  # with resume: follow a machine that ages, within limits
    guard: str = "all"  # all, gate (by score only) or none


CLASSIFIER_LEARNING_RATE, CLASSIFIER_PASSES = 0.05, 100


def in_range(name: str, value: int, high: int) -> int:
    if not 0 <= value <= high:
        raise KilotuneError("usage", f"{name} is {value}", f"0 to {high} are possible")
    return value


def scorer_of(name: str) -> Scorer:
    if name not in Scorer.__members__:
        raise KilotuneError("usage", f"there is no scorer '{name}'", f"known are {', '.join(Scorer.__members__)}")
    return Scorer[name]


def guard_of(name: str) -> Guard:
    if name not in Guard.__members__:
        raise KilotuneError("usage", f"there is no guard '{name}'", f"known are {', '.join(Guard.__members__)}")
    return Guard[name]


def check_learning(
    model: messages.Model,
    labels: Sequence[int] | int | None,
    classes: list[int],
    momentum: float,
    accumulate: int,
    hold_period: int,
    hold_count: int,
) -> None:
    """What the device would only call an argument out of range, by name."""
    require_state(model, momentum, accumulate)
    if not 0 <= hold_count < hold_period:
        raise KilotuneError(
            "usage",
            f"of every {hold_period} windows, {hold_count} are to be held back",
            "hold back fewer than all; 2 of 8 is usual, 0 of 1 none",
        )
    if model.classes and labels is None:
        raise KilotuneError("usage", "a classifier learns from labelled recordings", "give one label a recording")
    if not model.classes and labels is not None:
        raise KilotuneError("usage", "the model is no classifier", "leave the labels away")
    if model.classes:
        require_classes(model, classes)


def labels_for(segments: list[Segment], labels: Sequence[int] | int | None) -> list[int]:
    """One class a segment."""
    each = [0] * len(segments) if labels is None else list(np.atleast_1d(np.asarray(labels)))
    if len(each) != len(segments):
        raise KilotuneError(
            "usage", f"{len(each)} labels for {len(segments)} segments of samples", "give one label a segment"
        )
    return [in_range("a label", int(label), 0xFF) for label in each]
