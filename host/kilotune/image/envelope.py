"""The frame of a model image: length, checksum, hash and bounds. `seal` writes them, `read_header` verifies them."""

from __future__ import annotations

from dataclasses import replace

from kilotune.errors import KilotuneError
from kilotune.image.base_profile import PROFILE_SECTION_BYTES
from kilotune.image.features import FEATURE_SECTION_BYTES
from kilotune.image.layout import (
    HASH_BYTES,
    HEADER_BYTES,
    MAGIC,
    OP_BYTES,
    TENSOR_BYTES,
    VERSION,
    Header,
    Prefix,
    TrainingSection,
    checksum,
    content_hash,
)

MAX_RAM_BYTES = 1 << 28


def bad_image(what: str, hint: str = "compile the model again, or copy the file again") -> KilotuneError:
    return KilotuneError("bad_image", f"the model image cannot be used: {what}", hint)


def seal(header: Header, body: bytes) -> bytes:
    """The finished image: header with hash and checksum, then `body`."""
    blank = replace(header, image_hash=bytes(HASH_BYTES)).pack() + body
    hashed = replace(header, image_hash=content_hash(blank)).pack() + body
    return replace(header, image_hash=content_hash(blank), crc=checksum(hashed)).pack() + body


def read_header(content: bytes) -> Header:
    """Checks magic, version, length, checksum, hash and bounds, in this order."""
    if len(content) < HEADER_BYTES:
        raise bad_image(f"it is truncated to {len(content)} bytes, less than a header")
    prefix = Prefix.read(content, 0)
    if prefix.magic != MAGIC:
        raise bad_image("it does not begin like an image", "give a .ktm file made with `kilotune compile`")
    if prefix.version != VERSION or prefix.header_bytes != HEADER_BYTES:
        raise bad_image(
            f"it has format version {prefix.version}, this release reads version {VERSION}",
            "compile the model again with the tools of this release",
        )
    size = prefix.image_bytes
    if len(content) < size:
        raise bad_image(f"it is truncated: {len(content)} of {size} bytes")
    if len(content) > size:
        raise bad_image(f"{len(content) - size} bytes follow its end")
    if size % 4 or size < HEADER_BYTES:
        raise bad_image(f"its length of {size} bytes is impossible")
    if checksum(content) != prefix.crc:
        raise bad_image("its checksum does not match, so bits are damaged")
    header = Header.read(content)
    if content_hash(content) != header.image_hash:
        raise bad_image("its hash does not match its content")
    _check_bounds(header)
    return header


def image_at_start(content: bytes) -> bytes | None:
    """The image at the start of a device's model partition, recognised by magic, length and checksum alone.

    None: there is no image.
    """
    try:
        prefix = Prefix.read(content, 0)
    except IndexError:
        return None
    if prefix.magic != MAGIC or not HEADER_BYTES <= prefix.image_bytes <= len(content):
        return None
    image = content[: prefix.image_bytes]
    return image if checksum(image) == prefix.crc else None


def _check_bounds(h: Header) -> None:
    def inside(offset: int, count: int, size: int, alignment: int = 4) -> bool:
        return offset % alignment == 0 and offset >= HEADER_BYTES and offset + count * size <= h.image_bytes

    good = (
        inside(h.tensors, h.tensor_count, TENSOR_BYTES)
        and inside(h.ops, h.op_count, OP_BYTES)
        and inside(h.meta, h.meta_bytes, 1, 1)
        and (h.training == 0 or inside(h.training, 1, TrainingSection.LAYOUT.size))
        and (h.features == 0 or inside(h.features, 1, FEATURE_SECTION_BYTES))
        and (h.profile == 0 or inside(h.profile, 1, PROFILE_SECTION_BYTES))
        and (h.features == 0) == (h.profile == 0)
        and h.input < h.tensor_count
        and h.output < h.tensor_count
        and h.op_count > 0
        and all(n <= MAX_RAM_BYTES for n in (h.arena_bytes, h.adapter_bytes, h.state_bytes))
        and h.adapter_bytes % 4 == 0
        and h.state_bytes % 4 == 0
    )
    if not good:
        raise bad_image("a field of its header is out of range")
