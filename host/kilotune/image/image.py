"""A model image: the base model compiled for the device, and verified as the device verifies it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kilotune.common.files import write_atomically
from kilotune.common.json_records import typed
from kilotune.common.structures import S
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import MAX_WINDOWS, Profile
from kilotune.image.envelope import bad_image, read_header
from kilotune.image.features import FeatureConfig, decode_json
from kilotune.image.layout import (
    ADAPTATION_WORD,
    NONE,
    OP_BYTES,
    TENSOR_BYTES,
    Adaptation,
    Header,
    OpEntry,
    TensorEntry,
)
from kilotune.image.memory import Piece
from kilotune.terms import Loss, Method, Term, known

MAX_IMAGE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the model: what reports show, and what merging needs to know of trained layers."""

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
    rank: int = 0  # of the update that is trained instead of the weights themselves, 0: none

    @property
    def weight_count(self) -> int:
        """Number of int16 values in the adapter, if weights are trained."""
        if self.rank:
            return self.rank * (self.inputs + self.outputs)
        return self.inputs * (len(self.channels) or self.outputs)

    @property
    def parameters(self) -> int:
        """Number of trained values: biases, and weights or their factors."""
        return self.outputs * self.bias_trained + self.weight_count * self.weights_trained


class Reservoir(NamedTuple):
    """How many windows the device stores to learn from and to compare new ones with."""

    windows: int  # capacity
    neighbours: int  # of the nearest-windows score
    early: int  # windows of the first learn phase, kept beside the others


@dataclass(frozen=True, slots=True)
class Image:
    """A verified model image. Made by `kilotune.compile` or `Image.load`."""

    content: bytes
    header: Header
    meta: dict[str, Any]
    layers: tuple[Layer, ...]

    @classmethod
    def from_bytes(cls, content: bytes) -> Image:
        """Verifies the image's frame as the device does; raises KilotuneError `bad_image`."""
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
        """ "adam", or "sgd" with or without state."""
        return str(self.meta.get("optimiser", "sgd"))

    @property
    def loss(self) -> Loss:
        return _word(Loss, self.meta)

    @property
    def reruns(self) -> tuple[tuple[int, int], ...]:
        """Ops that run again for the backward pass: (op before whose backward pass, op that runs again)."""
        try:
            pairs = tuple((int(before), int(again)) for before, again in self.meta.get("reruns", ()))
        except (TypeError, ValueError) as error:
            raise bad_image("its meta section does not list the ops that run again") from error
        if not all(0 <= again < before < len(self.layers) for before, again in pairs):
            raise bad_image("its meta section lists an op to run again that it does not have")
        return pairs

    @property
    def memory(self) -> tuple[Piece, ...]:
        """The arena over time. Steps: in -1 the input arrives; then the ops forward, the loss, the ops backward."""
        try:
            pieces = tuple(Piece(str(key), *map(int, rest)) for key, *rest in self.meta["memory"])
        except (KeyError, TypeError, ValueError) as error:
            raise bad_image("its meta section does not say what is in the arena") from error
        if any(p.offset < 0 or p.size < 0 or p.offset + p.size > self.arena_bytes for p in pieces):
            raise bad_image("its memory plan goes beyond the arena")
        return pieces

    @property
    def calibration_bytes(self) -> int:
        """Bytes of the adapter: the calibration, then the trained parameters."""
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
    def reservoir(self) -> Reservoir:
        """All zeros if the model takes ready inputs."""
        settings = self.meta.get("calibration") or {}
        values = [settings.get(name, 0) for name in Reservoir._fields] if isinstance(settings, dict) else []
        if len(values) != len(Reservoir._fields) or not all(type(v) is int and 0 <= v <= MAX_WINDOWS for v in values):
            raise bad_image("its calibration settings are out of range", "compile the model again")
        return Reservoir(*values)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)"""
        return self._tensor(self.header.input).shape

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)"""
        return self._tensor(self.header.output).shape

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
        tensor = self._tensor(self.header.input)
        return tensor.scale, tensor.zero_point

    @property
    def output_quantisation(self) -> tuple[float, int]:
        """(scale, zero point)"""
        tensor = self._tensor(self.header.output)
        return tensor.scale, tensor.zero_point

    def base_weights(self, layer: Layer) -> npt.NDArray[np.int8]:
        """(outputs, inputs): the base model's weights of a layer whose weights are trained."""
        return self._int8(self._op(layer).weights, layer.outputs, layer.inputs)

    def starting_factor(self, layer: Layer) -> npt.NDArray[np.int8]:
        """(rank, inputs): start values of factor A of a layer with a rank, in units of `adapted.FACTOR_START`."""
        place = self._op(layer).words[ADAPTATION_WORD]
        return self._int8(self._entry(Adaptation, place).table, layer.rank, layer.inputs)

    def _tensor(self, index: int) -> TensorEntry:
        return self._entry(TensorEntry, self.header.tensors + TENSOR_BYTES * index)

    def _op(self, layer: Layer) -> OpEntry:
        if not 0 <= layer.op < self.header.op_count:
            raise bad_image(f"its meta section lists a layer '{layer.name:.60}' that it does not have")
        return self._entry(OpEntry, self.header.ops + OP_BYTES * layer.op)

    def _entry(self, kind: type[S], at: int) -> S:
        try:
            return kind.read(self.content, at)
        except IndexError as error:
            raise bad_image("its tables have an entry beyond its end") from error

    def _int8(self, at: int, rows: int, columns: int) -> npt.NDArray[np.int8]:
        if min(rows, columns) < 0 or at + rows * columns > len(self.content):
            raise bad_image("it has weights beyond its end")
        return np.frombuffer(self.content, np.int8, rows * columns, at).reshape(rows, columns)


def _word(kind: type[Term], meta: dict[str, Any]) -> Term:
    """The image's loss or method, in any spelling."""
    name = kind.__name__.lower()
    found = known(kind, meta.get(name))
    if found is None:
        raise bad_image(
            f"its meta section says {meta.get(name)!r:.40} for '{name}', which this release does not know",
            "use the tools of the release that compiled it",
        )
    return found


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
            raise bad_image(f"layer '{layer.name}' has parameters outside the adapter")
    return layers


def shared_error(what: str, tensor: int, first: int, second: int) -> KilotuneError:
    return KilotuneError(
        "shared_tensor",
        f"operators {first} and {second} share {what} tensor {tensor} (one layer used twice), and both would train it",
        "train the last layers only (fewer last_layers, or method head), or use separate layers in the model",
    )
