"""Damaged images, adapters, calibrations: what one tool accepts, all tools and the device take, or refuse by name.

20,000 mutations, structured ones and random ones, from fixed seeds; KILOTUNE_EXPLORE=1 draws new ones, and a failure
names the seed that repeats it. FUZZ_SHARE=0.1 tries a tenth of them.
"""

from __future__ import annotations

import json
import os
import random
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import kilotune
import numpy as np
import pytest
from kilotune import _native
from kilotune.adapters.adapter import Adapter
from kilotune.adapters.calibration import Calibration, of_adapter
from kilotune.adapters.config import CONFIG_FILE, MODEL_FILE
from kilotune.adapters.merge import merge
from kilotune.cli.models import summary
from kilotune.cli.output import plain
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.image.envelope import read_header, seal
from kilotune.image.image import Image
from kilotune.image.layout import HEADER_BYTES, OP_BYTES, TENSOR_BYTES, Header
from kilotune.link.transport import InProcess
from kilotune.report.budgets import report_budgets
from kilotune.report.data import Benchmark, Instructions, Ram
from kilotune.report.memoryplan import memory_plan
from kilotune.targets.fit import fits, optimisers, ram_budget
from kilotune.tflite import model as tflite_model
from kilotune.tflite.edit import Edit

from tests.fuzz.seeds import images
from tests.support import small_models

SHARE = float(os.environ.get("FUZZ_SHARE", "1"))
SEED = random.SystemRandom().randrange(1 << 32) if os.environ.get("KILOTUNE_EXPLORE") else 20
NUMBERS = (0, 1, 2, 3, 4, 7, 8, 15, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
           0xFFFFFFFE, 0xFFFFFFFF)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 256, 2**16, 2**31, -(2**31), 2**32 - 1, 2**32, 2**63, -(2**64), 10**30,
    0.5, -1.0, 1e308, -1e308, float("nan"), float("inf"), "", "1", "x" * 300, "\x1b[2J", "bias", [], [1], [[1, 2]],
    {}, {"a": 1},
)  # fmt: skip
MOST_SECONDS = 5.0  # of one mutation, on a computer that does much else

CODER = small_models.chain(8, 6, 4, 8, per_channel=True, seed=1)
TFLITES = dict.fromkeys(("coder-bias", "coder-head", "coder-bias+head", "coder-lora", "coder-channels"), CODER) | {
    "classes": small_models.chain(8, 6, 3, softmax=True, seed=4),
    "ready-regression": small_models.chain(7, 9, 5, seed=6),
}
CONTENT = {name: content for name, content in images().items() if name in TFLITES}
IMAGES = {name: Image.from_bytes(content) for name, content in CONTENT.items()}


def rounds(count: int) -> Iterator[tuple[str, random.Random]]:
    """So many sources of random numbers, each with a name of an image; what goes wrong is told with the seed."""
    names = sorted(CONTENT)
    for i in range(int(count * SHARE)):
        rng = random.Random(f"{SEED} {i}")
        yield names[i % len(names)], rng


@pytest.fixture(autouse=True)
def _base_models_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the same for all mutations, and reading them takes most of a merge's time."""
    monkeypatch.setattr(tflite_model, "read", lru_cache(32)(tflite_model.read))


Result = TypeVar("Result")


def answered(what: str, attempt: Callable[..., Result], *given: Any) -> Result | None:
    """What it gave; None where a KilotuneError refused it. Anything else is a defect, told with the seed."""
    began = time.monotonic()
    try:
        return attempt(*given)
    except KilotuneError:
        return None
    except Exception as error:
        raise AssertionError(f"{what}, seed {SEED}: {type(error).__name__}: {error}") from error
    finally:
        assert time.monotonic() - began < MOST_SECONDS, what


# --- images ----------------------------------------------------------------------------------------------


def resealed(header: Header, body: bytes) -> bytes:
    return seal(replace(header, image_bytes=HEADER_BYTES + len(body)), body)


def section_spots(header: Header, content: bytes) -> list[int]:
    """Offsets of the words of every table and section that has fields."""
    spans = [(header.tensors, TENSOR_BYTES * header.tensor_count), (header.ops, OP_BYTES * header.op_count)]
    spans += [(at, 64) for at in (header.training, header.features, header.profile) if at]
    for op in range(header.op_count):
        (training,) = struct.unpack_from("<I", content, header.ops + OP_BYTES * op + 36)
        (adaptation,) = struct.unpack_from("<I", content, header.ops + OP_BYTES * op + 56)
        spans += [(at, 40) for at in (training, adaptation) if HEADER_BYTES <= at < header.meta]
    return [at for start, size in spans for at in range(start, min(start + size, len(content) - 4), 2)]


