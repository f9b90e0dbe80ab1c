"""What a device says about itself, held against the model image and against its own limits."""

from __future__ import annotations

from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link import messages
from kilotune.link.cbor import bad_message


def require_limits(hello: messages.Hello) -> None:
    """Raises KilotuneError `bad_message` if the device's limits contradict each other."""
    if hello.chunk >= hello.max_frame:
        raise bad_message("its longest byte string does not fit its longest message")


def require_features(model: messages.Model) -> None:
    """Raises KilotuneError `bad_message` if the model has features, but of no size."""
    if model.axes and not all((model.rate_mhz, model.full_scale_ug, model.window, model.hop, model.features)):
        raise bad_message("its model has features of size 0")


def require_image(model: messages.Model, image: Image) -> None:
    """Raises KilotuneError `other_image` if the device runs another image, `bad_message` if it lies about this one.

    Sizes decide how long a transfer takes and how much memory it needs.
    """
    if model.image_hash != image.image_hash:
        raise KilotuneError(
            "other_image",
            f"the device runs image {model.image_hash.hex()[:12]}, but the one given is {image.image_hash.hex()[:12]}",
            "give the image that the device was flashed with, or flash this one with `kilotune flash`",
        )
    features = image.features
    sizes = {
        "input": (model.input_bytes, image.input_bytes),
        "output": (model.output_bytes, image.output_bytes),
        "adapter": (model.adapter_bytes, image.adapter_bytes),
        "arena": (model.arena_bytes, image.arena_bytes),
        "axes": (model.axes, 0 if features is None else features.axes),
        "window": (model.window, 0 if features is None else features.window),
        "hop": (model.hop, 0 if features is None else features.hop),
    }
    for what, (claimed, right) in sizes.items():
        if claimed != right:
            raise bad_message(f"it gives the size of its model's {what} as {claimed:,}, the image as {right:,}")
