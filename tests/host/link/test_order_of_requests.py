"""Requests about training in a senseless order, or with what a loss does not know: refused, and nothing changes."""

from __future__ import annotations

from functools import cache
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link import messages
from kilotune.link.messages import Kind
from kilotune.link.status import RefusedError
from kilotune.link.transport import InProcess

from tests.support.firmware_session import start
from tests.support.small_models import chain

RATE = (0x8000, -20, 0, 0)  # mantissa and exponent of learning rate and weight decay
BEGIN = (*RATE, 0, 1, 1)  # momentum, accumulation, seed
NO_RATE = (0, 0, 0, 0, 0, 1, 1)
ACCUMULATED = (*RATE, 0, 4, 1)
LABEL, ROW, VALUES = 1, bytes(range(12)), bytes(12)


@cache
def made(kind: str) -> Image:
    if kind == "classes":
        return kilotune.compile(chain(12, 6, 4, softmax=True), method="bias+head")
    if kind == "regression":
        return kilotune.compile(chain(12, 6, 12, seed=3), method="bias", loss="regression")
    if kind == "windows":
        features = FeatureConfig(rate_hz=1600.0, window=64, hop=40, fft_points=64, axes=1, bands=12)
        return kilotune.compile(chain(12, 6, 12), method="bias", features=features)
    options: dict[str, Any] = {"method": "none"} if kind == "none" else {"method": "bias", "adam": kind == "adam"}
    return kilotune.compile(chain(12, 6, 12), **options)


def device(kind: str = "coder") -> Device:
    return Device(InProcess(start(made(kind))), image=made(kind))


def refused(on: Device, code: str, kind: Kind, *fields: object) -> None:
    """As RefusedError `code`, with adapter and count of steps as before."""
    before = on.pull_bytes(), on.status().counters.train_steps
    with pytest.raises(RefusedError) as caught:
        on.client.request(kind, messages.encode(*fields))
    assert caught.value.code == code
    assert (on.pull_bytes(), on.status().counters.train_steps) == before


def step(on: Device, number: int = 0, label: int = 0, target: bytes = b"") -> None:
    on.client.request(Kind.train_step, messages.encode(number, label, ROW, target))


@pytest.mark.parametrize("kind", ["coder", "adam", "windows"])
def test_a_step_is_refused_before_training_begins(kind: str) -> None:
    with device(kind) as on:
        refused(on, "wrong_state", Kind.train_step, 0, 0, ROW, b"")
        refused(on, "wrong_state", Kind.bench, 1, 1, 0)


def test_a_step_is_refused_where_the_beginning_was() -> None:
    with device("adam") as on:
        on.client.request(Kind.train_begin, messages.encode(*BEGIN))
        refused(on, "bad_argument", Kind.train_begin, *ACCUMULATED)
        refused(on, "wrong_state", Kind.train_step, 0, 0, ROW, b"")


def test_a_beginning_without_a_learning_rate_is_refused() -> None:
    with device() as on:
        refused(on, "bad_argument", Kind.train_begin, *NO_RATE)
        refused(on, "wrong_state", Kind.train_step, 0, 0, ROW, b"")


@pytest.mark.parametrize("change", [Kind.restore, Kind.rollback])
def test_another_adapter_ends_training(change: Kind) -> None:
    with device() as on:
        on.commit()
        on.commit()
        on.client.request(Kind.train_begin, messages.encode(*BEGIN))
        step(on)
        on.client.request(change)
        refused(on, "wrong_state", Kind.train_step, 1, 0, ROW, b"")


def test_a_pushed_adapter_ends_training() -> None:
    with device() as on:
        adapter = on.pull()
        on.client.request(Kind.train_begin, messages.encode(*BEGIN))
        step(on)
        on.push(adapter)
        refused(on, "wrong_state", Kind.train_step, 1, 0, ROW, b"")


def test_a_learn_phase_leaves_no_training_to_go_on_with() -> None:
    samples = np.random.default_rng(1).normal(size=(4000, 1)).astype(np.float32) * 0.2
    with device("windows") as on:
        on.learn(samples, passes=2)
        done = on.status().train_steps
        refused(on, "wrong_state", Kind.train_step, done, 0, ROW, b"")
        on.learn(samples, passes=0)
        refused(on, "wrong_state", Kind.train_step, on.status().train_steps, 0, ROW, b"")


@pytest.mark.parametrize(
    ("kind", "label", "target"),
    [("classes", 4, b""), ("classes", 999, b""), ("classes", 0xFFFF, b""), ("regression", 0, b"")],
)
def test_a_target_that_the_loss_does_not_know_is_refused(kind: str, label: int, target: bytes) -> None:
    with device(kind) as on:
        on.client.request(Kind.train_begin, messages.encode(*BEGIN))
        refused(on, "bad_argument", Kind.train_step, 0, label, ROW, target)


@pytest.mark.parametrize(("kind", "target"), [("regression", VALUES[:-1]), ("regression", VALUES + b"\0")])
def test_targets_of_another_length_are_refused(kind: str, target: bytes) -> None:
    with device(kind) as on:
        on.client.request(Kind.train_begin, messages.encode(*BEGIN))
        refused(on, "bad_argument", Kind.train_step, 0, 0, ROW, target)


def test_a_model_for_inference_is_not_trained() -> None:
    with device("none") as on:
        refused(on, "not_trainable", Kind.train_begin, *BEGIN)
        refused(on, "not_trainable", Kind.train_step, 0, 0, ROW, b"")


def test_training_without_a_learning_rate_is_refused_but_calibration_needs_none() -> None:
    samples = np.random.default_rng(1).normal(size=(4000, 1)).astype(np.float32) * 0.2
    with device("windows") as on:
        with pytest.raises(KilotuneError) as caught:
            on.learn(samples, passes=2, lr=0.0)
        assert caught.value.code == "bad_argument"
        assert on.learn(samples, passes=0, lr=0.0).learned > 0
