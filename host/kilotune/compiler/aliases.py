"""Which tensors of a `.tflite` are one activation of the image, and in which shape the operators see it."""

from __future__ import annotations

import math

from kilotune import operators
from kilotune.compiler.blockers import Blockers
from kilotune.errors import KilotuneError
from kilotune.operators.base import Extents
from kilotune.tflite.model import Operator, Tensor, TfliteModel


def extents_of_tensors(model: TfliteModel, skipped: frozenset[int]) -> dict[int, Extents]:
    """(height, width, channels) of the int8 tensors whose shape matters to an operator."""
    found: dict[int, Extents] = {}
    for operator in model.operators:
        if operator.opcode in operators.TRANSPARENT or operator.index in skipped:
            continue
        if operator.opcode in operators.ANY_SHAPE:
            continue
        tiled = operators.tiled_extents(model, operator)
        if tiled is not None:
            found[operator.inputs[0]], found[operator.outputs[0]] = tiled
            continue
        tensors = [i for i in (*operator.inputs, *operator.outputs) if i >= 0]
        if operator.opcode == "FULLY_CONNECTED" and not operators.has_rows(model, operator):
            tensors = list(operator.outputs)
        for i in tensors:
            tensor = model.tensors[i]
            if tensor.dtype == "int8" and not tensor.constant:
                found[i] = extent(tensor)
    return found


def aliases_of(
    model: TfliteModel, skipped: frozenset[int], extents: dict[int, Extents], blockers: Blockers
) -> tuple[dict[int, int], frozenset[int]]:
    """Tensor -> the int8 tensor that stands for it in the image; and the operators that this makes unnecessary."""
    root = {t.index: t.index for t in model.tensors}
    elided = set()
    for operator in model.operators:
        if operator.opcode not in operators.TRANSPARENT or operator.index in skipped:
            continue
        if operator.options.function is not None:
            continue
        with blockers.collecting():
            if _joined(model, operator, extents, root):
                elided.add(operator.index)
    return root, frozenset(elided)


def _joined(model: TfliteModel, operator: Operator, extents: dict[int, Extents], root: dict[int, int]) -> bool:
    """Makes the operator's input and output one, if they are; False if it stays an op."""
    if not operator.inputs or len(operator.outputs) != 1 or operator.inputs[0] < 0:
        raise _border_error(model, operator, "has no single input and output")
    source, target = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    if source.elements != target.elements or source.constant:
        raise KilotuneError(
            "unsupported_model",
            f"{model.describe(operator)} turns {list(source.shape)} into {list(target.shape)}",
            "convert the model with a fixed batch size of 1, so that all its shapes are known",
        )
    if operator.opcode in operators.RESHAPES:
        if source.dtype == "int8" and not _same_quantisation(source, target):
            raise _border_error(model, operator, "changes the quantisation")
        if len({extents[i] for i in extents if root[i] in (root[source.index], root[target.index])}) > 1:
            return False  # two operators need the values in different shapes: this stays an op
        _join(root, source.index, target.index)
    elif operator.opcode == "QUANTIZE" and source.dtype == target.dtype == "int8":
        return False
    elif operator.opcode == "QUANTIZE" and root[source.index] in model.inputs and target.dtype == "int8":
        if source.dtype != "float32" and not _offset_only(source, target):
            raise _border_error(model, operator, f"requantises {source.dtype} to int8")
        _join(root, target.index, source.index)
    elif source.dtype == "int8":
        # A float operator that follows is refused because of its input's type.
        if target.dtype != "float32" and not _offset_only(target, source):
            raise _border_error(model, operator, f"requantises int8 to {target.dtype}")
        _join(root, source.index, target.index)
    else:
        raise _border_error(
            model, operator, f"goes from {source.dtype} to {target.dtype} inside the model{_maker(model, source)}"
        )
    return True


def _maker(model: TfliteModel, tensor: Tensor) -> str:
    """Names the operator that computed it in a type other than int8."""
    maker = next((op for op in model.operators if tensor.index in op.outputs), None)
    return "" if maker is None else f", after {model.describe(maker)}, which has no int8 form here"


def _join(root: dict[int, int], first: int, second: int) -> None:
    """Makes `second` another name of what `first` stands for."""
    keep, drop = root[first], root[second]
    for tensor, r in root.items():
        if r == drop:
            root[tensor] = keep


def _same_quantisation(a: Tensor, b: Tensor) -> bool:
    return b.dtype == a.dtype and bool(a.scale == b.scale) and a.zero_point == b.zero_point


def _offset_only(border: Tensor, inner: Tensor) -> bool:
    """Whether uint8 at the border is int8 inside plus 128."""
    return (
        border.dtype == "uint8"
        and border.scales.size == inner.scales.size == 1
        and bool(border.scale == inner.scale)
        and border.zero_point == inner.zero_point + 128
    )


def _border_error(model: TfliteModel, operator: Operator, what: str) -> KilotuneError:
    return KilotuneError(
        "unsupported_model",
        f"{model.describe(operator)} {what}",
        "quantise the whole model to int8; QUANTIZE and DEQUANTIZE are removed at its input and output only",
    )


def extent(tensor: Tensor) -> Extents:
    """(height, width, channels); leading dimensions are one, so that a batch is part of the height. Operators that work
    on each sample of a batch refuse one of more than 1."""
    shape = tensor.shape[1:] if tensor.shape[:1] == (1,) and len(tensor.shape) > 1 else tensor.shape
    padded = (1,) * (3 - len(shape)) + shape
    return math.prod(padded[:-2]), padded[-2], padded[-1]
