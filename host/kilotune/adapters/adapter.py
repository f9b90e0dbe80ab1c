"""An adapter: everything that changed on the device, as one blob and as named arrays in a portable folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.adapters.config import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    MAX_MODEL_BYTES,
    MODEL_FILE,
    AdapterConfig,
    bad_adapter,
    layer_arrays,
    layout,
    parse_config,
)
from kilotune.adapters.trust import Trust, trust
from kilotune.common.files import current, write_together
from kilotune.errors import KilotuneError
from kilotune.image.contents import Layer
from kilotune.image.image import Image
from kilotune.link.keys import KeyRing
from kilotune.operators.adapted import FACTOR_START, effective


@dataclass(frozen=True, slots=True)
class Adapter:
    """`blob`: what the device holds, i.e. calibration, bias deltas (int32) and trained weights (int16)."""

    config: AdapterConfig
    blob: bytes

    def __post_init__(self) -> None:
        if len(self.blob) != self.config.adapter_bytes:
            raise bad_adapter(f"it has {len(self.blob)} bytes, but its image needs {self.config.adapter_bytes}")

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
        windows, neighbours, early, lives = image.reservoir
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
            lives=lives,
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
        """Hash of the image hash and the blob: the same on every device that learned the same."""
        return hashlib.sha256(bytes.fromhex(self.config.image_hash) + self.blob).hexdigest()

    @property
    def calibration(self) -> bytes:
        return self.blob[: self.config.calibration_bytes]

    def bias_delta(self, layer: Layer) -> npt.NDArray[np.int32]:
        """(out,) with `layer.bias_fraction_bits` fraction bits."""
        return layer_arrays(layer)["bias_delta"].read(self.blob)

    def effective_bias_delta(self, layer: Layer) -> npt.NDArray[np.int32]:
        """(out,) in units of the accumulator: what the device adds to the base model's bias."""
        bits = layer.bias_fraction_bits
        return ((self.bias_delta(layer).astype(np.int64) + (1 << (bits - 1))) >> bits).astype(np.int32)

    def weights(self, layer: Layer) -> npt.NDArray[np.int16]:
        """(trained channels, in): the int8 weight in the upper byte, its fraction below; for a layer without a rank."""
        return layer_arrays(layer)["weight"].read(self.blob)

    def factors(self, layer: Layer) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
        """A (rank, in) and B (out, rank) of a layer with a rank: round(B A / 2^20) is added to its weights."""
        places = layer_arrays(layer)
        return places["lora_a"].read(self.blob), places["lora_b"].read(self.blob)

    def effective_weights(self, layer: Layer, base: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
        """(out, in): the weights that the device computes with; `base`: the model's own."""
        if layer.rank:
            return effective(base, *self.factors(layer))
        weights = base.copy()
        weights[list(layer.channels) if layer.channels else slice(None)] = self.weights(layer) >> 8
        return weights

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything in the blob by name, in the order of `layout`."""
        return {name: place.read(self.blob) for name, place in layout(self.config).items()}

    @classmethod
    def from_arrays(cls, config: AdapterConfig, arrays: dict[str, npt.NDArray[Any]]) -> Adapter:
        """The inverse of `arrays`; checks names, types and shapes."""
        expected = layout(config)
        if set(arrays) != set(expected):
            raise bad_adapter(f"its arrays are {sorted(arrays)} instead of {sorted(expected)}")
        blob = bytearray(config.adapter_bytes)
        for name, (offset, dtype, shape) in expected.items():
            array = arrays[name]
            if array.dtype != dtype or array.shape != shape:
                raise bad_adapter(f"'{name}' is {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}")
            content = array.astype(dtype.newbyteorder("<")).tobytes()
            blob[offset : offset + len(content)] = content
        return cls(config, bytes(blob))

    def require_image(self, image: Image) -> None:
        """Raises KilotuneError `wrong_base` unless the adapter was made with `image`."""
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

    def trust(self, keys: KeyRing) -> Trust:
        """Whether it is verified to come from its device; raises KilotuneError `bad_tag` if the tag is wrong."""
        return trust(self.config, self.blob, keys)

    def save(self, directory: str | Path) -> None:
        """Writes both files together: if interrupted, the folder holds the old adapter or the new one."""
        from safetensors.numpy import save

        path = Path(directory)
        config = asdict(self.config) | {"sha256": self.sha256}
        text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
        write_together(path, {MODEL_FILE: save(self.arrays()), CONFIG_FILE: text.encode()})

    @classmethod
    def load(cls, directory: str | Path, *, keys: KeyRing | None = None) -> Adapter:
        """Reads what `save` wrote; raises KilotuneError `bad_adapter`, `no_file` or `bad_tag`.

        Its device's tag is verified if the key is in `keys` (None: in the user's key folder).
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = Path(directory)
        config, sha256 = parse_config(_read(current(path, CONFIG_FILE), MAX_CONFIG_BYTES))
        try:
            arrays = load(_read(current(path, MODEL_FILE), MAX_MODEL_BYTES))
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise bad_adapter(f"{MODEL_FILE} is damaged") from error
        adapter = cls.from_arrays(config, arrays)
        if adapter.sha256 != sha256:
            raise bad_adapter(f"{MODEL_FILE} and {CONFIG_FILE} do not belong together, or bits are damaged")
        adapter.trust(keys if keys is not None else KeyRing())
        return adapter


def _start_values(image: Image, layer: Layer) -> npt.NDArray[np.int64]:
    """The int16 values of a layer's weights before any training."""
    if layer.rank:  # A from the image, B of zeros
        a = image.starting_factor(layer).reshape(-1).astype(np.int64)
        return np.concatenate([a * FACTOR_START, np.zeros(layer.rank * layer.outputs, np.int64)])
    rows = image.base_weights(layer).astype(np.int64)
    return (rows[list(layer.channels)] if layer.channels else rows).reshape(-1) * 256 + 128


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.stat().st_size > limit:
            raise bad_adapter(f"{path.name} has more than {limit} bytes")
        return path.read_bytes()
    except OSError as error:
        raise KilotuneError(
            "no_file",
            f"cannot read {path}: {error.strerror}",
            f"give the adapter's folder, which contains {CONFIG_FILE} and {MODEL_FILE}",
        ) from error
