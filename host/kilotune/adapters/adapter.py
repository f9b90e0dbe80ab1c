"""An adapter: all that changed on the device, as one blob and as named arrays in a portable directory."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.adapters.trust import trust
from kilotune.common.files import write_atomically
from kilotune.common.json_records import typed
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import ADAPTER_HEAD_BYTES, calibration_bytes
from kilotune.image.image import OP_BYTES, Image, Layer
from kilotune.link.keys import KeyRing
from kilotune.operators.adapted import FACTOR_START, MAX_RANK, effective

CONFIG_FILE = "adapter_config.json"
MODEL_FILE = "adapter_model.safetensors"
FORMAT_VERSION = 1
MAX_CONFIG_BYTES = 4 << 20
MAX_MODEL_BYTES = 256 << 20


def bad_adapter(what: str, hint: str = "pull it from the device again, or copy the directory again") -> KilotuneError:
    return KilotuneError("bad_adapter", f"the adapter cannot be used: {what}", hint)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """Where an adapter belongs and how its blob is laid out. Hashes in hexadecimal."""

    base_hash: str  # of the .tflite
    image_hash: str
    method: str
    loss: str
    adapter_bytes: int
    calibration_bytes: int
    layers: tuple[Layer, ...]  # trained ones only
    input_scale: float = 0.0
    input_zero_point: int = 0
    output_scale: float = 0.0
    output_zero_point: int = 0
    features: int = 0  # values a window, 0: the model takes ready inputs
    residual_outputs: int = 0  # 0: a classifier
    reservoir: int = 0  # windows that it has room for
    neighbours: int = 0  # of the nearest-windows score
    early: int = 0  # early windows that it has room for
    windows_seen: int = 0
    steps: int = 0
    device: str = ""
    firmware: str = ""
    tag: str = ""  # the device's, made with its key, over all that learning has made; "": it had none
    key_id: str = ""
    kilotune_version: str = ""
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class Adapter:
    """`blob` is what the device holds: calibration, bias deltas int32, trained weights int16."""

    config: AdapterConfig
    blob: bytes

    def __post_init__(self) -> None:
        if len(self.blob) != self.config.adapter_bytes:
            raise bad_adapter(f"it has {len(self.blob)} bytes where its image asks for {self.config.adapter_bytes}")

    @classmethod
    def from_blob(
        cls,
        image: Image,
        blob: bytes,
        *,
        windows_seen: int = 0,
        steps: int = 0,
        device: str = "",
        firmware: str = "",
        tag: str = "",
        key_id: str = "",
    ) -> Adapter:
        """An adapter as pulled from a device that runs `image`."""
        from kilotune.version import __version__

        input_scale, input_zero = image.input_quantisation
        output_scale, output_zero = image.output_quantisation
        features, profile = image.features, image.profile
        windows, neighbours, early = _reservoir(image.meta.get("calibration") or {})
        config = AdapterConfig(
            base_hash=image.base_hash.hex(),
            image_hash=image.image_hash.hex(),
            method=image.method,
            loss=image.loss,
            adapter_bytes=image.adapter_bytes,
            calibration_bytes=image.calibration_bytes,
            layers=image.trained,
            input_scale=input_scale,
            input_zero_point=input_zero,
            output_scale=output_scale,
            output_zero_point=output_zero,
            features=features.inputs if features is not None else 0,
            residual_outputs=profile.residual_std.size if profile is not None else 0,
            reservoir=windows,
            neighbours=neighbours,
            early=early,
            windows_seen=windows_seen,
            steps=steps,
            device=device,
            firmware=firmware,
            tag=tag,
            key_id=key_id,
            kilotune_version=__version__,
        )
        return cls(config, blob)

    @classmethod
    def base(cls, image: Image) -> Adapter:
        """The adapter that changes nothing: deltas 0, weights in the middle of their int8 step."""
        blob = bytearray(image.adapter_bytes)
        for layer in image.trained:
            if layer.weights_trained:
                start = _start_values(image, layer).astype("<i2").tobytes()
                blob[layer.weight_offset : layer.weight_offset + len(start)] = start
        return cls.from_blob(image, bytes(blob))

    @property
    def sha256(self) -> str:
        """Of the image hash and the blob: the same on every device that learned the same."""
        return hashlib.sha256(bytes.fromhex(self.config.image_hash) + self.blob).hexdigest()

    @property
    def calibration(self) -> bytes:
        return self.blob[: self.config.calibration_bytes]

    def bias_delta(self, layer: Layer) -> npt.NDArray[np.int32]:
        """(out,) with `layer.bias_fraction_bits` fraction bits."""
        return np.frombuffer(self.blob, "<i4", layer.outputs, layer.bias_offset).astype(np.int32)

    def effective_bias_delta(self, layer: Layer) -> npt.NDArray[np.int32]:
        """(out,) in units of the accumulator: what the device adds to the base model's bias."""
        bits = layer.bias_fraction_bits
        return ((self.bias_delta(layer).astype(np.int64) + (1 << (bits - 1))) >> bits).astype(np.int32)

    def weights(self, layer: Layer) -> npt.NDArray[np.int16]:
        """(trained channels, in), int8 weight above, fraction below; for a layer without a rank."""
        return self._values(layer, 0, (len(layer.channels) or layer.outputs, layer.inputs))

    def factors(self, layer: Layer) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
        """A (rank, in) and B (out, rank) of a layer with a rank: round(B A / 2^20) is added to its weights."""
        a = self._values(layer, 0, (layer.rank, layer.inputs))
        return a, self._values(layer, a.size, (layer.outputs, layer.rank))

    def _values(self, layer: Layer, first: int, shape: tuple[int, int]) -> npt.NDArray[np.int16]:
        at = layer.weight_offset + 2 * first
        return np.frombuffer(self.blob, "<i2", shape[0] * shape[1], at).reshape(shape).astype(np.int16)

    def effective_weights(self, layer: Layer, base: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """(out, in): what the device computes with, where `base` are the model's own."""
        if layer.rank:
            return effective(base, *self.factors(layer))
        weights = base.copy()
        weights[list(layer.channels) if layer.channels else slice(None)] = self.weights(layer) >> 8
        return weights

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything in the blob by name: `calibration.<part>`, `layers.<op>.bias_delta`, `layers.<op>.weight`
        or `layers.<op>.lora_a` and `lora_b`."""
        result: dict[str, npt.NDArray[Any]] = {}
        for name, (offset, dtype, shape) in calibration_layout(self.config).items():
            count = int(np.prod(shape))
            values = np.frombuffer(self.blob, dtype.newbyteorder("<"), count, offset)
            result[name] = values.astype(dtype).reshape(shape)
        for layer in self.config.layers:
            if layer.bias_trained:
                result[f"layers.{layer.op}.bias_delta"] = self.bias_delta(layer)
            if layer.weights_trained and layer.rank:
                a, b = self.factors(layer)
                result |= {f"layers.{layer.op}.lora_a": a, f"layers.{layer.op}.lora_b": b}
            elif layer.weights_trained:
                result[f"layers.{layer.op}.weight"] = self.weights(layer)
        return result

    @classmethod
    def from_arrays(cls, config: AdapterConfig, arrays: dict[str, npt.NDArray[Any]]) -> Adapter:
        """The inverse of `arrays`; checks names, types and shapes."""
        expected = layout(config)
        if set(arrays) != set(expected):
            raise bad_adapter(f"its arrays are {sorted(arrays)} where {sorted(expected)} belong")
        blob = bytearray(config.adapter_bytes)
        for name, (offset, dtype, shape) in expected.items():
            array = arrays[name]
            if array.dtype != dtype or array.shape != shape:
                raise bad_adapter(f"'{name}' is {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}")
            content = array.astype(dtype.newbyteorder("<")).tobytes()
            blob[offset : offset + len(content)] = content
        return cls(config, bytes(blob))

    def require_image(self, image: Image) -> None:
        """KilotuneError `wrong_base` unless the adapter was made with `image`."""
        if self.config.image_hash == image.image_hash.hex():
            return
        same_base = self.config.base_hash == image.base_hash.hex()
        raise KilotuneError(
            "wrong_base",
            "the adapter belongs to another "
            + ("image of the same model" if same_base else "base model")
            + f" (image {self.config.image_hash[:12]}, this one is {image.image_hash.hex()[:12]})",
            "use the image that it was trained on" + (", compiled with the same options" if same_base else ""),
        )

    def save(self, directory: str | Path) -> None:
        """Writes both files, each at once or not at all; the arrays first, the configuration last."""
        from safetensors.numpy import save

        path = Path(directory)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KilotuneError(
                "cannot_write", f"cannot make the folder {path}: {error.strerror}", "choose another place"
            ) from error
        config = asdict(self.config) | {"sha256": self.sha256}
        text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
        write_atomically(path / MODEL_FILE, save(self.arrays()))
        write_atomically(path / CONFIG_FILE, text.encode())

    @classmethod
    def load(cls, directory: str | Path, *, keys: KeyRing | None = None) -> Adapter:
        """Reads what `save` wrote; KilotuneError `bad_adapter`, `no_file`, or `bad_tag`.

        Its device's tag is verified where the key is in `keys` (None: in the user's folder).
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = Path(directory)
        config, sha256 = _parse_config(_read(path / CONFIG_FILE, MAX_CONFIG_BYTES))
        try:
            arrays = load(_read(path / MODEL_FILE, MAX_MODEL_BYTES))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise bad_adapter(f"{MODEL_FILE} is damaged") from error
        adapter = cls.from_arrays(config, arrays)
        if adapter.sha256 != sha256:
            raise bad_adapter(f"{MODEL_FILE} and {CONFIG_FILE} do not belong together, or bits are damaged")
        trust(adapter, keys if keys is not None else KeyRing())
        return adapter


