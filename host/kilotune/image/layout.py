"""The fixed-size structures of a `.ktm`, field by field: docs/SPEC.md, 1.1 to 1.5.

The compiler writes them and the host's readers read them; no other file knows the offset of a field.
Fields that name a place (`tensors`, `weights`, `rescale`, ...) are offsets from the start of the image.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import astuple, dataclass
from typing import Final

from kilotune.common.structures import Structure

MAGIC: Final = 0x314D544B  # "KTM1"
VERSION: Final = 2
NO_TENSOR: Final = 0xFFFF
NONE: Final = 0xFFFFFFFF  # no such place
HASH_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Prefix(Structure):
    """The start of an image."""

    LAYOUT = struct.Struct("<IHHII")

    magic: int
    version: int
    header_bytes: int
    image_bytes: int
    crc: int  # of everything that follows


@dataclass(frozen=True, slots=True)
class Header(Structure):
    """What follows the prefix, and those fields of the prefix that differ between images."""

    LAYOUT = struct.Struct("<32s32s4H10I")

    image_bytes: int
    crc: int
    image_hash: bytes
    base_hash: bytes
    tensor_count: int
    op_count: int
    input: int
    output: int
    tensors: int
    ops: int
    training: int
    features: int
    profile: int
    meta: int
    meta_bytes: int
    arena_bytes: int
    adapter_bytes: int
    state_bytes: int

    def pack(self) -> bytes:
        image_bytes, crc, *rest = astuple(self)
        return Prefix(MAGIC, VERSION, HEADER_BYTES, image_bytes, crc).pack() + self.LAYOUT.pack(*rest)

    @classmethod
    def read(cls, content: bytes, at: int = 0) -> Header:
        prefix = Prefix.read(content, at)
        return cls(prefix.image_bytes, prefix.crc, *cls.LAYOUT.unpack_from(content, at + Prefix.LAYOUT.size))


HEADER_BYTES: Final = Prefix.LAYOUT.size + Header.LAYOUT.size


def checksum(content: bytes) -> int:
    """The CRC that the prefix of an image must hold."""
    return zlib.crc32(content[Prefix.LAYOUT.size :])


def content_hash(content: bytes) -> bytes:
    """The image hash that its header must hold."""
    return hashlib.sha256(content[Prefix.LAYOUT.size + HASH_BYTES :]).digest()


@dataclass(frozen=True, slots=True)
class TensorEntry(Structure):
    """SPEC 1.2."""

    LAYOUT = struct.Struct("<IHHHbBfII8x")

    data: int  # offset in the arena, like `gradient` and `mask`
    height: int
    width: int
    channels: int
    zero_point: int
    mantissa_bits: int
    scale: float
    gradient: int
    mask: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels


@dataclass(frozen=True, slots=True)
class OpEntry(Structure):
    """SPEC 1.3; parameters are offsets in the adapter."""

    LAYOUT = struct.Struct("<BBHHHbbxx7I24s")

    opcode: int
    flags: int
    input: int
    input2: int
    output: int
    act_min: int
    act_max: int
    weights: int
    bias: int
    multipliers: int
    shifts: int
    bias_param: int
    weight_param: int
    training: int
    word_bytes: bytes  # six of 32 bits, by opcode

    @property
    def words(self) -> tuple[int, ...]:
        return _WORDS.unpack(self.word_bytes)


_WORDS = struct.Struct("<6I")
ADAPTATION_WORD: Final = 4  # of an op whose weights are partly trained
BIAS_TRAINED, WEIGHTS_TRAINED = 1, 2  # flags of an op
DENSE, ADAPTED = 1, 15  # opcodes of layers whose weights can be trained: SPEC 1.3


def pack_words(words: tuple[int, ...]) -> bytes:
    """The words of an op; negative ones in two's complement, missing ones as 0."""
    return _WORDS.pack(*(w & 0xFFFFFFFF for w in words), *[0] * (6 - len(words)))


@dataclass(frozen=True, slots=True)
class OpTraining(Structure):
    """SPEC 1.4. Real numbers are mantissa and exponent, 4 bytes (`real16`)."""

    LAYOUT = struct.Struct("<I4sIB3xfIII4s4s")

    kb: int
    ratio: bytes
    rescale: int
    fraction_bits: int
    gradient_unit: float
    bias_state: int  # offsets in the optimiser state
    weight_state: int
    scratch: int  # offset in the arena
    factor: bytes
    factor2: bytes


@dataclass(frozen=True, slots=True)
class Adaptation(Structure):
    """SPEC 1.4: how an op's weights are partly trained. With a rank, `table` holds the start values of A."""

    LAYOUT = struct.Struct("<HHI4s4x")

    rank: int
    channels: int
    table: int
    factor_step: bytes


@dataclass(frozen=True, slots=True)
class TrainingSection(Structure):
    """SPEC 1.5."""

    LAYOUT = struct.Struct("<BBHHHiiIfHHII4x")

    loss: int
    method: int
    first_op: int
    last_op: int
    tensor: int
    a: int
    b: int
    exponentials: int
    gradient_unit: float
    classes: int
    optimiser: int
    reruns: int
    rerun_count: int


@dataclass(frozen=True, slots=True)
class FeatureSection(Structure):
    """SPEC 1.6, without its tables."""

    LAYOUT = struct.Struct("<HHHBBIIHHIIhh")

    window: int
    hop: int
    fft_points: int
    axes: int
    statistics: int
    rate_mhz: int
    full_scale_ug: int
    bands: int
    features_per_axis: int
    band_table: int
    tables: int
    reference_q10: int
    floor_q10: int


@dataclass(frozen=True, slots=True)
class ProfileSection(Structure):
    """SPEC 1.7, without its tables."""

    LAYOUT = struct.Struct("<HH8BiHHHHhxxIIIHHHh5B11x")

    windows: int
    residual_outputs: int
    mean_pseudo: int
    feature_pseudo: int
    residual_pseudo: int
    near_pseudo: int
    threshold_pseudo: int
    neighbours: int
    level: int
    early: int
    inverse_input: int
    spread_q10: int
    quantile_q10: int
    quantile_tail_q10: int
    margin_permille: int
    base_threshold_q10: int
    means: int
    scales: int
    residual_scales: int
    alone_windows: int
    alone_passes: int
    alone_mantissa: int
    alone_exponent: int
    life_alarmed: int
    life_of: int
    life_record: int
    life_first: int
    life_anchor: int


TENSOR_BYTES: Final = TensorEntry.LAYOUT.size
OP_BYTES: Final = OpEntry.LAYOUT.size
