"""A model image: the base model compiled for the device, verified as the device would before it is used."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilotune.common.files import write_atomically
from kilotune.common.json_records import typed
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import Profile
from kilotune.image.features import FeatureConfig, decode_json
from kilotune.image.memory import Piece
from kilotune.terms import Loss, Method, Term, known

MAGIC = 0x314D544B
VERSION = 2
HEADER_BYTES = 128
TENSOR_BYTES = 32
OP_BYTES = 64
OP_TRAINING_BYTES = 40
TRAINING_BYTES = 40
MAX_IMAGE_BYTES = 64 << 20
MAX_RAM_BYTES = 1 << 28
NONE = 0xFFFFFFFF
_HEADER = struct.Struct("<IHHII32s32s4H10I")


@dataclass(frozen=True, slots=True)
class Header:
    """SPEC 1.1, without magic and sizes that are implied."""

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

    def pack(self, crc: int, image_hash: bytes) -> bytes:
        return _HEADER.pack(
            MAGIC,
            VERSION,
            HEADER_BYTES,
            self.image_bytes,
            crc,
            image_hash,
            self.base_hash,
            self.tensor_count,
            self.op_count,
            self.input,
            self.output,
            self.tensors,
            self.ops,
            self.training,
            self.features,
            self.profile,
            self.meta,
            self.meta_bytes,
            self.arena_bytes,
            self.adapter_bytes,
            self.state_bytes,
        )


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the model: what reports show, and what merging needs of the trained ones."""

    op: int  # in the image
    source: int  # operator in the .tflite
    name: str
    kind: str
    inputs: int
    outputs: int
    macs: int
    bias_trained: bool = False
    weights_trained: bool = False
    bias_fraction_bits: int = 0
    bias_offset: int = NONE  # in the adapter
    weight_offset: int = NONE
    bias_tensor: int = -1  # in the .tflite, -1: none there
    weight_tensor: int = -1
    channels: tuple[int, ...] = ()  # whose weights are trained, empty: all
    rank: int = 0  # of the sum that is trained in place of the weights themselves, 0: none

    @property
    def weight_count(self) -> int:
        """int16 values in the adapter, where weights are trained."""
        if self.rank:
            return self.rank * (self.inputs + self.outputs)
        return self.inputs * (len(self.channels) or self.outputs)

    @property
    def parameters(self) -> int:
        """Trained values: biases, and weights or their factors."""
        return self.outputs * self.bias_trained + self.weight_count * self.weights_trained


