"""Several inputs of a model as one of the image: their values one after the other, in the order of the file."""

from __future__ import annotations

from collections.abc import Sequence

from kilotune.errors import KilotuneError
from kilotune.operators.arrange import Gather, Reshape
from kilotune.operators.base import Activation, ImageOp

MAX_VALUES = 65535
BEFORE_ALL = 0  # the operator of the file that these ops are told to be of


def joined(inputs: Sequence[int], activations: list[Activation]) -> tuple[int, list[ImageOp]]:
    """The image's input, and the ops that take each of `inputs` from it: none if there is one. Each keeps its own
    scale, as only bytes are copied."""
    if not inputs:
        return -1, []  # the model is refused for that
    if len(inputs) == 1:
        return inputs[0], []
    parts = [activations[i] for i in inputs]
    total = sum(p.elements for p in parts)
    if total > MAX_VALUES or len(set(inputs)) != len(inputs):
        raise KilotuneError(
            "unsupported_model",
            f"the model's {len(inputs)} inputs have {total} values",
            f"up to {MAX_VALUES} in different tensors are supported",
        )
    whole = _new(activations, Activation("inputs", 1, 1, total, parts[0].scale, parts[0].zero_point, -1))
    ops: list[ImageOp] = []
    start = 0
    for index, part in zip(inputs, parts, strict=True):
        line = tuple(range(start, start + part.elements))
        flat = Activation(part.name, 1, 1, part.elements, part.scale, part.zero_point, -1)
        target = index if part.extents == flat.extents else _new(activations, flat)
        ops.append(Gather(BEFORE_ALL, part.name, whole, target, "SLICE", ((0,), (0,), line), 0))
        if target != index:
            ops.append(Reshape(BEFORE_ALL, part.name, target, index, "RESHAPE"))
        start += part.elements
    return whole, ops


def _new(activations: list[Activation], made: Activation) -> int:
    activations.append(made)
    return len(activations) - 1