def _start_values(image: Image, layer: Layer) -> npt.NDArray[np.int64]:
    """The int16 values of a layer's weights before any training."""
    record = image.header.ops + OP_BYTES * layer.op
    (weights,) = struct.unpack_from("<I", image.content, record + 12)
    if layer.rank:  # A from the image, B of zeros
        (adaptation,) = struct.unpack_from("<I", image.content, record + 56)
        (at,) = struct.unpack_from("<I", image.content, adaptation + 4)
        a = np.frombuffer(image.content, np.int8, layer.rank * layer.inputs, at).astype(np.int64)
        return np.concatenate([a * FACTOR_START, np.zeros(layer.rank * layer.outputs, np.int64)])
    base = np.frombuffer(image.content, np.int8, layer.outputs * layer.inputs, weights).astype(np.int64)
    rows = base.reshape(layer.outputs, layer.inputs)
    return (rows[list(layer.channels)] if layer.channels else rows).reshape(-1) * 256 + 128


def _reservoir(settings: object) -> tuple[int, int, int]:
    """Windows, neighbours and early windows of an image's calibration settings; 0 where it has none."""
    names = ("windows", "neighbours", "early")
    values = [settings.get(name, 0) for name in names] if isinstance(settings, dict) else []
    if len(values) != len(names) or not all(type(v) is int and 0 <= v <= 255 for v in values):
        raise KilotuneError(
            "bad_image", "the model image's calibration settings are out of range", "compile the model again"
        )
    return values[0], values[1], values[2]