def change_section(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    header = read_header(content)
    for _ in range(rng.randint(1, 2)):
        at = rng.choice(section_spots(header, content))
        size = rng.choice((1, 2, 4))
        old = int.from_bytes(out[at : at + size], "little")
        value = rng.choice((*NUMBERS, old + 1, old - 1, old ^ (1 << rng.randrange(32)))) % (1 << 8 * size)
        out[at : at + size] = value.to_bytes(size, "little")
    return resealed(header, bytes(out[HEADER_BYTES:]))


def change_header(content: bytes, rng: random.Random) -> bytes:
    header = read_header(content)
    names = ("tensor_count", "op_count", "input", "output", "tensors", "ops", "training", "features", "profile",
             "meta", "meta_bytes", "arena_bytes", "adapter_bytes", "state_bytes")  # fmt: skip
    name = rng.choice(names)
    old = getattr(header, name)
    most = 0xFFFF if name in names[:4] else 0xFFFFFFFF
    value = rng.choice((*NUMBERS, old + 4, old - 4, old + 1, old * 2)) & most
    changed: dict[str, Any] = {name: value}
    return resealed(replace(header, **changed), content[HEADER_BYTES:])


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        out[rng.randrange(HEADER_BYTES, len(out))] = rng.randrange(256)
    return resealed(read_header(content), bytes(out[HEADER_BYTES:]))


def change_json(data: Any, rng: random.Random) -> Any:
    """A copy with one value replaced, removed, doubled or moved a little."""
    out = json.loads(json.dumps(data))
    holder, key = out, None
    while True:
        keys = list(range(len(holder))) if isinstance(holder, list) else list(holder)
        if not keys:
            break
        key = rng.choice(keys)
        if not isinstance(holder[key], (dict, list)) or not holder[key] or rng.random() < 0.15:
            break
        holder = holder[key]
    if key is None:
        return rng.choice(VALUES)
    old, how = holder[key], rng.random()
    if how < 0.1:
        del holder[key]
    elif how < 0.15 and isinstance(holder, list):
        holder.append(old)
    elif how < 0.2 and isinstance(holder, dict):
        holder[f"{key}_"] = old
    elif how < 0.4 and isinstance(old, (int, float)) and not isinstance(old, bool):
        holder[key] = old + rng.choice((1, -1, 4, -4, 2**31))
    else:
        holder[key] = rng.choice(VALUES)
    return out


def change_meta(content: bytes, rng: random.Random) -> bytes:
    header = read_header(content)
    meta = json.loads(content[header.meta : header.meta + header.meta_bytes])
    text = json.dumps(change_json(meta, rng)).encode()
    body = content[HEADER_BYTES : header.meta] + text + b" " * (-len(text) % 4)
    return resealed(replace(header, meta_bytes=len(text)), body)


def use_image(image: Image, tflite: bytes, turn: int) -> None:
    """What `inspect`, `pull`, `merge`, `push` and reports do with an image; what takes long, in turns."""
    plain(summary(image)), plain(image.layers), ram_budget(image), optimisers(image)
    base = Adapter.base(image)
    if turn % 4 == 0:
        memory_plan(image)
        measured = Benchmark(Instructions(1, 1), image.macs, Ram(1, 1, None, None), None, len(image.content))
        report_budgets(image, measured, None)
    elif turn % 4 == 1:
        plain(fits(image))
        push(image, base)
    else:
        use_adapter(base, tflite)


def push(image: Image, adapter: Adapter) -> None:
    device = Device(InProcess(Twin(image.content)), image=image)
    answered("the device", device.push, adapter)
    device.pull()


class Twin:
    """A device with some flash, for one image."""

    def __init__(self, image: bytes) -> None:
        self._session = _native.Session(image, bytearray(b"\xff" * 16384))

    def exchange(self, request: bytes) -> bytes:
        return bytes(self._session.exchange(request))

    def close(self) -> None:
        pass


def use_adapter(adapter: Adapter, tflite: bytes) -> None:
    adapter.arrays()
    found = of_adapter(adapter)
    if found is not None:
        use_calibration(Calibration.from_json(json.loads(json.dumps(found.to_json()))))
    merge(tflite, adapter)


def use_calibration(found: Calibration) -> None:
    n, outputs = found.feature_mean.size, found.residual_mean.size
    found.score(np.zeros((1, n), np.int8), np.zeros((1, outputs), np.int64), neighbours=2)
    found.inputs(np.zeros((1, n), np.int16), input_scale=0.1, zero_point=0)


@pytest.mark.parametrize(
    ("change", "count"),
    [(change_meta, 6000), (change_section, 4000), (change_header, 1000), (change_bytes, 2000)],
    ids=["json", "sections", "header", "bytes"],
)
def test_what_opens_as_an_image_is_served_by_every_tool(change: Callable[..., bytes], count: int) -> None:
    opened = 0
    for i, (name, rng) in enumerate(rounds(count)):
        content = change(CONTENT[name], rng)
        what = f"{change.__name__}, mutation {i} of {name}"
        image = answered(what, Image.from_bytes, content)
        if image is not None:
            opened += 1
            answered(what, use_image, image, TFLITES[name], opened)
    assert opened < count * SHARE / 2, "most mutations change nothing: they test nothing"


# --- adapters --------------------------------------------------------------------------------------------


def learned(image: Image, rng: random.Random) -> bytes:
    """A blob whose calibration is in use, with some fields as they should not be."""
    blob = bytearray(Adapter.base(image).blob)
    size = image.calibration_bytes
    if size:
        blob[:24] = struct.pack("<BBBBHhIIhhHxx", 1, 1, rng.randrange(4), 2, 6, 100, 9, 3, 5, 6, 8)
        blob[32:size] = bytes(rng.choice((1, 2, 5)) for _ in range(size - 32))
    for _ in range(rng.randint(0, 3)):
        blob[rng.randrange(len(blob)) if rng.random() < 0.5 else rng.randrange(32)] = rng.choice((0, 1, 127, 128, 255))
    return bytes(blob)


def test_any_adapter_of_an_image_merges_or_is_refused_and_so_by_the_device() -> None:
    devices = {name: Device(InProcess(Twin(image.content)), image=image) for name, image in IMAGES.items()}
    for i, (name, rng) in enumerate(rounds(2000)):
        what = f"adapter {i} of {name}"
        adapter = Adapter.from_blob(IMAGES[name], learned(IMAGES[name], rng))
        answered(what, use_adapter, adapter, TFLITES[name])
        if i % 8 == 0:
            answered(what, devices[name].push, adapter)


def saved(folder: Path) -> dict[str, dict[str, bytes]]:
    """The files of an adapter of every image."""
    found = {}
    for name, image in IMAGES.items():
        Adapter.from_blob(image, learned(image, random.Random(7))).save(folder / name)
        found[name] = {file.name: file.read_bytes() for file in (folder / name).iterdir()}
    return found


def changed_arrays(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with its JSON head changed, or any of its bytes."""
    (size,) = struct.unpack_from("<Q", content)
    if rng.random() < 0.6:
        head = json.dumps(change_json(json.loads(content[8 : 8 + size]), rng)).encode()
        return struct.pack("<Q", len(head)) + head + content[8 + size :]
    out = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def test_any_adapter_directory_merges_or_is_refused(tmp_path: Path) -> None:
    files = saved(tmp_path)
    for i, (name, rng) in enumerate(rounds(3000)):
        folder = tmp_path / name
        config, arrays = files[name][CONFIG_FILE], files[name][MODEL_FILE]
        if rng.random() < 0.6:
            config = json.dumps(change_json(json.loads(config), rng)).encode()
        else:
            arrays = changed_arrays(arrays, rng)
        (folder / CONFIG_FILE).write_bytes(config)
        (folder / MODEL_FILE).write_bytes(arrays)
        adapter = answered(f"directory {i} of {name}", Adapter.load, folder)
        if adapter is not None:
            answered(f"directory {i} of {name}", use_adapter, adapter, TFLITES[name])


# --- calibrations ----------------------------------------------------------------------------------------


def test_any_calibration_of_a_merged_model_scores_or_is_refused() -> None:
    image = IMAGES["coder-bias+head"]
    known = of_adapter(Adapter.from_blob(image, learned(image, random.Random(7))))
    assert known is not None
    data = json.loads(json.dumps(known.to_json()))
    merged = merge(CODER, Adapter.from_blob(image, learned(image, random.Random(7))))
    for i, (_, rng) in enumerate(rounds(2000)):
        what = f"calibration {i}"
        changed = change_json(data, rng)
        found = answered(what, Calibration.from_json, changed)
        if found is not None:
            answered(what, use_calibration, found)
        if i % 16 == 0:
            answered(what, compiled_with, merged, changed)


def compiled_with(tflite: bytes, calibration: object) -> None:
    """A merged model whose calibration says so."""
    edit = Edit(tflite)
    described = metadata.read(tflite).to_json() | {"calibration": calibration}
    edit.set_metadata(metadata.NAME, json.dumps(described).encode())
    kilotune.compile(edit.finish())