@dataclass(frozen=True, slots=True)
class Image:
    """A verified model image. Made by `kilotune.compile` or `Image.load`."""

    content: bytes
    header: Header
    meta: dict[str, Any]
    layers: tuple[Layer, ...]

    @classmethod
    def from_bytes(cls, content: bytes) -> Image:
        """Verifies everything that the device verifies of the image's frame; KilotuneError `bad_image`."""
        header = read_header(content)
        meta = decode_json(content[header.meta : header.meta + header.meta_bytes], "the image's meta section")
        if not isinstance(meta, dict):
            raise bad_image("its meta section is not a JSON object")
        return cls(content, header, meta, _layers(meta, header))

    @classmethod
    def load(cls, path: str | Path) -> Image:
        """Reads a `.ktm` file."""
        file = Path(path)
        try:
            if file.stat().st_size > MAX_IMAGE_BYTES:
                raise bad_image(f"{file.name} has more than {MAX_IMAGE_BYTES} bytes")
            content = file.read_bytes()
        except OSError as error:
            raise KilotuneError(
                "no_file",
                f"cannot read {file}: {error.strerror}",
                "check the path; `kilotune compile` makes images",
            ) from error
        return cls.from_bytes(content)

    def save(self, path: str | Path) -> None:
        write_atomically(Path(path), self.content)

    @property
    def image_hash(self) -> bytes:
        return self.header.image_hash

    @property
    def base_hash(self) -> bytes:
        """SHA-256 of the `.tflite`."""
        return self.header.base_hash

    @property
    def arena_bytes(self) -> int:
        return self.header.arena_bytes

    @property
    def adapter_bytes(self) -> int:
        return self.header.adapter_bytes

    @property
    def state_bytes(self) -> int:
        """Optimiser state: momentum or gradient accumulation."""
        return self.header.state_bytes

    @property
    def macs(self) -> int:
        """Multiplications of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def method(self) -> Method:
        return _word(Method, self.meta)

    @property
    def optimiser(self) -> str:
        """ "adam", or "sgd" with whatever state there is."""
        return str(self.meta.get("optimiser", "sgd"))

    @property
    def loss(self) -> Loss:
        return _word(Loss, self.meta)

    @property
    def reruns(self) -> tuple[tuple[int, int], ...]:
        """Ops that run again for the backward pass: (before which op's, which op)."""
        try:
            pairs = tuple((int(before), int(again)) for before, again in self.meta.get("reruns", ()))
        except (TypeError, ValueError) as error:
            raise bad_image("its meta section does not list what runs again") from error
        if not all(0 <= again < before < len(self.layers) for before, again in pairs):
            raise bad_image("an op of its meta section that runs again is not there")
        return pairs

    @property
    def memory(self) -> tuple[Piece, ...]:
        """The arena over time. Steps: -1 the input arrives, then the ops forward, the loss, the ops backward."""
        try:
            pieces = tuple(Piece(str(key), *map(int, rest)) for key, *rest in self.meta["memory"])
        except (KeyError, TypeError, ValueError) as error:
            raise bad_image("its meta section does not say what lies in the arena") from error
        if any(p.offset < 0 or p.size < 0 or p.offset + p.size > self.arena_bytes for p in pieces):
            raise bad_image("its memory plan leaves the arena")
        return pieces

    @property
    def calibration_bytes(self) -> int:
        """Calibration leads the adapter; trained parameters follow."""
        offsets = [o for t in self.trained for o in (t.bias_offset, t.weight_offset) if o != NONE]
        return min(offsets, default=self.adapter_bytes)

    @property
    def trained(self) -> tuple[Layer, ...]:
        return tuple(t for t in self.layers if t.bias_trained or t.weights_trained)

    @property
    def features(self) -> FeatureConfig | None:
        return FeatureConfig.from_json(self.meta["features"]) if self.meta.get("features") else None

    @property
    def profile(self) -> Profile | None:
        return Profile.from_json(self.meta["profile"]) if self.meta.get("profile") else None

    @property
    def early(self) -> int:
        """Early windows that the device keeps."""
        settings = self.meta.get("calibration")
        value = settings.get("early", 0) if isinstance(settings, dict) else 0
        return value if type(value) is int and 0 <= value <= 255 else 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        return _shape(self.content, self.header, self.header.input)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return _shape(self.content, self.header, self.header.output)

    @property
    def input_bytes(self) -> int:
        height, width, channels = self.input_shape
        return height * width * channels

    @property
    def output_bytes(self) -> int:
        height, width, channels = self.output_shape
        return height * width * channels

    @property
    def input_quantisation(self) -> tuple[float, int]:
        """(scale, zero point)"""
        return _quantisation(self.content, self.header, self.header.input)

    @property
    def output_quantisation(self) -> tuple[float, int]:
        """(scale, zero point)"""
        return _quantisation(self.content, self.header, self.header.output)


def bad_image(what: str, hint: str = "compile the model again, or copy the file again") -> KilotuneError:
    return KilotuneError("bad_image", f"the model image cannot be used: {what}", hint)


def _word(kind: type[Term], meta: dict[str, Any]) -> Term:
    """The image's loss or method, in either spelling."""
    name = kind.__name__.lower()
    found = known(kind, meta.get(name))
    if found is None:
        raise bad_image(
            f"its meta section says {meta.get(name)!r:.40} for '{name}', which this release does not know",
            "use the tools of the release that compiled it",
        )
    return found


def read_header(content: bytes) -> Header:
    """Checks magic, version, length, checksum, hash and bounds, in this order."""
    if len(content) < HEADER_BYTES:
        raise bad_image(f"it is truncated to {len(content)} bytes, less than a header")
    magic, version, header_bytes, size, crc, *rest = _HEADER.unpack_from(content)
    if magic != MAGIC:
        raise bad_image("it does not begin like one", "give a .ktm file, made with `kilotune compile`")
    if version != VERSION or header_bytes != HEADER_BYTES:
        raise bad_image(
            f"it has format version {version}, this release reads version {VERSION}",
            "compile the model again with the tools of this release",
        )
    if len(content) < size:
        raise bad_image(f"it is truncated: {len(content)} of {size} bytes")
    if len(content) > size:
        raise bad_image(f"{len(content) - size} bytes follow its end")
    if size % 4 or size < HEADER_BYTES:
        raise bad_image(f"its length of {size} bytes is impossible")
    if zlib.crc32(content[16:]) != crc:
        raise bad_image("its checksum does not match, bits are damaged")
    header = Header(size, crc, *rest)
    if hashlib.sha256(content[48:]).digest() != header.image_hash:
        raise bad_image("its hash does not match its content")
    _check_bounds(header)
    return header


def _check_bounds(h: Header) -> None:
    def inside(offset: int, count: int, size: int, alignment: int = 4) -> bool:
        return offset % alignment == 0 and offset >= HEADER_BYTES and offset + count * size <= h.image_bytes

    good = (
        inside(h.tensors, h.tensor_count, TENSOR_BYTES)
        and inside(h.ops, h.op_count, OP_BYTES)
        and inside(h.meta, h.meta_bytes, 1, 1)
        and (h.training == 0 or inside(h.training, 1, TRAINING_BYTES))
        and (h.features == 0 or inside(h.features, 1, 32))
        and (h.profile == 0 or inside(h.profile, 1, 4))
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


def _layers(meta: dict[str, Any], header: Header) -> tuple[Layer, ...]:
    try:
        layers = tuple(Layer(**typed(Layer, entry)) for entry in meta["layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise bad_image("its meta section does not list the layers") from error
    for layer in layers:
        ends = [
            (layer.bias_trained, layer.bias_offset, 4 * layer.outputs),
            (layer.weights_trained, layer.weight_offset, 2 * layer.weight_count),
        ]
        if any(used and not 0 <= at <= at + size <= header.adapter_bytes for used, at, size in ends):
            raise bad_image(f"layer '{layer.name}' lies outside the adapter")
    return layers


def _shape(content: bytes, header: Header, tensor: int) -> tuple[int, ...]:
    return struct.unpack_from("<3H", content, header.tensors + TENSOR_BYTES * tensor + 4)


def _quantisation(content: bytes, header: Header, tensor: int) -> tuple[float, int]:
    at = header.tensors + TENSOR_BYTES * tensor
    return struct.unpack_from("<f", content, at + 12)[0], struct.unpack_from("<b", content, at + 10)[0]


def seal(header: Header, body: bytes) -> bytes:
    """The finished image: `body` follows the header, hash and checksum are filled in."""
    rest = header.pack(0, bytes(32))[48:] + body
    image_hash = hashlib.sha256(rest).digest()
    return header.pack(zlib.crc32(image_hash + rest), image_hash)[:48] + rest


def shared_error(what: str, tensor: int, first: int, second: int) -> KilotuneError:
    return KilotuneError(
        "shared_tensor",
        f"operators {first} and {second} share {what} tensor {tensor} (one layer used twice), and both would train it",
        "train the last layers only (fewer last_layers, or method head), or use separate layers in the model",
    )
