"""The operators that a model may consist of: one file an operator, one line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from kilotune.operators import dense, softmax
from kilotune.operators.base import ImageOp, Lowering

LOWERINGS: Mapping[str, Callable[[Lowering], ImageOp]] = MappingProxyType(
    {
        "FULLY_CONNECTED": dense.lower,
        "SOFTMAX": softmax.lower,
    }
)
# Operators that leave no trace in the image: names for one tensor, or the border to float.
TRANSPARENT = frozenset({"RESHAPE", "QUANTIZE", "DEQUANTIZE"})


def lower(context: Lowering) -> ImageOp:
    """Lowers one operator, or says which are supported."""
    lowering = LOWERINGS.get(context.operator.opcode)
    if lowering is None:
        known = ", ".join(sorted([*LOWERINGS, *TRANSPARENT]))
        raise context.refuse("is not supported", f"supported are {known}: replace or remove the layer")
    return lowering(context)
