"""Damaged files and answers: the host's parsers raise KilotuneError or succeed, in bounded time and memory.

FUZZ_EXAMPLES sets how many inputs each test tries.
"""

from __future__ import annotations

import copy
import json
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import cbor2
import kilotune
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kilotune.adapters.adapter import Adapter
from kilotune.adapters.calibration import Calibration
from kilotune.adapters.merge import merge
from kilotune.errors import KilotuneError
from kilotune.image.envelope import read_header, seal
from kilotune.image.image import Image
from kilotune.image.layout import HEADER_BYTES
from kilotune.link import messages, wire

from tests.fuzz.seeds import images
from tests.support import small_models

MEMORY_BYTES = 64 << 20
fuzzed = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "120")),
    deadline=5000,
    suppress_health_check=list(HealthCheck),
)

TFLITES = [small_models.chain(8, 6, 4, 8, per_channel=True, seed=1), small_models.chain(8, 6, 3, softmax=True, seed=4)]
CONTENT = images()
IMAGES = {name: Image.from_bytes(content) for name, content in CONTENT.items()}
CODER = IMAGES["coder-bias+head"]


@contextmanager
def bounded() -> Iterator[None]:
    """KilotuneError is an answer; anything else, and too much memory, is a defect."""
    tracemalloc.start()
    try:
        yield
    except KilotuneError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY_BYTES, f"{peak} bytes"


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "byte", "word", "insert", "delete", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])),
    ),
    min_size=1,
    max_size=6,
)


def edited(content: bytes, edits: list[tuple[str, float, int]]) -> bytes:
    out = bytearray(content)
    for how, place, value in edits:
        at = int(place * len(out))
        if not out:
            break
        if how == "flip":
            out[at] ^= 1 << value % 8
        elif how == "byte":
            out[at] = value % 256
        elif how == "word":
            out[at & ~3 : (at & ~3) + 4] = value.to_bytes(4, "little")
        elif how == "insert":
            out[at:at] = value.to_bytes(4, "little")
        elif how == "delete":
            del out[at : at + 1 + value % 16]
        elif value % 4 == 0:
            del out[at:]
    return bytes(out)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.just(10**30), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=8,
)


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: list[tuple[Any, Any]] = []
    if isinstance(data, dict):
        inner = list(data.items())
    elif isinstance(data, list):
        inner = list(enumerate(data))[:3]
    return [path] + [p for key, value in inner for p in places(value, (*path, key))]


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    out = copy.deepcopy(data)
    target = out
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return out


def json_edits(data: Any) -> st.SearchStrategy[Any]:
    """`data` with one value replaced, removed, or nudged."""
    spots = st.sampled_from(places(data))
    return st.builds(lambda path, value: replaced(data, path, value if path or value is not ... else None), spots,
                     st.one_of(JSON, st.just(...), st.sampled_from([-1, 0, 1, 2**31, 2**63, 2**64])))  # fmt: skip


@fuzzed
@given(st.sampled_from(TFLITES), EDITS, st.sampled_from(["none", "bias", "head", "bias+head"]))
def test_a_damaged_tflite_compiles_or_is_refused(content: bytes, edits: Any, method: Any) -> None:
    with bounded():
        kilotune.compile(edited(content, edits), method=method)


@fuzzed
@given(st.sampled_from(sorted(CONTENT)), EDITS)
def test_a_damaged_image_is_refused_even_with_a_right_hash(name: str, edits: Any) -> None:
    content = CONTENT[name]
    body = edited(content[HEADER_BYTES:], edits)
    with bounded():
        show(Image.from_bytes(seal(read_header(content), body[: len(content) - HEADER_BYTES])))


@fuzzed
@given(st.data())
def test_a_damaged_meta_section_is_refused(data: st.DataObject) -> None:
    header = CODER.header
    text = json.dumps(data.draw(json_edits(json.loads(json.dumps(CODER.meta))))).encode()
    text += b" " * (-len(text) % 4)
    body = CODER.content[HEADER_BYTES : header.meta] + text
    changed = replace(header, image_bytes=HEADER_BYTES + len(body), meta_bytes=len(text))
    with bounded():
        show(Image.from_bytes(seal(changed, body)))


def show(image: Image) -> None:
    """Everything that the tools ask of an image."""
    _ = (image.macs, image.method, image.loss, image.trained, image.features, image.profile, image.input_shape,
         image.output_shape, image.input_quantisation, image.output_quantisation, image.calibration_bytes,
         image.reservoir)  # fmt: skip
    Adapter.base(image)


def saved_adapter() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        Adapter.base(CODER).save(folder)
        return {p.name: p.read_bytes() for p in Path(folder).iterdir()}


ADAPTER = saved_adapter()


def load_and_merge(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        adapter = Adapter.load(folder)
    merge(TFLITES[0], adapter)


@fuzzed
@given(st.sampled_from(sorted(ADAPTER)), EDITS)
def test_a_damaged_adapter_directory_is_refused(name: str, edits: Any) -> None:
    with bounded():
        load_and_merge(ADAPTER | {name: edited(ADAPTER[name], edits)})


@fuzzed
@given(st.data())
def test_a_damaged_adapter_configuration_is_refused(data: st.DataObject) -> None:
    name = next(n for n in ADAPTER if n.endswith(".json"))
    changed = data.draw(json_edits(json.loads(ADAPTER[name])))
    with bounded():
        load_and_merge(ADAPTER | {name: json.dumps(changed).encode()})


@fuzzed
@given(st.binary(min_size=CODER.adapter_bytes, max_size=CODER.adapter_bytes), st.sampled_from(TFLITES), EDITS)
def test_any_adapter_merges_into_any_model_or_is_refused(blob: bytes, tflite: bytes, edits: Any) -> None:
    with bounded():
        merge(TFLITES[0], Adapter.from_blob(CODER, blob))
    with bounded():
        merge(edited(tflite, edits), Adapter.from_blob(CODER, blob))


def calibration() -> dict[str, Any]:
    head = bytes([1, 1, 3, 2, 6, 0, 100, 0]).ljust(20, b"\0") + bytes([9]).ljust(12, b"\0")
    block = head + bytes([5]) * (len(Adapter.base(CODER).calibration) - len(head))
    found = Calibration.from_bytes(block, features=8, outputs=8, capacity=12, early=CODER.reservoir.early)
    return json.loads(json.dumps(found.to_json()))  # type: ignore[no-any-return]


CALIBRATION = calibration()


@fuzzed
@given(st.one_of(json_edits(CALIBRATION), JSON))
def test_a_damaged_calibration_is_refused(data: Any) -> None:
    with bounded():
        found = Calibration.from_json(data)
        found.score(np.zeros((2, 8), np.int8), np.zeros((2, 8), np.int64), neighbours=3)


MESSAGES = [
    cls for cls in vars(wire).values()
    if isinstance(cls, type) and is_dataclass(cls) and cls is not wire.Request
]  # fmt: skip
ITEMS = st.one_of(st.integers(-(2**64), 2**64 - 1), st.integers(0, 300), st.binary(max_size=40),
                  st.text(max_size=40))  # fmt: skip


@pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)
@settings(parent=fuzzed, max_examples=40)
@given(items=st.lists(ITEMS, max_size=40), edits=EDITS)
def test_a_damaged_answer_is_refused(cls: Callable[..., Any], items: list[Any], edits: Any) -> None:
    payload = cbor2.dumps(items)
    with bounded():
        messages.decode(cls, payload)  # type: ignore[arg-type]
    with bounded():
        messages.decode(cls, edited(payload, edits))  # type: ignore[arg-type]
