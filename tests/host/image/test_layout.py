"""Structures that the host reads and writes are where docs/SPEC.md says, and nothing outside an image is read."""

from __future__ import annotations

import re
import struct
from dataclasses import replace

import kilotune
import pytest
from kilotune.adapters.adapter import Adapter
from kilotune.errors import KilotuneError
from kilotune.image import layout
from kilotune.image.calibration_block import CalibrationHead
from kilotune.image.envelope import image_at_start
from kilotune.image.image import Image
from kilotune.targets.fit import ram_budget
from kilotune.targets.flash_records import Marks, RecordHeader

from tests.support import small_models
from tests.support.paths import ROOT

SPEC = (ROOT / "docs" / "SPEC.md").read_text(encoding="utf-8")
MODEL = small_models.chain(12, 8, 12, seed=4)
IMAGE = kilotune.compile(MODEL, method="bias+head")
RANKED = kilotune.compile(MODEL, method="lora")


def rows(heading: str, size: int) -> list[tuple[int, int, str]]:
    """(first byte, end, text) of each field of the first table behind `heading`."""
    table = re.compile(r"^\| (\d+) \|(?: ([iu])(\d+)(?:\[(\d+)\])?)? \| (.*) \|$", re.MULTILINE)
    _, heard, rest = SPEC.partition(heading)
    assert heard, f"SPEC has no '{heading}'"
    block = rest[rest.index("| off |") :].partition("\n\n")[0]
    found = []
    for at, kind, bits, count, text in table.findall(block):
        length = int(bits) // 8 * int(count or 1) if kind else 4  # without a type: mantissa and exponent
        if int(at) < size:
            found.append((int(at), int(at) + length, text))
    return found


def fields(form: str) -> list[tuple[int, int]]:
    """(first byte, end) of each field of a struct format; reserved bytes are not fields."""
    found, at = [], 0
    for count, kind in re.findall(r"(\d*)([a-zA-Z])", form):
        size = struct.calcsize(f"<{kind}")
        whole = kind in "sx"
        for _ in range(1 if whole else int(count or 1)):
            n = size * int(count or 1) if whole else size
            if kind != "x":
                found.append((at, at + n))
            at += n
    return found


HEADER = layout.Prefix.LAYOUT.format + layout.Header.LAYOUT.format[1:]


@pytest.mark.parametrize(
    ("heading", "form"),
    [
        ("### 1.1 Header, 128 bytes", HEADER),
        ("### 1.2 Tensor entry, 32 bytes", layout.TensorEntry.LAYOUT.format),
        ("### 1.3 Op entry, 64 bytes", layout.OpEntry.LAYOUT.format),
        ("### 1.4 Training entry of an op, 40 bytes", layout.OpTraining.LAYOUT.format),
        ("**Adaptation entry**, 16 bytes", layout.Adaptation.LAYOUT.format),
        ("### 1.5 Training section, 40 bytes", layout.TrainingSection.LAYOUT.format),
        ("## 4. Records in flash, version 1", RecordHeader.LAYOUT.format + Marks.LAYOUT.format[1:]),
    ],
)
def test_a_structure_is_that_of_the_specification(heading: str, form: str) -> None:
    size = struct.calcsize(form)
    assert f"{size} bytes" in heading or not heading.endswith("bytes")
    said = [row for row in rows(heading, size) if not row[2].startswith("reserved")]
    ours = fields(form)
    assert {at for at, _ in ours} <= {at for at, _, _ in said}
    covered = {byte for at, end in ours for byte in range(at, end)}
    assert covered == {byte for at, end, _ in said for byte in range(at, end)}


def test_the_calibration_head_is_that_of_the_specification() -> None:
    """Up to the fields of the guardrails, which the host does not read."""
    form = CalibrationHead.LAYOUT.format
    said = {(at, end) for at, end, _ in rows("## 2. Adapter", struct.calcsize(form))}
    ours = set(fields(form))
    assert ours <= said
    assert max(end for _, end in ours) == min(at for at, _ in said - ours)


def test_an_entry_reads_what_it_packs() -> None:
    tensor = layout.TensorEntry(4, 3, 2, 5, -7, 9, 0.25, 64, layout.NONE)
    assert layout.TensorEntry.read(b"ab" + tensor.pack(), 2) == tensor
    assert tensor.shape == (3, 2, 5)
    for at in (-1, 1):
        with pytest.raises(IndexError):
            layout.TensorEntry.read(tensor.pack(), at)
    assert layout.OpEntry.read(IMAGE.content, IMAGE.header.ops).words == (0,) * 6


def refusal(image: Image) -> str:
    with pytest.raises(KilotuneError) as error:
        Adapter.base(image)
    assert error.value.code == "bad_image"
    return error.value.message


@pytest.mark.parametrize("op", [-1, 2, 1 << 31])
@pytest.mark.parametrize("image", [IMAGE, RANKED], ids=["weights", "rank"])
def test_a_layer_of_an_op_that_is_not_there_is_refused(image: Image, op: int) -> None:
    layers = tuple(replace(layer, op=op) for layer in image.layers)
    assert f"there is no op {op}" in refusal(replace(image, layers=layers))


@pytest.mark.parametrize("image", [IMAGE, RANKED], ids=["weights", "rank"])
def test_weights_that_reach_beyond_an_image_are_refused(image: Image) -> None:
    layers = tuple(replace(layer, inputs=1 << 20) for layer in image.layers)
    assert "beyond its end" in refusal(replace(image, layers=layers))


def test_a_factor_whose_entry_lies_elsewhere_is_refused() -> None:
    layer = RANKED.trained[0]
    at = RANKED.header.ops + layout.OP_BYTES * layer.op
    words = (0, 0, 0, 0, len(RANKED.content) - 4, 0)
    op = replace(layout.OpEntry.read(RANKED.content, at), word_bytes=layout.pack_words(words))
    content = RANKED.content[:at] + op.pack() + RANKED.content[at + layout.OP_BYTES :]
    assert "entry" in refusal(replace(RANKED, content=content))


def test_an_image_at_the_start_is_known_by_magic_length_and_checksum() -> None:
    content = IMAGE.content
    assert image_at_start(content) == image_at_start(content + b"\xff" * 64) == content
    for nothing in (b"", content[:15], content[:-1], b"\xff" * 4096, b"x" + content[1:]):
        assert image_at_start(nothing) is None
    assert image_at_start(content[:-1] + bytes([content[-1] ^ 1])) is None


@pytest.mark.parametrize("settings", [3, [1], {"windows": "many"}, {"early": -1}, {"neighbours": 256}, {"early": True}])
def test_a_reservoir_of_no_possible_size_is_refused_before_it_is_reckoned_with(settings: object) -> None:
    assert IMAGE.reservoir == (0, 0, 0, False)  # ready inputs
    damaged = replace(IMAGE, meta=IMAGE.meta | {"calibration": settings})
    for use in (lambda: damaged.reservoir, lambda: ram_budget(damaged), lambda: Adapter.base(damaged)):
        with pytest.raises(KilotuneError) as error:
            use()
        assert error.value.code == "bad_image"
