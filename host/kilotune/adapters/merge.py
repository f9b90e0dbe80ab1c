"""Merges an adapter into its base model: a plain `.tflite` that computes exactly what the device computes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from kilotune.adapters.adapter import Adapter
from kilotune.adapters.calibration import of_adapter
from kilotune.adapters.config import bad_adapter
from kilotune.common.files import write_atomically
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.image.contents import Layer
from kilotune.image.image import shared_error
from kilotune.tflite import edit as flatbuffer_edit
from kilotune.tflite import model as tflite_model
from kilotune.tflite.model import Operator, TfliteModel

WEIGHTS = 1  # input of a layer with weights


def _bias_input(operator: Operator) -> int:
    return 3 if operator.opcode == "TRANSPOSE_CONV" else 2


def merge(tflite: bytes, adapter: Adapter) -> bytes:
    """The bytes of `tflite` with the adapter's biases and weights instead of its own.

    The calibration goes into the model's kilotune metadata. Missing biases are created, shared ones separated.
    Raises KilotuneError: `wrong_base` (another model), `shared_tensor` (one tensor trained through two ops).
    """
    digest = hashlib.sha256(tflite).hexdigest()
    if digest != adapter.config.base_hash:
        raise KilotuneError(
            "wrong_base",
            f"the adapter was trained on another model (SHA-256 {adapter.config.base_hash[:12]}; this one is "
            f"{digest[:12]})",
            "give the .tflite that the image was compiled from",
        )
    model = tflite_model.read(tflite)
    for layer in adapter.config.layers:
        _check_layer(model, layer)
    _refuse_doubly_trained(adapter)
    edit = flatbuffer_edit.Edit(tflite)
    for layer in adapter.config.layers:
        operator = model.operators[layer.source]
        if layer.bias_trained:
            _merge_bias(edit, model, operator, layer, adapter)
        if layer.weights_trained:
            base = model.tensors[layer.weight_tensor].values().astype(np.int8)
            weights = adapter.effective_weights(layer, base.reshape(layer.outputs, layer.inputs))
            edit.set_constant(operator.index, WEIGHTS, weights.tobytes())
    merged = edit.finish()
    calibration = of_adapter(adapter)
    if calibration is not None:
        described = replace(metadata.read(merged), calibration=calibration.to_json())
        merged = metadata.write(merged, described)
    return merged


def write_calibration(adapter: Adapter, tflite: Path) -> Path | None:
    """Writes the adapter's calibration as JSON next to a merged model; None if there is none."""
    calibration = of_adapter(adapter)
    if calibration is None:
        return None
    path = tflite.with_suffix(".calibration.json")
    write_atomically(path, (json.dumps(calibration.to_json(), indent=1) + "\n").encode())
    return path


def _check_layer(model: TfliteModel, layer: Layer) -> None:
    """Checks that the layer in the file is the one that was trained."""
    good = 0 <= layer.source < len(model.operators)
    if good:
        operator = model.operators[layer.source]
        weight = operator.input(WEIGHTS)
        good = (
            operator.opcode == layer.kind
            and weight == layer.weight_tensor >= 0
            and operator.input(_bias_input(operator)) == layer.bias_tensor
            and model.tensors[weight].dtype == "int8"
            and model.tensors[weight].data.size == model.tensors[weight].elements == layer.outputs * layer.inputs
        )
    if not good:
        raise bad_adapter(f"its layer '{layer.name:.60}' is not operator {layer.source} of this model")


def _refuse_doubly_trained(adapter: Adapter) -> None:
    owners: dict[tuple[str, int], int] = {}
    for layer in adapter.config.layers:
        for key in _trained_tensors(layer):
            if key in owners:
                raise shared_error(key[0], key[1], owners[key], layer.source)
            owners[key] = layer.source


def _trained_tensors(layer: Layer) -> Iterator[tuple[str, int]]:
    if layer.bias_trained and layer.bias_tensor >= 0:
        yield "bias", layer.bias_tensor
    if layer.weights_trained:
        yield "weights", layer.weight_tensor


def _merge_bias(
    edit: flatbuffer_edit.Edit, model: TfliteModel, operator: Operator, layer: Layer, adapter: Adapter
) -> None:
    delta = adapter.effective_bias_delta(layer).astype(np.int64)
    if layer.bias_tensor >= 0:
        tensor = model.tensors[layer.bias_tensor]
        if tensor.dtype != "int32" or tensor.elements != layer.outputs:
            raise bad_adapter(f"its layer '{layer.name:.60}' has another bias in this model")
        base = tensor.values().reshape(-1).astype(np.int64)
        edit.set_constant(operator.index, _bias_input(operator), (base + delta).astype("<i4").tobytes())
        return
    edit.add_bias(
        operator.index,
        _bias_input(operator),
        delta.astype("<i4").tobytes(),
        name=f"{layer.name}/bias",
        scales=tuple(float(s) for s in _bias_scales(model, operator)),
    )


def _bias_scales(model: TfliteModel, operator: Operator) -> npt.NDArray[np.float32]:
    place = 2 if operator.opcode == "TRANSPOSE_CONV" else 0
    source, weight = model.tensors[operator.input(place)], model.tensors[operator.input(WEIGHTS)]
    return (np.float32(source.scale) * weight.scales).astype(np.float32)
