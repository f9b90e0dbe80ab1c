"""The configuration in an adapter's folder: which image it belongs to, and how its blob is laid out."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from kilotune.common.json_records import typed
from kilotune.errors import KilotuneError
from kilotune.image.calibration_block import Place, calibration_arrays, calibration_bytes
from kilotune.image.contents import Layer
from kilotune.operators.adapted import MAX_RANK
from kilotune.terms import Loss, Method

CONFIG_FILE = "adapter_config.json"
MODEL_FILE = "adapter_model.safetensors"
FORMAT_VERSION = 1
MAX_CONFIG_BYTES = 4 << 20
MAX_MODEL_BYTES = 256 << 20


def bad_adapter(what: str, hint: str = "pull it from the device again, or copy the folder again") -> KilotuneError:
    return KilotuneError("bad_adapter", f"the adapter cannot be used: {what}", hint)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Which image an adapter belongs to, and how its blob is laid out. Hashes are in hexadecimal."""

    base_hash: str  # of the .tflite
    image_hash: str
    method: Method
    loss: Loss
    adapter_bytes: int
    calibration_bytes: int
    layers: tuple[Layer, ...]  # trained ones only
    input_scale: float = 0.0
    input_zero_point: int = 0
    output_scale: float = 0.0
    output_zero_point: int = 0
    features: int = 0  # values per window, 0: the model takes ready inputs
    residual_outputs: int = 0  # 0: a classifier
    reservoir: int = 0  # windows that it has room for
    neighbours: int = 0  # of the nearest-windows score
    early: int = 0  # early windows that it has room for
    lives: bool = False  # whether it has room for what a device knows that lives on
    windows_seen: int = 0
    steps: int = 0
    device: str = ""
    firmware: str = ""
    tag: str = ""  # of the device, made with its key from everything learned; "": the device had no key
    key_id: str = ""
    kilotune_version: str = ""
    format_version: int = FORMAT_VERSION


def calibration_layout(config: AdapterConfig) -> dict[str, Place]:
    """Where the arrays of the calibration block are; empty without features."""
    if not config.calibration_bytes:
        return {}
    room = (config.features, config.residual_outputs, config.reservoir, config.early, config.lives)
    return {f"calibration.{name}": p for name, p in calibration_arrays(*room).items() if 0 not in p.shape}


def layer_arrays(layer: Layer) -> dict[str, Place]:
    """Where the trained parameters of a layer are: `bias_delta`; `weight`, or `lora_a` and `lora_b`."""
    result = {}
    if layer.bias_trained:
        result["bias_delta"] = Place(layer.bias_offset, np.dtype(np.int32), (layer.outputs,))
    int16 = np.dtype(np.int16)
    if layer.weights_trained and layer.rank:
        a = result["lora_a"] = Place(layer.weight_offset, int16, (layer.rank, layer.inputs))
        result["lora_b"] = Place(a.end, int16, (layer.outputs, layer.rank))
    elif layer.weights_trained:
        shape = (len(layer.channels) or layer.outputs, layer.inputs)
        result["weight"] = Place(layer.weight_offset, int16, shape)
    return result


def layout(config: AdapterConfig) -> dict[str, Place]:
    """Where every array is in the blob: `calibration.<part>`, `layers.<op>.<part>`."""
    result = calibration_layout(config)
    for layer in config.layers:
        result |= {f"layers.{layer.op}.{name}": place for name, place in layer_arrays(layer).items()}
    return result


def parse_config(content: bytes) -> tuple[AdapterConfig, str]:
    """Reads the configuration and its hash; checks type and range of every field."""
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise bad_adapter(f"{CONFIG_FILE} is not valid JSON") from error
    if not isinstance(data, dict):
        raise bad_adapter(f"{CONFIG_FILE} is not a JSON object")
    version = data.get("format_version")
    if version != FORMAT_VERSION:
        raise bad_adapter(
            f"it has format version {version!r}, but this release reads version {FORMAT_VERSION}",
            "use the tools of the release that made it",
        )
    sha256 = data.pop("sha256", None)
    layers = data.pop("layers", None)
    if not isinstance(layers, list) or not isinstance(sha256, str):
        raise bad_adapter(f"{CONFIG_FILE} lists no layers or no hash")
    try:
        config = AdapterConfig(
            **typed(AdapterConfig, data, without=("layers",)),
            layers=tuple(Layer(**typed(Layer, layer)) for layer in layers),
        )
    except ValueError as error:
        raise bad_adapter(f"{CONFIG_FILE} {error}", "use the tools of the release that made it") from error
    check_layout(config)
    return config, sha256


def check_layout(config: AdapterConfig) -> None:
    """Checks that arrays fill the blob without overlap, and that fraction bits are possible."""
    for name in ("base_hash", "image_hash"):
        try:
            good = len(bytes.fromhex(getattr(config, name))) == 32
        except ValueError:
            good = False
        if not good:
            raise bad_adapter(f"its {name} is not a SHA-256")
    if not 0 <= config.calibration_bytes <= config.adapter_bytes <= MAX_MODEL_BYTES:
        raise bad_adapter("its sizes are impossible")
    counts = (config.features, config.residual_outputs, config.reservoir, config.neighbours, config.early)
    if min(counts) < 0 or max(counts) > MAX_MODEL_BYTES:
        raise bad_adapter("its counts are impossible")
    sizes = (config.features, config.residual_outputs, config.reservoir, config.early, config.lives)
    if config.calibration_bytes != calibration_bytes(*sizes):
        raise bad_adapter("its calibration does not have the size that its counts give")
    for layer in config.layers:
        possible = (
            min(layer.inputs, layer.outputs) >= 1
            and (not layer.bias_trained or 2 <= layer.bias_fraction_bits <= 24)
            and 0 <= layer.rank <= MAX_RANK
            and list(layer.channels) == sorted(set(layer.channels))
            and all(0 <= c < layer.outputs for c in layer.channels)
        )
        if not possible:
            raise bad_adapter(f"layer '{layer.name:.60}' has impossible sizes")
    end = 0
    for first, last in sorted((place.offset, place.end) for place in layout(config).values()):
        if first < end or last > config.adapter_bytes:
            raise bad_adapter("its arrays overlap or go beyond its end")
        end = last
