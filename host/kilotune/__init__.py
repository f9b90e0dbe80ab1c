"""Fine-tuning in kilobytes: adapt an int8 TensorFlow Lite model on a microcontroller, from Python.

image = kilotune.compile("model.tflite", method="bias+head")
with kilotune.connect("/dev/ttyACM0") as device:
    device.learn(healthy)          # (n, axes) float32 in g, or int16 counts
    device.commit()
    adapter = device.pull()
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kilotune.adapter import Adapter as Adapter
    from kilotune.compiler import compile as compile
    from kilotune.connection import connect as connect
    from kilotune.errors import KilotuneError as KilotuneError
    from kilotune.image import Image as Image
    from kilotune.merge import merge as merge
    from kilotune.targets.twin import Twin as Twin

__version__ = "0.1.0"
__all__ = ["Adapter", "Image", "KilotuneError", "Twin", "__version__", "compile", "connect", "merge"]

# Public name -> module that defines it: nothing heavy is imported before it is used.
_HOME = {
    "Adapter": "kilotune.adapter",
    "Image": "kilotune.image",
    "KilotuneError": "kilotune.errors",
    "Twin": "kilotune.targets.twin",
    "compile": "kilotune.compiler",
    "connect": "kilotune.connection",
    "merge": "kilotune.merge",
}


class _Package(ModuleType):
    """Keeps `kilotune.merge` the function: importing the submodule of that name would replace it."""

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kilotune' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
