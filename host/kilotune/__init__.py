"""Fine-tuning in kilobytes: adapt an int8 TensorFlow Lite model on a microcontroller, from Python.

image = kilotune.compile("model.tflite", method="bias+head")
with kilotune.connect("/dev/ttyACM0") as device:
    device.learn(healthy)          # (n, axes) float32 in g, or int16 counts
    device.commit()
    adapter = device.pull()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kilotune.version import __version__

if TYPE_CHECKING:
    from kilotune.adapters.adapter import Adapter as Adapter
    from kilotune.adapters.merge import merge as merge
    from kilotune.compiler.compile import compile as compile
    from kilotune.compiler.compile import compile_with as compile_with
    from kilotune.compiler.options import CompileOptions as CompileOptions
    from kilotune.device.learning import LearnOptions as LearnOptions
    from kilotune.errors import KilotuneError as KilotuneError
    from kilotune.image.image import Image as Image
    from kilotune.targets.connect import connect as connect
    from kilotune.targets.twin import Twin as Twin

__all__ = [
    "Adapter",
    "CompileOptions",
    "Image",
    "KilotuneError",
    "LearnOptions",
    "Twin",
    "__version__",
    "compile",
    "compile_with",
    "connect",
    "merge",
]

# Public name -> module that defines it: nothing heavy is imported before it is used.
_HOME = {
    "Adapter": "kilotune.adapters.adapter",
    "CompileOptions": "kilotune.compiler.options",
    "Image": "kilotune.image.image",
    "KilotuneError": "kilotune.errors",
    "LearnOptions": "kilotune.device.learning",
    "Twin": "kilotune.targets.twin",
    "compile": "kilotune.compiler.compile",
    "compile_with": "kilotune.compiler.compile",
    "connect": "kilotune.targets.connect",
    "merge": "kilotune.adapters.merge",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kilotune' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
