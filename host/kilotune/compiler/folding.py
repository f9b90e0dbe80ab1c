"""What of a model can be computed before it runs: shapes of an open batch, float functions between int8 tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kilotune.operators import functions
from kilotune.tflite.model import Operator, Tensor, TfliteModel

MAX_VALUES = 4096  # of a constant that is computed
MAX_STEPS = 256  # of a function that is computed: a part that is used twice counts twice
Values = npt.NDArray[Any]


def folded(model: TfliteModel) -> TfliteModel:
    """The model without operators whose results are known: integers made of constants and shapes; float functions of
    one int8 tensor between DEQUANTIZE and QUANTIZE, each as one operator; an ARG_MAX at the end."""
    return _without_maximum(_with_functions(_with_integers(model)))


# --- integers ---------------------------------------------------------------------------------------


def _with_integers(model: TfliteModel) -> TfliteModel:
    known: dict[int, Values] = {}
    left = []
    for operator in model.operators:
        made = _integers(model, operator, known)
        if made is None:
            left.append(operator)
        else:
            known[operator.outputs[0]] = made
    tensors = tuple(
        replace(t, data=np.frombuffer(known[t.index].astype(f"<{_code(t.dtype)}").tobytes(), np.uint8))
        if t.index in known
        else t
        for t in model.tensors
    )
    return replace(model, tensors=tensors, operators=tuple(left))


def _code(dtype: str) -> str:
    return "i4" if dtype == "int32" else "i8"


def _integers(model: TfliteModel, operator: Operator, known: Mapping[int, Values]) -> Values | None:
    """The operator's integers, if they are known."""
    if len(operator.outputs) != 1 or min(operator.inputs, default=-1) < 0:
        return None
    output = model.tensors[operator.outputs[0]]
    if output.dtype not in ("int32", "int64") or output.elements > MAX_VALUES or output.index in model.outputs:
        return None
    if operator.opcode == "SHAPE":
        return np.array(model.tensors[operator.inputs[0]].shape, np.int64)
    if operator.opcode not in _INTEGERS:
        return None
    inputs = []
    for i in operator.inputs:
        tensor = model.tensors[i]
        if i not in known and not (tensor.constant and tensor.dtype in ("int32", "int64")):
            return None
        inputs.append(known[i] if i in known else tensor.values().astype(np.int64))
    try:
        if operator.opcode in _COUNTS and _COUNTS[operator.opcode](operator, inputs) != output.elements:
            return None
        made: Values = np.asarray(_INTEGERS[operator.opcode](operator, inputs), np.int64).reshape(output.shape)
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        return None  # left to whoever reads it, who says what is wrong
    return made


def _slice(operator: Operator, inputs: list[Values]) -> Values:
    values, begin, end, strides = inputs
    begin_mask, end_mask, ellipsis, new_axis, shrink = operator.options.masks
    if ellipsis or new_axis:
        raise ValueError
    at: list[slice | int] = []
    for axis, (first, last, stride) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
        if shrink >> axis & 1:
            at.append(int(first))
        else:
            at.append(slice(None if begin_mask >> axis & 1 else first, None if end_mask >> axis & 1 else last, stride))
    made: Values = values[tuple(at)]
    return made


_BROADCAST = ("ADD", "FLOOR_DIV", "MAXIMUM", "MINIMUM", "MUL", "SUB")
_INTEGERS: dict[str, Callable[[Operator, list[Values]], Any]] = {
    "ADD": lambda _, v: v[0] + v[1],
    "CAST": lambda _, v: v[0],
    "CONCATENATION": lambda o, v: np.concatenate(v, o.options.axis),
    "EXPAND_DIMS": lambda _, v: v[0],
    "FILL": lambda _, v: np.full(v[0].tolist(), v[1]),
    "FLOOR_DIV": lambda _, v: v[0] // v[1],
    "GATHER": lambda o, v: np.take(v[0], v[1], o.options.axis),
    "MAXIMUM": lambda _, v: np.maximum(v[0], v[1]),
    "MINIMUM": lambda _, v: np.minimum(v[0], v[1]),
    "MUL": lambda _, v: v[0] * v[1],
    "PACK": lambda o, v: np.stack(v, o.options.axis),
    "RANGE": lambda _, v: np.arange(int(v[0]), int(v[1]), int(v[2])),
    "REDUCE_PROD": lambda _, v: np.prod(v[0], axis=tuple(v[1].reshape(-1).tolist())),
    "RESHAPE": lambda _, v: v[0],
    "SQUEEZE": lambda _, v: v[0],
    "STRIDED_SLICE": _slice,
    "SUB": lambda _, v: v[0] - v[1],
}

_WHOLE = {name: lambda _, v: math.prod(np.broadcast_shapes(v[0].shape, v[1].shape)) for name in _BROADCAST}
# How many values an operator makes, where that can be far more than it reads.
_COUNTS: dict[str, Callable[[Operator, list[Values]], int]] = {
    "FILL": lambda _, v: math.prod(v[0].reshape(-1).tolist()),
    "GATHER": lambda o, v: v[0].size // v[0].shape[o.options.axis] * v[1].size,
    "RANGE": lambda _, v: len(range(int(v[0]), int(v[1]), int(v[2]))),
    **_WHOLE,
}


