"""Images: load reads what compile writes, and refuses anything damaged."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.compiler import compile as compiler
from kilotune.errors import KilotuneError
from kilotune.image.image import Image

from tests.support import small_models

MODEL = small_models.chain(12, 8, 12, seed=4)
IMAGE = compiler.compile(MODEL, method="bias+head", momentum=True)


def refusal(content: bytes) -> KilotuneError:
    with pytest.raises(KilotuneError) as caught:
        Image.from_bytes(content)
    assert caught.value.code == "bad_image"
    return caught.value


def resealed(change: tuple[int, bytes]) -> bytes:
    """The image with changed bytes and both checks corrected, as an attacker would do."""
    import hashlib

    content = bytearray(IMAGE.content)
    content[change[0] : change[0] + len(change[1])] = change[1]
    content[16:48] = hashlib.sha256(content[48:]).digest()
    content[12:16] = struct.pack("<I", zlib.crc32(content[16:]))
    return bytes(content)


def test_saved_and_loaded_is_the_same(tmp_path: Path) -> None:
    IMAGE.save(tmp_path / "m.ktm")
    assert Image.load(tmp_path / "m.ktm") == IMAGE
    assert [p.name for p in tmp_path.iterdir()] == ["m.ktm"]


def test_compiling_twice_gives_the_same_bytes() -> None:
    assert compiler.compile(MODEL, method="bias+head", momentum=True).content == IMAGE.content


def test_properties() -> None:
    assert IMAGE.method == "bias+head"
    assert IMAGE.loss == "reconstruction"
    assert IMAGE.macs == 12 * 8 + 8 * 12
    assert IMAGE.adapter_bytes == IMAGE.state_bytes == 4 * (8 + 12) + 2 * 8 * 12
    assert (IMAGE.input_bytes, IMAGE.output_bytes, IMAGE.calibration_bytes) == (12, 12, 0)
    assert len(IMAGE.trained) == 2


def test_truncations_are_named() -> None:
    for length in range(0, len(IMAGE.content), 5):
        assert "truncated" in refusal(IMAGE.content[:length]).message


def test_trailing_bytes_are_refused() -> None:
    assert "4 bytes follow" in refusal(IMAGE.content + bytes(4)).message


def test_another_version_is_named() -> None:
    content = bytearray(IMAGE.content)
    content[4] = 99
    assert "version 99" in refusal(bytes(content)).message


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 8 * len(IMAGE.content) - 1))
def test_any_flipped_bit_is_refused(bit: int) -> None:
    content = bytearray(IMAGE.content)
    content[bit // 8] ^= 1 << (bit % 8)
    refusal(bytes(content))


@pytest.mark.parametrize("field", [80, 82, 84, 86, 88, 92, 96, 100, 108, 112, 116, 120, 124])
def test_fields_out_of_range_are_refused_even_with_a_right_checksum(field: int) -> None:
    refusal(resealed((field, b"\xff\xff" if field < 88 else b"\xff\xff\xff\xff")))


@settings(deadline=None, max_examples=300)
@given(st.integers(12, len(IMAGE.content) // 4 - 1), st.integers(0, 0xFFFFFFFF))
def test_a_hostile_image_never_raises_anything_else(word: int, value: int) -> None:
    try:
        image = Image.from_bytes(resealed((4 * word, struct.pack("<I", value))))
    except KilotuneError:
        return
    assert image.macs >= 0
    assert image.input_bytes >= 0
    assert image.output_bytes >= 0
    assert image.calibration_bytes <= image.adapter_bytes


def test_meta_that_is_no_json_is_refused() -> None:
    with pytest.raises(KilotuneError):
        Image.from_bytes(resealed((IMAGE.header.meta, b"!!!!")))


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(KilotuneError) as caught:
        Image.load(tmp_path / "none.ktm")
    assert caught.value.code == "no_file"


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KilotuneError) as caught:
        IMAGE.save(tmp_path / "file" / "m.ktm")
    assert caught.value.code == "cannot_write"
