"""What the device has written to its flash, read by the host: records in the checkpoint region and model partition."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune import Image
from kilotune.image.envelope import image_at_start
from kilotune.image.layout import HEADER_BYTES, Prefix
from kilotune.targets.boards import board
from kilotune.targets.flash_records import OVERHEAD, STABLE, FlashRecord, RecordHeader, flash_records, newest
from kilotune.targets.twin import Twin

from tests.support import small_models

FLASH = board("native").flash


@pytest.fixture(scope="module")
def image() -> Image:
    return kilotune.compile(small_models.chain(12, 8, 12, seed=4), method="bias+head")


@pytest.fixture(scope="module")
def region(image: Image, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[bytes]]:
    """A checkpoint region with a stable record and a candidate, and the adapters in them."""
    state: Path = tmp_path_factory.mktemp("twin")
    x = np.random.default_rng(0).integers(-128, 128, (8, 12)).astype(np.int8)
    adapters = []
    with Twin(image, state=state) as twin:
        for candidate in (False, True):
            twin.train(x, steps=20, lr=0.05)
            adapters.append(twin.pull_bytes())
            twin.commit(candidate=candidate)
    content = (state / "flash.bin").read_bytes()
    return content[FLASH.checkpoint_offset : FLASH.checkpoint_offset + FLASH.checkpoint_bytes], adapters


def found(region: bytes) -> list[FlashRecord]:
    return list(flash_records(region, FLASH.sector_bytes))


def test_checkpoints_are_read_as_the_device_wrote_them(region: tuple[bytes, list[bytes]], image: Image) -> None:
    content, adapters = region
    records = found(content)
    assert [r.payload for r in records] == adapters
    assert [r.header.sequence for r in records] == [1, 2]
    assert [r.header.fallback for r in records] == [0, 1]
    assert [r.header.flags & STABLE for r in records] == [STABLE, 0]
    assert [r.header.steps for r in records] == [20, 40]
    assert all(r.counts and r.header.image_hash == image.image_hash for r in records)
    last = newest(content, FLASH.sector_bytes)
    assert last is not None
    assert last.payload == adapters[1]


def resealed(region: bytes, at: int, **changes: int) -> bytes:
    """With fields of the header at `at` changed, and its checksum right."""
    header = replace(RecordHeader.read(region, at), **changes)  # type: ignore[arg-type]
    content = header.pack()
    return region[:at] + replace(header, crc=zlib.crc32(content[:-4])).pack() + region[at + len(content) :]


def test_a_record_with_damage_does_not_count(region: tuple[bytes, list[bytes]]) -> None:
    content, adapters = region
    second = found(content)[0].end
    for at, left in ((second, 1), (second + OVERHEAD, 2)):  # its header, which is then none; its payload
        damaged = content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]
        assert len(found(damaged)) == left
        last = newest(damaged, FLASH.sector_bytes)
        assert last is not None
        assert last.payload == adapters[0]


def test_the_newest_is_found_across_the_wrap_of_sequences(region: tuple[bytes, list[bytes]]) -> None:
    content, adapters = region
    wrapped = resealed(content, 0, sequence=0xFFFFFFFF)
    last = newest(wrapped, FLASH.sector_bytes)
    assert last is not None
    assert last.payload == adapters[1]
    assert found(resealed(content, 0, sequence=0)) == []  # no such sequence: the sector ends there


def test_voids_are_passed_over(region: tuple[bytes, list[bytes]]) -> None:
    content, adapters = region
    second = found(content)[0].end
    moved = content[:second] + bytes(OVERHEAD) + content[second:-OVERHEAD]
    assert [r.payload for r in found(moved)] == adapters


@pytest.mark.parametrize(
    ("commit", "seal", "counts"),
    [("keep", "keep", True), ("erased", "keep", True), ("zero", "keep", False), ("keep", "erased", True),
     ("erased", "erased", False), ("torn", "zero", True)],
)  # fmt: skip
def test_marks_that_a_cut_has_left_are_read_as_on_the_device(
    region: tuple[bytes, list[bytes]], commit: str, seal: str, counts: bool
) -> None:
    content = bytearray(region[0])
    words = {"erased": b"\xff" * 4, "zero": bytes(4), "torn": b"CMD\xff"}
    for name, at in ((commit, 80), (seal, 96)):
        content[at : at + 4] = words.get(name, bytes(content[at : at + 4]))
    assert found(bytes(content))[0].counts is counts


def test_less_than_a_header_is_no_image() -> None:
    """The device requires a complete header, whatever its checksum says."""
    body = bytes(HEADER_BYTES - Prefix.LAYOUT.size - 4)
    prefix = Prefix(0x314D544B, 2, HEADER_BYTES, Prefix.LAYOUT.size + len(body), zlib.crc32(body))
    assert image_at_start(prefix.pack() + body + b"\xff" * 64) is None
    whole = replace(prefix, image_bytes=HEADER_BYTES, crc=zlib.crc32(body + bytes(4))).pack() + body + bytes(4)
    assert image_at_start(whole + b"\xff" * 64) == whole