# --- functions in float -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Expression:
    """A float tensor as a function of the int8 tensor `source` (-1: a number), made by `operators`."""

    source: int
    function: Callable[[functions.Floats], functions.Floats]
    operators: frozenset[int]
    steps: int = 1  # of computing it


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "ADD": np.add,
    "DIV": np.divide,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
    "MUL": np.multiply,
    "POW": np.power,
    "SQUARED_DIFFERENCE": lambda a, b: (a - b) * (a - b),
    "SUB": np.subtract,
}
_FUSED: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda x: x,
    "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6),
    "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1),
}


def _with_functions(model: TfliteModel) -> TfliteModel:
    makers = {i: op for op in model.operators for i in op.outputs}
    expressions = _expressions(model)
    changed: dict[int, Operator] = {}
    gone: set[int] = set()
    for operator in model.operators:
        if operator.opcode != "QUANTIZE" or len(operator.outputs) != 1 or operator.input(0) < 0:
            continue
        maker = makers.get(operator.inputs[0])
        if maker is None or maker.opcode == "DEQUANTIZE" or model.tensors[operator.outputs[0]].dtype != "int8":
            continue
        found = expressions.get(operator.inputs[0])
        if found is None or found.source < 0:
            continue
        changed[operator.index] = replace(
            operator,
            opcode=maker.opcode,
            inputs=(found.source,),
            options=replace(operator.options, function=found.function),
        )
        gone |= found.operators
    kept = [changed.get(op.index, op) for op in model.operators]
    return replace(model, operators=tuple(_without_unused(model, kept, gone)))


def _without_unused(model: TfliteModel, kept: list[Operator], gone: set[int]) -> list[Operator]:
    """Drops those of `gone` whose results nobody reads any more, the last ones first."""
    used = set(model.outputs)
    left = []
    for operator in reversed(kept):
        if operator.index in gone and used.isdisjoint(operator.outputs):
            continue
        used.update(operator.inputs)
        left.append(operator)
    return left[::-1]


def _expressions(model: TfliteModel) -> dict[int, _Expression]:
    """The float tensors that are functions of one int8 tensor, value by value; each is looked at once, in the file's
    order."""
    known: dict[int, _Expression] = {}
    for operator in model.operators:
        if len(operator.outputs) == 1 and model.tensors[operator.outputs[0]].dtype == "float32":
            made = _expression(model, operator, known)
            if made is not None:
                known[operator.outputs[0]] = made
    return known


def _expression(model: TfliteModel, operator: Operator, known: Mapping[int, _Expression]) -> _Expression | None:
    """What the operator's output is, by what is known of its inputs."""
    if not operator.inputs or min(operator.inputs) < 0:
        return None
    inputs = [model.tensors[i] for i in operator.inputs]
    if operator.opcode == "DEQUANTIZE":
        source = inputs[0]
        if source.dtype != "int8" or source.constant or source.scales.size != 1:
            return None
        return _Expression(source.index, lambda x: x, frozenset((operator.index,)))
    parts = [_number(t) or known.get(t.index) for t in inputs]
    if max(t.elements for t in inputs) != model.tensors[operator.outputs[0]].elements:
        return None
    given = [p for p in parts if p is not None]
    return _applied(operator, given) if len(given) == len(parts) else None


def _number(tensor: Tensor) -> _Expression | None:
    if not tensor.constant or tensor.dtype != "float32" or tensor.elements != 1:
        return None
    number = np.float32(tensor.values().reshape(-1)[0])
    return _Expression(-1, lambda x: np.full_like(x, number), frozenset())


def _applied(operator: Operator, parts: list[_Expression]) -> _Expression | None:
    sources = {p.source for p in parts} - {-1}
    fused = _FUSED.get(operator.options.activation)
    steps = 1 + sum(p.steps for p in parts)
    if len(sources) > 1 or fused is None or steps > MAX_STEPS:
        return None
    source = sources.pop() if sources else -1
    gone = frozenset((operator.index,)).union(*(p.operators for p in parts))
    if operator.opcode in functions.SMOOTH and len(parts) == 1:
        name = "GELU BY TANH" if operator.opcode == "GELU" and operator.options.approximate else operator.opcode
        unary, inner = functions.SMOOTH[name], parts[0].function
        return _Expression(source, lambda x: unary(inner(x)), gone, steps)
    if operator.opcode in _BINARY and len(parts) == 2:
        binary, first, second = _BINARY[operator.opcode], parts[0].function, parts[1].function
        return _Expression(source, lambda x: fused(binary(first(x), second(x))), gone, steps)
    return None


# --- the end ----------------------------------------------------------------------------------------


def _without_maximum(model: TfliteModel) -> TfliteModel:
    """A model that ends with the number of the largest score gives the scores instead."""
    ends = [op for op in model.operators if op.opcode == "ARG_MAX" and set(op.outputs) <= set(model.outputs)]
    if len(model.outputs) != 1 or len(ends) != 1 or ends[0].input(0) < 0:
        return model
    scores = model.tensors[ends[0].inputs[0]]
    if scores.dtype != "int8" or scores.elements != math.prod(scores.shape[-1:]):
        return model
    kept = tuple(op for op in model.operators if op is not ends[0])
    return replace(model, operators=kept, outputs=(scores.index,))
