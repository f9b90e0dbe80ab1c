"""The compiler's options: one value, checked once; words in any spelling at the edges only."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.adapters.adapter import Adapter
from kilotune.compiler import compile as compiler
from kilotune.compiler.compile import compile, compile_with, compile_within
from kilotune.compiler.options import CompileOptions, LayerChoice
from kilotune.compiler.search import Budget, Samples
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.image.base_profile import CalibrationSettings, LifeSettings
from kilotune.image.envelope import seal
from kilotune.image.image import Image
from kilotune.terms import Loss, Method, word_of
from kilotune.tflite.edit import Edit

from tests.support import small_models

CODER = small_models.chain(12, 8, 12, seed=4)
CLASSES = small_models.chain(12, 8, 3, softmax=True, seed=4)


def test_the_keywords_of_compile_are_the_fields_with_the_same_defaults() -> None:
    keywords = {n: p.default for n, p in inspect.signature(compile).parameters.items() if p.kind is p.KEYWORD_ONLY}
    told = {f.name: word_of(f.default) if isinstance(f.default, Method) else f.default for f in fields(CompileOptions)}
    assert keywords == told | {"loss": "auto"}
    assert told["loss"] is None


def test_keywords_and_options_ask_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[CompileOptions] = []
    monkeypatch.setattr(compiler, "compile_with", lambda tflite, options: seen.append(options))
    one = CompileOptions(
        method=Method.channels, layers=("a", 2), channels=3, loss=Loss.classification, momentum=True, accumulate=True,
        recompute=True, reservoir=9, early=5, alone_windows=11, life=LifeSettings(first=7),
    )  # fmt: skip
    two = CompileOptions(method=Method.lora, last_layers=4, rank=6, adam=True)
    three = CompileOptions(method=Method.chosen, chosen={0: LayerChoice(bias=True)})
    for options in (one, two, three):
        given = {f.name: getattr(options, f.name) for f in fields(options)}
        compile(b"", **given | {"method": str(options.method), "loss": str(options.loss or "auto")})
    assert seen == [one, two, three]
    apart = {f.name for f in fields(CompileOptions) if any(getattr(o, f.name) != f.default for o in (one, two, three))}
    assert apart == {f.name for f in fields(CompileOptions)} - {"features", "profile"}


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"rank": 2}, "rank"),
        ({"method": Method.lora, "rank": 9}, "rank"),
        ({"method": Method.lora, "rank": 0}, "rank"),
        ({"method": Method.lora, "channels": 2}, "channels"),
        ({"method": Method.head, "layers": (0,)}, "layers"),
        ({"method": Method.head, "last_layers": 1}, "last_layers"),
        ({"layers": (0,), "last_layers": 1}, "last_layers"),
        ({"method": Method.channels, "channels": {0: (1,)}, "layers": (0,)}, "layers"),
        ({"chosen": {}}, "chosen"),
        ({"method": Method.none, "momentum": True}, "momentum"),
        ({"method": Method.none, "adam": True}, "adam"),
        ({"adam": True, "momentum": True}, "momentum"),
        ({"adam": True, "accumulate": True}, "accumulate"),
    ],
)
def test_options_that_contradict_each_other_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(KilotuneError, match=named) as refused:
        CompileOptions(**wrong)
    assert refused.value.code == "bad_argument"


@pytest.mark.parametrize("wrong", [{"reservoir": 16}, {"early": 8}, {"alone_windows": 0}, {"life": LifeSettings()}])
def test_a_model_of_ready_inputs_takes_no_options_about_windows(wrong: dict[str, Any]) -> None:
    with pytest.raises(KilotuneError, match=next(iter(wrong))) as refused:
        compile_with(CODER, replace(CompileOptions(), **wrong))
    assert refused.value.code == "bad_argument"


@pytest.mark.parametrize(
    "wrong", [{"of": 9}, {"of": 0}, {"alarmed": 0}, {"alarmed": 6}, {"record": 0}, {"record": 256}, {"first": 3}]
)
def test_settings_of_a_life_that_no_device_takes_are_named(wrong: dict[str, int]) -> None:
    with pytest.raises(KilotuneError, match=next(iter(wrong))) as refused:
        LifeSettings(**wrong)
    assert refused.value.code == "bad_profile"


def test_a_classifier_does_not_go_on_learning() -> None:
    with pytest.raises(KilotuneError, match="needs labels") as refused:
        CalibrationSettings.for_loss(Loss.classification, life=LifeSettings())
    assert refused.value.code == "bad_profile"


@pytest.mark.parametrize("asked", [{"method": Method.lora}, {"layers": (0,)}, {"method": Method.lora, "rank": 2}])
def test_a_search_is_not_told_what_it_is_to_find(asked: dict[str, Any]) -> None:
    samples = Samples(np.zeros((8, 12), np.int8))
    with pytest.raises(KilotuneError, match=next(iter(asked))) as refused:
        compile_within(CODER, Budget(2000), samples, options=CompileOptions(**asked))
    assert refused.value.code == "bad_argument"


@pytest.mark.parametrize("word", ["Classification", "crossentropy", "none", ""])
def test_a_word_that_is_no_loss_is_refused(word: str) -> None:
    with pytest.raises(KilotuneError, match="no loss") as refused:
        compile(CLASSES, loss=word)
    assert refused.value.code == "bad_argument"


def test_both_spellings_of_the_classifiers_loss_give_one_image() -> None:
    image = compile(CLASSES, loss="cross_entropy")
    assert image.content == compile(CLASSES, loss="classification").content == compile(CLASSES).content
    assert image.loss is Loss.classification
    assert json.loads(image.content[image.header.meta :][: image.header.meta_bytes])["loss"] == "classification"


def with_meta(image: Image, **changes: object) -> bytes:
    """The image with other words in its meta section."""
    text = json.dumps({**image.meta, **changes}).encode()
    before = image.content[128 : image.header.meta]
    padding = bytes(-len(before + text) % 4)
    size = 128 + len(before) + len(text) + len(padding)
    return seal(replace(image.header, image_bytes=size, meta_bytes=len(text)), before + text + padding)


def test_files_in_the_other_spelling_are_read() -> None:
    image = compile(CLASSES, method="bias+head")
    spelled = Image.from_bytes(with_meta(image, loss="cross_entropy"))
    assert (spelled.loss, spelled.method) == (Loss.classification, Method.bias_and_head)
    marked = Edit(small_models.chain(12, 8, 3, seed=4))
    marked.set_metadata(metadata.NAME, b'{"loss": "cross_entropy"}')
    assert compile(marked.finish()).loss is Loss.classification


@pytest.mark.parametrize("change", [{"loss": "hinge"}, {"method": 3}, {"method": None}])
def test_a_word_of_another_release_in_an_image_is_named(change: dict[str, object]) -> None:
    content = with_meta(compile(CLASSES), **change)
    with pytest.raises(KilotuneError, match=next(iter(change))) as refused:
        Image.from_bytes(content)
    assert refused.value.code == "bad_image"


def test_an_adapter_keeps_the_words_it_was_written_with(tmp_path: Path) -> None:
    image = compile(CLASSES, method="bias+head")
    Adapter.base(image).save(tmp_path)
    config = tmp_path / "adapter_config.json"
    told = json.loads(config.read_text())
    assert (told["method"], told["loss"]) == ("bias+head", "classification")
    config.write_text(json.dumps(told | {"loss": "cross_entropy"}))
    loaded = Adapter.load(tmp_path).config
    assert (loaded.method, loaded.loss) == (Method.bias_and_head, Loss.classification)
    config.write_text(json.dumps(told | {"loss": "hinge"}))
    with pytest.raises(KilotuneError, match="hinge") as refused:
        Adapter.load(tmp_path)
    assert refused.value.code == "bad_adapter"


def test_a_device_says_the_same_words_as_its_image() -> None:
    for content in (CLASSES, CODER):
        image = compile(content, method="bias+head")
        with kilotune.connect("twin", image=image) as device:
            assert (device.info().loss, device.info().method) == (image.loss, image.method)
            assert asdict(device.info())["loss"] == str(image.loss)
