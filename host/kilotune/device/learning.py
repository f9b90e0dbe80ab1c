"""Learn phases and training: their options, checks before a device would refuse, and the wait for the end."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.device.results import ProgressCall, tell
from kilotune.device.samples import Segment
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import DEFAULT_LEARNING_RATE, DEFAULT_PASSES
from kilotune.image.real16 import to_real
from kilotune.link import messages
from kilotune.link.client import Client
from kilotune.link.messages import Kind
from kilotune.link.status import RefusedError
from kilotune.terms import Apart, Guard, Phase, Scorer

CLASSIFIER_LEARNING_RATE, CLASSIFIER_PASSES = 0.05, 100
_Q15 = 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """How a training step changes parameters. KilotuneError `bad_argument` names what is out of range."""

    # Learning rate, 0 or more. None: 0.5, and 0.05 for a classifier.
    lr: float | None = None

    # Fraction of the last change that is added to the next one: from 0 (none) up to, not including, 1. Above 0 it needs
    # an image compiled with momentum.
    momentum: float = 0.0

    # Pull towards the base model, 0 or more. 0: none.
    weight_decay: float = 0.0

    # Windows per step, over which gradients are accumulated, 1 to 65,535; above 1 it needs an image compiled with
    # accumulate.
    accumulate: int = 1

    # Seed of the device's random choices, 0 to 2^32 - 1: the same seed and samples give the same bits.
    seed: int = 1

    def __post_init__(self) -> None:
        if self.lr is not None:
            to_real(self.lr, "the learning rate")
        to_real(self.weight_decay, "weight decay")
        if not (math.isfinite(self.momentum) and self.momentum >= 0 and round(self.momentum * _Q15) < _Q15):
            raise KilotuneError(
                "bad_argument", f"momentum is {self.momentum}", "give a number from 0 up to, but not including, 1"
            )
        require_range("accumulate", self.accumulate, 1, 0xFFFF)
        require_range("seed", self.seed, 0, 0xFFFFFFFF)

    def train_config(self, usual_lr: float) -> messages.TrainConfig:
        """The options in the device's format; `usual_lr`: the learning rate if none was given."""
        rate_mantissa, rate_exponent = to_real(usual_lr if self.lr is None else self.lr, "the learning rate")
        decay_mantissa, decay_exponent = to_real(self.weight_decay, "weight decay")
        return messages.TrainConfig(
            rate_mantissa=rate_mantissa,
            rate_exponent=rate_exponent,
            decay_mantissa=decay_mantissa,
            decay_exponent=decay_exponent,
            momentum_q15=round(self.momentum * _Q15),
            accumulate=self.accumulate,
            seed=self.seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnOptions(TrainOptions):
    """All options of a learn phase besides its samples. KilotuneError `bad_argument` names what is wrong."""

    # Training passes over the windows not held back, 0 to 65,535, with a learning rate that falls from `lr` to 0.
    # 0: calibration only. None: 40, and 100 for a classifier.
    passes: int | None = None

    # Passes without a lower held-back loss after which training ends, 0 to 65,535. 0: it never ends early.
    patience: int = 0

    # What scores a window; automatic: the device picks what is best on held-back windows.
    scorer: Scorer = Scorer.automatic

    # Of every `hold_period` windows (1 to 255), `hold_count` (fewer; 0: none) are held back from training and used to
    # judge the result.
    hold_period: int = 8
    hold_count: int = 2

    # Variation of the training inputs: noise in 1/16 sigma, and a random gain in 1/16 log2 for each window and axis,
    # both 0 to 255, 0: none; `jitter` moves bands by up to one.
    noise: int = 8
    gain: int = 0
    jitter: bool = False

    # Keep what was trained even if calibration alone is better.
    force: bool = False

    # Continue from the checkpoint. Such a phase refuses windows unlike the first healthy ones, and is undone if it
    # would make the device less sensitive.
    resume: bool = False

    # With `resume`, which windows to refuse. all: by score, and by comparison with the first healthy ones; gate: by
    # score only; none: no window.
    guard: Guard = Guard.all

    # With `resume`: follow an ageing machine, slowly and within limits.
    recalibrate: bool = False

    # The device goes on learning afterwards, in phases of its own; its image must be compiled for that.
    lives: bool = False

    # Windows of a first phase that lie apart from all others, as a group: a fault that was there already, or a second
    # state of the machine. report: they are learned from, and the report counts them; leave_out: they are not learned
    # from; ignore: they are not looked for.
    apart: Apart = Apart.report

    def __post_init__(self) -> None:
        TrainOptions.__post_init__(self)
        if self.passes is not None:
            require_range("passes", self.passes, 0, 0xFFFF)
        require_range("patience", self.patience, 0, 0xFFFF)
        require_range("hold_period", self.hold_period, 1, 0xFF)
        if not 0 <= self.hold_count < self.hold_period:
            raise KilotuneError(
                "bad_argument",
                f"of every {self.hold_period} windows, {self.hold_count} are to be held back",
                "hold back fewer than all: 2 of 8 is usual, 0 of 1 means none",
            )
        require_range("noise", self.noise, 0, 0xFF)
        require_range("gain", self.gain, 0, 0xFF)
        if self.recalibrate and not self.resume:
            raise KilotuneError(
                "bad_argument", "recalibrate continues from a checkpoint", "give resume, or omit recalibrate"
            )

    def learn_config(self, *, classifies: bool) -> messages.LearnConfig:
        """The options in the device's format, with the model's defaults for what was not given."""
        usual_passes = CLASSIFIER_PASSES if classifies else DEFAULT_PASSES
        return messages.LearnConfig(
            train_config=self.train_config(CLASSIFIER_LEARNING_RATE if classifies else DEFAULT_LEARNING_RATE),
            passes=usual_passes if self.passes is None else self.passes,
            patience=self.patience,
            hold_period=self.hold_period,
            hold_count=self.hold_count,
            labelled=classifies,
            resume=self.resume,
            scorer=self.scorer,
            force=self.force,
            noise=self.noise,
            gain=self.gain,
            jitter=self.jitter,
            guard=self.guard,
            recalibrate=self.recalibrate,
            lives=self.lives,
            apart=self.apart,
        )


def require_range(name: str, value: int, low: int, high: int) -> None:
    """Raises KilotuneError `bad_argument` if `value` is not within `low` to `high`."""
    if not low <= value <= high:
        raise KilotuneError("bad_argument", f"{name} is {value}", f"{low} to {high} are possible")


@dataclass(frozen=True, slots=True)
class LearnPhase:
    """A checked learn phase: its segments of samples, the class of each, and how to learn."""

    segments: list[Segment]
    classes: list[int]
    config: messages.LearnConfig


def prepare(
    model: messages.Model, segments: list[Segment], labels: Sequence[int] | int | None, options: LearnOptions
) -> LearnPhase:
    """Checks a learn phase, with better messages than the device's "argument out of range"."""
    require_state(model, options.momentum, options.accumulate)
    if options.lives and options.resume:
        raise KilotuneError(
            "bad_argument", "a life begins with its first learn phase", "give lives or resume, not both"
        )
    if model.classes and labels is None:
        raise KilotuneError(
            "bad_argument", "a classifier learns from labelled recordings", "give one label per recording"
        )
    if not model.classes and labels is not None:
        raise KilotuneError("bad_argument", "the model is not a classifier", "omit the labels")
    classes = _labels_for(segments, labels)
    if model.classes:
        require_classes(model, classes)
    return LearnPhase(segments, classes, options.learn_config(classifies=model.classes > 0))


def _labels_for(segments: list[Segment], labels: Sequence[int] | int | None) -> list[int]:
    """One class per segment."""
    each = [0] * len(segments) if labels is None else [int(label) for label in np.atleast_1d(np.asarray(labels))]
    if len(each) != len(segments):
        raise KilotuneError(
            "bad_argument", f"{len(each)} labels for {len(segments)} segments of samples", "give one label per segment"
        )
    return each


def require_state(model: messages.Model, momentum: float, accumulate: int) -> None:
    """Raises KilotuneError `bad_argument` if training needs optimiser state that the image does not have."""
    if model.state_bytes == 0 and (momentum or accumulate > 1):
        wanted = "momentum" if momentum else "accumulation"
        option = "--momentum" if momentum else "--accumulate"
        raise KilotuneError(
            "bad_argument", f"the image was compiled without room for {wanted}", f"compile it with {option}"
        )


def require_classes(model: messages.Model, classes: Sequence[int] | npt.NDArray[np.integer[Any]]) -> None:
    """Raises KilotuneError `bad_argument` if one of them is not a class of this classifier."""
    if len(classes) and not 0 <= min(classes) <= max(classes) < model.classes:
        raise KilotuneError(
            "bad_argument", "a label is not a class of the model", f"0 to {model.classes - 1} are possible"
        )


def run(
    client: Client, phase: LearnPhase, stream: Callable[[], object], progress: ProgressCall | None
) -> messages.LearnReport:
    """Runs the phase to the end of its training; `stream` sends its samples. If that fails, or the caller interrupts
    it, the phase is cancelled on a device that still answers."""
    client.tell(Kind.learn_begin, phase.config)
    try:
        stream()
        client.tell(Kind.learn_end)
    except BaseException as error:
        if isinstance(error, RefusedError) or not isinstance(error, KilotuneError):  # it still answers
            with contextlib.suppress(KilotuneError):
                client.tell(Kind.learn_cancel)
        raise
    return _wait_for_training(client, phase.config.passes, progress)


def _wait_for_training(client: Client, passes: int, progress: ProgressCall | None) -> messages.LearnReport:
    """Waits for the end of training.

    Something must advance within the client's timeout, and a whole pass (or what comes before the first one or after
    the last) within twice that: steps alone could go on for ever.
    """
    seen: tuple[int, ...] = ()
    changed_at = ended_at = client.clock()
    ended = 0  # passes
    while True:
        status = client.ask(messages.DeviceStatus, Kind.status)
        if status.phase is Phase.detect:
            tell(progress, "train", passes, passes)
            return status.report
        if status.phase is not Phase.train:
            raise KilotuneError(
                "interrupted",
                f"training ended early: the device is in phase {status.phase.name}",
                "it was reset or cancelled: learn again",
            )
        now = (status.report.passes_done, status.train_steps, status.generation)
        if now != seen:
            seen, changed_at = now, client.clock()
            tell(progress, "train", min(status.report.passes_done, passes), passes)
        if min(status.report.passes_done, passes) > ended:
            ended, ended_at = min(status.report.passes_done, passes), changed_at
        if client.clock() - changed_at > client.timeout_s:
            raise KilotuneError(
                "timeout",
                f"training made no progress for {client.timeout_s:g} s",
                "reset the device and learn again",
            )
        if client.clock() - ended_at > 2 * client.timeout_s:
            raise KilotuneError(
                "timeout",
                f"training finished no pass in {2 * client.timeout_s:g} s, {ended} of {passes} before",
                "reset the device and learn again, with a longer --timeout if it is that slow",
            )
        if client.transport.poll_s:
            client.clock.sleep(client.transport.poll_s)
