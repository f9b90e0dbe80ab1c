"""The options of a learn phase: one value, checked once, passed to the wire by name."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, asdict, fields, replace
from typing import Any

import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.device.learning import LearnOptions, TrainOptions
from kilotune.device.samples import Segment
from kilotune.errors import KilotuneError
from kilotune.link import messages
from kilotune.terms import Apart, Guard, Scorer, word_of

# One value apart from the default for each field, all different, so that a swap shows.
ASKED = LearnOptions(
    lr=0.25, momentum=0.5, weight_decay=2.0**-9, accumulate=7, seed=77, passes=11, patience=13, scorer=Scorer.nearest,
    hold_period=17, hold_count=3, noise=19, gain=23, jitter=True, force=True, resume=True, guard=Guard.none,
    recalibrate=True, lives=True, apart=Apart.leave_out,
)  # fmt: skip


def test_the_keywords_of_learn_are_the_fields_with_the_same_defaults() -> None:
    keywords = {
        name: p.default
        for name, p in inspect.signature(Device.learn).parameters.items()
        if p.kind is p.KEYWORD_ONLY and name not in ("rate_hz", "ready_features", "progress", "on_result")
    }
    told = {
        f.name: word_of(f.default) if isinstance(f.default, (Scorer, Guard, Apart)) else f.default
        for f in fields(ASKED)
    }
    assert keywords == told
    assert MISSING not in told.values()


def test_every_field_differs_from_its_default_in_this_test() -> None:
    assert all(getattr(ASKED, f.name) != f.default for f in fields(ASKED))


def test_keywords_and_options_ask_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def learn_with(self: Device, samples: Any, options: LearnOptions, labels: Any = None, **rest: Any) -> None:
        seen.append((samples, options, labels, rest))

    monkeypatch.setattr(Device, "learn_with", learn_with)
    words = {**asdict(ASKED), "scorer": "nearest", "guard": "none", "apart": "leave_out"}
    rest = {"rate_hz": 9.0, "ready_features": True, "progress": print, "on_result": repr}
    Device.learn(object.__new__(Device), "samples", [1], **words, **rest)  # type: ignore[arg-type]
    assert seen == [("samples", ASKED, [1], rest)]


def test_every_field_arrives_at_the_wire_under_its_own_name() -> None:
    config = ASKED.learn_config(classifies=False)
    same = ("passes", "patience", "hold_period", "hold_count", "resume", "scorer", "force", "noise", "gain", "jitter",
            "guard", "recalibrate", "lives", "apart")  # fmt: skip
    assert {name: getattr(config, name) for name in same} == {name: getattr(ASKED, name) for name in same}
    train = config.train_config
    assert train.rate_mantissa * 2.0**train.rate_exponent == 0.25
    assert train.decay_mantissa * 2.0**train.decay_exponent == 2.0**-9
    assert (train.momentum_q15, train.accumulate, train.seed) == (16384, 7, 77)
    assert {f.name for f in fields(config)} == {*same, "train_config", "labelled"}


def test_a_classifier_learns_slower_and_longer_unless_it_is_told() -> None:
    plain, classifier = (LearnOptions().learn_config(classifies=c) for c in (False, True))
    assert (plain.passes, classifier.passes) == (40, 100)
    assert (plain.labelled, classifier.labelled) == (False, True)
    assert classifier.train_config == TrainOptions(lr=0.05).train_config(9.0)
    assert plain.train_config == TrainOptions().train_config(0.5)
    assert LearnOptions(passes=0, lr=1.0).learn_config(classifies=True).passes == 0


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"lr": -1.0}, "learning rate"),
        ({"lr": float("nan")}, "learning rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"momentum": -1e-9}, "momentum"),
        ({"momentum": float("inf")}, "momentum"),
        ({"weight_decay": -0.1}, "weight decay"),
        ({"accumulate": 0}, "accumulate"),
        ({"accumulate": 65536}, "accumulate"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"passes": 65536}, "passes"),
        ({"patience": -1}, "patience"),
        ({"hold_period": 256}, "hold_period"),
        ({"hold_period": 0, "hold_count": 0}, "hold_period"),
        ({"hold_count": 8}, "held back"),
        ({"noise": 256}, "noise"),
        ({"gain": -1}, "gain"),
        ({"recalibrate": True}, "recalibrate"),
    ],
)
def test_a_value_out_of_range_is_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(KilotuneError, match=named) as refused:
        LearnOptions(**wrong)
    assert refused.value.code == "bad_argument"


@pytest.mark.parametrize("word", ["", "Nearest", "scorer", "__init__"])
def test_a_word_that_is_no_scorer_is_refused_with_those_there_are(word: str) -> None:
    with pytest.raises(KilotuneError, match="no scorer") as refused:
        Device.learn(object.__new__(Device), np.zeros((1, 1), np.int16), scorer=word)
    assert refused.value.code == "bad_argument"
    assert "nearest" in refused.value.hint


def test_what_the_image_has_no_room_for_is_refused_before_it_is_sent() -> None:
    from kilotune.device.learning import prepare

    model = messages.Model(
        image_hash=bytes(32), base_hash=bytes(32), input_bytes=1, output_bytes=1, adapter_bytes=0, state_bytes=0,
        arena_bytes=0, loss=1, method=1, classes=0, axes=1, rate_mhz=1, full_scale_ug=1, window=1, hop=1, features=1,
    )  # fmt: skip
    segments = [Segment(np.zeros((4, 1), np.int16), 0)]
    for options, word in ((LearnOptions(momentum=0.5), "momentum"), (LearnOptions(accumulate=2), "accumulation")):
        with pytest.raises(KilotuneError, match=word):
            prepare(model, segments, None, options)
    with pytest.raises(KilotuneError, match="not a classifier"):
        prepare(model, segments, [0], LearnOptions())
    three = replace(model, classes=3, state_bytes=4)
    with pytest.raises(KilotuneError, match="labelled"):
        prepare(three, segments, None, LearnOptions())
    with pytest.raises(KilotuneError, match="not a class of the model"):
        prepare(three, segments, [3], LearnOptions())
    with pytest.raises(KilotuneError, match="2 labels for 1 segments"):
        prepare(three, segments, [0, 1], LearnOptions())
    assert prepare(three, segments, 2, LearnOptions()).classes == [2]