def calibration_layout(config: AdapterConfig) -> dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]]:
    """The same for the calibration block (SPEC 2); empty without features."""
    if not config.calibration_bytes:
        return {}
    f, o, r, e = config.features, config.residual_outputs, config.reservoir, config.early
    pieces: tuple[tuple[str, type[np.generic], tuple[int, ...]], ...] = (
        ("head", np.uint8, (ADAPTER_HEAD_BYTES,)),
        ("feature_mean", np.int16, (f,)),
        ("feature_scale", np.uint16, (f,)),
        ("residual_mean", np.int16, (o,)),
        ("residual_scale", np.uint16, (o,)),
        ("near_weight", np.uint16, (f,)),
        ("labels", np.uint8, (r,)),
        ("reservoir", np.int8, (r, f)),
        ("early", np.int8, (e, f)),
        ("aged", np.int8, (f if e else 0,)),
    )
    result: dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]] = {}
    at = 0
    for name, kind, shape in pieces:
        dtype = np.dtype(kind)
        if 0 not in shape:
            result[f"calibration.{name}"] = (at, dtype, shape)
        at += dtype.itemsize * int(np.prod(shape))
    return result


def layout(config: AdapterConfig) -> dict[str, tuple[int, np.dtype[Any], tuple[int, ...]]]:
    """Array name -> (offset in the blob, type, shape)."""
    result = calibration_layout(config)
    for layer in config.layers:
        if layer.bias_trained:
            result[f"layers.{layer.op}.bias_delta"] = (
                layer.bias_offset,
                np.dtype(np.int32),
                (layer.outputs,),
            )
        if not layer.weights_trained:
            continue
        at, int16 = layer.weight_offset, np.dtype(np.int16)
        if layer.rank:
            columns = at + 2 * layer.rank * layer.inputs
            result[f"layers.{layer.op}.lora_a"] = (at, int16, (layer.rank, layer.inputs))
            result[f"layers.{layer.op}.lora_b"] = (columns, int16, (layer.outputs, layer.rank))
        else:
            shape = (len(layer.channels) or layer.outputs, layer.inputs)
            result[f"layers.{layer.op}.weight"] = (at, int16, shape)
    return result


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise bad_adapter(f"{path.name} has more than {limit} bytes")
        return path.read_bytes()
    except OSError as error:
        raise KilotuneError(
            "no_file",
            f"cannot read {path}: {error.strerror}",
            f"give the adapter's directory, with {CONFIG_FILE} and {MODEL_FILE} in it",
        ) from error


def _parse_config(content: bytes) -> tuple[AdapterConfig, str]:
    """The configuration, every field's type and range checked, and the hash that it promises."""
    try:
        data = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise bad_adapter(f"{CONFIG_FILE} is not valid JSON") from error
    if not isinstance(data, dict):
        raise bad_adapter(f"{CONFIG_FILE} is not a JSON object")
    version = data.get("format_version")
    if version != FORMAT_VERSION:
        raise bad_adapter(
            f"it has format version {version!r}, this release reads version {FORMAT_VERSION}",
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
    _check_layout(config)
    return config, sha256


def _check_layout(config: AdapterConfig) -> None:
    """Arrays lie inside the blob, fill it without overlap, and fraction bits are possible."""
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
    sizes = (config.features, config.residual_outputs, config.reservoir, config.early)
    if config.calibration_bytes != calibration_bytes(*sizes):
        raise bad_adapter("its calibration has another size than its counts say")
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
    spans = [
        (offset, offset + dtype.itemsize * int(np.prod(shape, dtype=np.float64)))
        for offset, dtype, shape in layout(config).values()
    ]
    for first, last in sorted(spans):
        if first < end or last > config.adapter_bytes:
            raise bad_adapter("its arrays overlap or lie outside of it")
        end = last
