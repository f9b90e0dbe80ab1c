"""A model image: the base model compiled for the device, and verified as the device verifies it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilotune.common.files import write_atomically
from kilotune.common.json_records import typed
from kilotune.errors import KilotuneError
from kilotune.image.agreement import require_agreement
from kilotune.image.contents import Contents, Layer
from kilotune.image.envelope import bad_image, read_header
from kilotune.image.features import decode_json

MAX_IMAGE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Image(Contents):
    """A verified model image. Made by `kilotune.compile` or `Image.load`."""

    @classmethod
    def from_bytes(cls, content: bytes) -> Image:
        """Verifies what a device verifies, and that the image tells tools and device the same (`agreement.py`).

        KilotuneError `bad_image`.
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
