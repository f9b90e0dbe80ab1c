"""What an image says twice, to the device in sections and to the tools in JSON, is the same: held once, when it is
opened, so that nothing that reads an image later needs to doubt it."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable

from kilotune.errors import KilotuneError
from kilotune.image.contents import Contents, Layer, settings_of
from kilotune.image.envelope import bad_image
from kilotune.image.layout import (
    ADAPTATION_WORD,
    ADAPTED,
    BIAS_TRAINED,
    DENSE,
    WEIGHTS_TRAINED,
    Adaptation,
    FeatureSection,
    OpEntry,
    OpTraining,
    ProfileSection,
    TensorEntry,
    TrainingSection,
)
from kilotune.image.memory import Piece
from kilotune.terms import Method
from kilotune.twin_library import twin_library

PIECE = re.compile(r"(data|mask|gradient|scratch|backward scratch) \d{1,5}")


def require_agreement(image: Contents) -> None:
    """KilotuneError `bad_image` unless a device would open the image, and its JSON says what its sections say."""
    _require_device(image.content)
    try:
        training = _training(image)
        _check_words(image, training)
        for index, layer in enumerate(image.layers):
            _check_layer(image, index, layer)
        _check_tensors(image)
        _check_reruns(image, training)
        _check_memory(image)
        _check_windows(image)
    except KilotuneError as error:
        raise (error if error.code == "bad_image" else bad_image(error.message)) from error
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise bad_image("its meta section and its other sections do not fit together") from error


def _require_device(content: bytes) -> None:
    """Where the twin is not built, nothing of this is known: devices check for themselves."""
    try:
        library = twin_library()
    except KilotuneError:
        return
    status = int(library.image_status(content))
    if status:
        raise bad_image(f"a device would refuse it (status {status}): a field of a section is out of range")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise bad_image(f"its meta section does not fit its other sections: {what}")


def _training(image: Contents) -> TrainingSection | None:
    return TrainingSection.read(image.content, image.header.training) if image.header.training else None


def _check_words(image: Contents, training: TrainingSection | None) -> None:
    _require(len(image.layers) == image.header.op_count, "the number of layers")
    method, adam = image.method, image.optimiser == "adam"
    if training is None:
        _require(method is Method.none and not adam, "what is trained")
        return
    _require(method.number == training.method, "the method")
    _require(image.loss.number == training.loss, "the loss")
    _require(adam == (training.optimiser == 1), "the optimiser")


def _check_layer(image: Contents, index: int, layer: Layer) -> None:
    op = image.op(index)
    name = f"layer {index}"
    _require(layer.op == index and min(layer.inputs, layer.outputs, layer.macs) >= 0, name)
    trained = (bool(op.flags & BIAS_TRAINED), bool(op.flags & WEIGHTS_TRAINED))
    _require((layer.bias_trained, layer.weights_trained) == trained, f"what of {name} is trained")
    _require((layer.bias_offset, layer.weight_offset) == (op.bias_param, op.weight_param), f"where {name} is trained")
    if not any(trained):
        _require(not layer.bias_fraction_bits and not layer.channels and not layer.rank, name)
        return
    _require(OpTraining.read(image.content, op.training).fraction_bits == layer.bias_fraction_bits, name)
    _require(layer.outputs == image.tensor(op.output).channels, f"the size of {name}")
    if layer.weights_trained:
        _check_weights(image, op, layer, name)
    else:
        _require(not layer.channels and not layer.rank, name)


def _check_weights(image: Contents, op: OpEntry, layer: Layer, name: str) -> None:
    channels: tuple[int, ...] = ()
    rank = 0
    if op.opcode == ADAPTED:
        adaptation = Adaptation.read(image.content, op.words[ADAPTATION_WORD])
        rank = adaptation.rank
        if not rank:
            table = struct.unpack_from(f"<{layer.outputs}H", image.content, adaptation.table)
            channels = tuple(o for o, place in enumerate(table) if place != 0xFFFF)
    _require((layer.channels, layer.rank) == (channels, rank), f"what of {name} is trained")
    _require(layer.inputs == _fan_in(op, image.tensor(op.input)), f"the size of {name}")
    image.base_weights(layer)  # lie inside


def _fan_in(op: OpEntry, source: TensorEntry) -> int:
    """Weights of one output: of the whole input, or of the window that the first word describes."""
    window = op.words[0]
    if op.opcode == DENSE or window == 0:
        return math.prod(source.shape)
    return (window & 0xFFFF) * (window >> 16) * source.channels


def _check_tensors(image: Contents) -> None:
    for index in range(image.header.tensor_count):
        scale = image.tensor(index).scale
        _require(math.isfinite(scale) and scale > 0, f"the scale of tensor {index}")


def _check_reruns(image: Contents, training: TrainingSection | None) -> None:
    found: Iterable[tuple[int, int]] = ()
    if training is not None and training.rerun_count:
        flat = struct.unpack_from(f"<{2 * training.rerun_count}H", image.content, training.reruns)
        found = zip(flat[::2], flat[1::2], strict=True)
    _require(image.reruns == tuple(found), "what runs again")


def _check_memory(image: Contents) -> None:
    last = 2 * len(image.layers) + len(image.reruns)

    def good(piece: Piece) -> bool:
        return PIECE.fullmatch(piece.key) is not None and -1 <= piece.first <= piece.last <= last

    _require(bool(image.memory) and all(map(good, image.memory)), "the memory plan")


def _check_windows(image: Contents) -> None:
    """Features, profile and calibration settings."""
    features, profile, header = image.features, image.profile, image.header
    if features is None or profile is None:
        _require(features is None and profile is None and not header.features, "the features")
        return
    _require(bool(header.features), "the features")
    section = FeatureSection.read(image.content, header.features)
    _require(features.head(section.band_table, section.tables) == section, "the features")
    _require(profile.feature_mean.size == features.inputs == image.input_bytes, "the number of features")
    known = ProfileSection.read(image.content, header.profile)
    settings = settings_of(image.meta.get("calibration"))
    scale, _ = image.input_quantisation
    places = (known.means, known.scales, known.residual_scales)
    _require(profile.head(settings, places, input_scale=scale) == known, "the calibration settings")
