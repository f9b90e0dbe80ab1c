"""What an image says in JSON is what its sections say: anything else is refused by name when it is opened."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import kilotune
import pytest
from kilotune.errors import KilotuneError
from kilotune.image.envelope import read_header, seal
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.image.layout import HEADER_BYTES, OP_BYTES, TENSOR_BYTES, ProfileSection

from tests.support import small_models

WINDOWS = FeatureConfig(rate_hz=1600.0, window=64, hop=32, fft_points=64, axes=1, bands=8, full_scale_g=16.0)


@cache
def image(method: str = "bias+head", **options: Any) -> Image:
    coder = small_models.chain(8, 6, 4, 8, per_channel=True, seed=1)
    return kilotune.compile(coder, method=method, features=WINDOWS, reservoir=12, early=4, **options)


def with_meta(source: Image, edit: Callable[[dict[str, Any]], None]) -> bytes:
    meta = copy.deepcopy(source.meta)
    edit(meta)
    text = json.dumps(meta).encode()
    text += b" " * (-len(text) % 4)
    body = source.content[HEADER_BYTES : source.header.meta] + text
    header = replace(source.header, image_bytes=HEADER_BYTES + len(body), meta_bytes=len(text))
    return seal(header, body)


def with_bytes(source: Image, at: int, value: bytes) -> bytes:
    content = bytearray(source.content)
    content[at : at + len(value)] = value
    return seal(read_header(source.content), bytes(content[HEADER_BYTES:]))


def refused(content: bytes) -> str:
    with pytest.raises(KilotuneError) as error:
        Image.from_bytes(content)
    assert error.value.code == "bad_image"
    return str(error.value)


def layer(index: int, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda meta: meta["layers"][index].update(changes)


def test_an_image_written_again_as_it_was_is_opened() -> None:
    assert Image.from_bytes(with_meta(image(), lambda meta: None)).meta == image().meta


@pytest.mark.parametrize(
    "edit",
    [
        layer(0, weight_offset=-2147483648),
        layer(0, bias_offset=-4),
        layer(0, bias_offset=4),
        layer(2, weight_offset=2),
        layer(2, weight_offset=0xFFFFFFFF),
        layer(0, op=1),
        layer(0, op=-1),
        layer(0, outputs=7),
        layer(2, inputs=5),
        layer(2, inputs=-4),
        layer(1, macs=-1),
        layer(0, bias_fraction_bits=25),
        layer(0, bias_trained=False),
        layer(0, weights_trained=True, weight_offset=0),
        layer(2, weights_trained=False),
        layer(2, channels=[0]),
        layer(2, rank=1),
        layer(0, rank=1),
        lambda meta: meta["layers"].pop(),
        lambda meta: meta["layers"].append(meta["layers"][0]),
        lambda meta: meta.update(method="bias"),
        lambda meta: meta.update(loss="regression"),
        lambda meta: meta.update(optimiser="adam"),
        lambda meta: meta.update(reruns=[[1, 0]]),
        lambda meta: meta.update(memory=[]),
        lambda meta: meta["memory"][0].__setitem__(0, ""),
        lambda meta: meta["memory"][0].__setitem__(0, "data 1'/><script>"),
        lambda meta: meta["memory"][0].__setitem__(1, -4),
        lambda meta: meta["memory"][0].__setitem__(4, 2147483647),
        lambda meta: meta["memory"][0].__setitem__(3, -2),
        lambda meta: meta.pop("features"),
        lambda meta: meta["features"].update(bands=9),
        lambda meta: meta["features"].update(rate_hz=1600.5),
        lambda meta: meta["features"].update(window=10**30),
        lambda meta: meta.pop("profile"),
        lambda meta: meta["profile"]["residual_std"].pop(),
        lambda meta: meta["profile"].update(base_threshold=float("nan")),
        lambda meta: meta["calibration"].update(windows=13),
        lambda meta: meta["calibration"].update(early=5),
        lambda meta: meta["calibration"].update(neighbours=-1),
        lambda meta: meta["calibration"].update(spread=float("inf")),
        lambda meta: meta.pop("calibration"),
    ],
)  # fmt: skip
def test_json_that_the_sections_do_not_bear_out_is_refused(edit: Callable[[dict[str, Any]], None]) -> None:
    refused(with_meta(image(), edit))


def test_channels_and_ranks_are_those_that_the_device_trains() -> None:
    channels, lora = image("channels"), image("lora")
    index = next(t.op for t in channels.trained if t.channels)
    more = [*channels.layers[index].channels[1:], channels.layers[index].outputs]
    refused(with_meta(channels, layer(index, channels=more)))
    refused(with_meta(channels, layer(index, channels=[])))
    index = next(t.op for t in lora.trained if t.rank)
    refused(with_meta(lora, layer(index, rank=lora.layers[index].rank + 1)))


def test_an_image_that_trains_nothing_says_so() -> None:
    bare = image("none")
    refused(with_meta(bare, lambda meta: meta.update(method="bias")))
    refused(with_meta(bare, layer(0, bias_trained=True, bias_offset=0, bias_fraction_bits=8)))
    refused(with_meta(bare, layer(0, rank=1)))


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_scales_are_above_zero_and_finite(scale: float) -> None:
    at = image().header.tensors + TENSOR_BYTES * image().header.input + 12
    refused(with_bytes(image(), at, struct.pack("<f", scale)))


def test_what_a_device_would_refuse_is_refused_here() -> None:
    source = image()
    bias = struct.unpack_from("<I", source.content, source.header.ops + 16)[0]
    assert "a device would refuse it" in refused(with_bytes(source, bias, struct.pack("<i", 0x7FFFFFFF)))
    first = source.header.ops + OP_BYTES * 0
    assert "a device would refuse it" in refused(with_bytes(source, first + 8, struct.pack("<bb", 5, 4)))


@pytest.mark.parametrize("missing", [4, 60])
def test_the_whole_profile_section_lies_inside(missing: int) -> None:
    """Not only its first word."""
    source = image()
    content = source.content[: source.header.profile + ProfileSection.LAYOUT.size - missing]
    header = replace(source.header, image_bytes=len(content), meta=HEADER_BYTES, meta_bytes=2)
    assert "header" in refused(seal(header, content[HEADER_BYTES:]))
