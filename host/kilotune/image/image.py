"""A model image: the base model compiled for the device, verified as the device would before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.common.files import write_atomically
from kilotune.common.json_records import typed
from kilotune.common.structures import S
from kilotune.errors import KilotuneError
from kilotune.image.agreement import require_agreement, settings_of
from kilotune.image.base_profile import CalibrationSettings, Profile
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
        """Verifies all that a device verifies, and that tools and device are told the same.

        KilotuneError `bad_image`, or that of what stands in its JSON.
        """
        header = read_header(content)
        meta = decode_json(content[header.meta : header.meta + header.meta_bytes], "the image's meta section")
        if not isinstance(meta, dict):
            raise bad_image("its meta section is not a JSON object")
        image = cls(content, header, meta, _layers(meta))
        require_agreement(image)
        return image

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
        return self.settings.early if self.settings is not None else 0

    @property
    def settings(self) -> CalibrationSettings | None:
        """Of calibration; None without features."""
        return settings_of(self.meta["calibration"]) if self.header.features else None

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
        """(outputs, inputs): the base model's own, of a layer whose weights are trained."""
        return self._int8(self.op(layer.op).weights, layer.outputs, layer.inputs)

    def starting_factor(self, layer: Layer) -> npt.NDArray[np.int8]:
        """(rank, inputs): where factor A of a layer with a rank starts, in units of `adapted.FACTOR_START`."""
        place = self.op(layer.op).words[ADAPTATION_WORD]
        return self._int8(self._entry(Adaptation, place).table, layer.rank, layer.inputs)

    def tensor(self, index: int) -> TensorEntry:
        return self._entry(TensorEntry, self.header.tensors + TENSOR_BYTES * index)

    def op(self, index: int) -> OpEntry:
        return self._entry(OpEntry, self.header.ops + OP_BYTES * index)

    def _entry(self, kind: type[S], at: int) -> S:
        try:
            return kind.read(self.content, at)
        except IndexError as error:
            raise bad_image("an entry of its tables lies outside of it") from error

    def _int8(self, at: int, rows: int, columns: int) -> npt.NDArray[np.int8]:
        if min(rows, columns) < 0 or at + rows * columns > len(self.content):
            raise bad_image("weights lie outside of it")
        return np.frombuffer(self.content, np.int8, rows * columns, at).reshape(rows, columns)


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


def _layers(meta: dict[str, Any]) -> tuple[Layer, ...]:
    try:
        return tuple(Layer(**typed(Layer, entry)) for entry in meta["layers"])
    except (KeyError, TypeError, ValueError) as error:
        raise bad_image("its meta section does not list the layers") from error


def shared_error(what: str, tensor: int, first: int, second: int) -> KilotuneError:
    return KilotuneError(
        "shared_tensor",
        f"operators {first} and {second} share {what} tensor {tensor} (one layer used twice), and both would train it",
        "train the last layers only (fewer last_layers, or method head), or use separate layers in the model",
    )
