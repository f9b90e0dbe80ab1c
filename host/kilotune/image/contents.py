"""What a model image says, read from its sections and its JSON: layers, sizes, memory plan, settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kilotune.common.json_records import typed
from kilotune.common.structures import S
from kilotune.image.base_profile import MAX_WINDOWS, CalibrationSettings, Profile
from kilotune.image.envelope import bad_image
from kilotune.image.features import FeatureConfig
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
    lives: bool = False  # whether there is room for what a device knows that lives on


@dataclass(frozen=True, slots=True)
class Contents:
    """What `Image` has to say. Until it is verified, anything here may be missing or out of range."""

    content: bytes
    header: Header
    meta: dict[str, Any]
    layers: tuple[Layer, ...]

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
        settings = self.settings
        if settings is None:
            return Reservoir(0, 0, 0)
        return Reservoir(settings.windows, settings.neighbours, settings.early, settings.lives)

    @property
    def settings(self) -> CalibrationSettings | None:
        """Of calibration; None where the model takes ready inputs."""
        data = self.meta.get("calibration")
        return settings_of(data) if self.header.features or data else None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)"""
        return self.tensor(self.header.input).shape

    @property
    def output_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)"""
        return self.tensor(self.header.output).shape

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
        tensor = self.tensor(self.header.input)
        return tensor.scale, tensor.zero_point

    @property
    def output_quantisation(self) -> tuple[float, int]:
        """(scale, zero point)"""
        tensor = self.tensor(self.header.output)
        return tensor.scale, tensor.zero_point

    def base_weights(self, layer: Layer) -> npt.NDArray[np.int8]:
        """(outputs, inputs): the base model's weights of a layer whose weights are trained."""
        return self._int8(self.op(layer.op).weights, layer.outputs, layer.inputs)

    def starting_factor(self, layer: Layer) -> npt.NDArray[np.int8]:
        """(rank, inputs): start values of factor A of a layer with a rank, in units of `adapted.FACTOR_START`."""
        place = self.op(layer.op).words[ADAPTATION_WORD]
        return self._int8(self._entry(Adaptation, place).table, layer.rank, layer.inputs)

    def tensor(self, index: int) -> TensorEntry:
        return self._entry(TensorEntry, self.header.tensors + TENSOR_BYTES * index)

    def op(self, index: int) -> OpEntry:
        if not 0 <= index < self.header.op_count:
            raise bad_image(f"there is no op {index} in it")
        return self._entry(OpEntry, self.header.ops + OP_BYTES * index)

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


def settings_of(data: Any) -> CalibrationSettings:
    """An image's calibration settings from its JSON; what is not there is as this release has it."""
    try:
        found = CalibrationSettings(**typed(CalibrationSettings, asdict(CalibrationSettings()) | data))
    except (TypeError, ValueError) as error:
        raise bad_image("its calibration settings are not understood") from error
    if not all(0 <= n <= MAX_WINDOWS for n in (found.windows, found.neighbours, found.early)):
        raise bad_image("its calibration settings are out of range")
    return found
