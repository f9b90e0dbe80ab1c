"""Turns the operators of a `.tflite` into the ops of an image; strips float borders and elides reshapes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kilotune import operators
from kilotune.errors import KilotuneError
from kilotune.operators import arrange
from kilotune.operators.base import Activation, ImageOp, Lowering
from kilotune.tflite.model import Operator, Tensor, TfliteModel

MAX_EXTENT = 65535
# A malicious file may use one constant in thousands of operators. These bound the work that it can cause.
MAX_OPS = 256
MAX_PARAMETERS = 1 << 25


@dataclass(frozen=True, slots=True)
class Border:
    """How the model's own input or output relates to the int8 tensor of the image."""

    name: str
    dtype: str  # of the .tflite: int8, uint8 or float32
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """Ops in execution order; ops and borders refer to `activations` by index."""

    activations: tuple[Activation, ...]
    ops: tuple[ImageOp, ...]
    input: int
    output: int
    input_border: Border
    output_border: Border

    def producer(self, activation: int) -> int:
        """Index of the op that writes `activation`, -1 for the model's input."""
        return next((i for i, op in enumerate(self.ops) if op.output == activation), -1)


def build(model: TfliteModel) -> Graph:
    """Lowers every operator of `model`. KilotuneError `unsupported_model` names the first that is not supported."""
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise KilotuneError(
            "unsupported_model",
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs",
            "models with one input and one output are supported",
        )
    shapes = _shape_arithmetic(model)
    extents = _extents(model, shapes)
    aliases, elided = _aliases(model, shapes, extents)
    activations = _Activations(model, aliases, extents)
    image_input = activations.index(model.inputs[0])
    ops = _lower(model, elided | shapes, activations, image_input)
    output = activations.index(model.outputs[0])
    if not ops or output == image_input or all(op.output != output for op in ops):
        raise KilotuneError(
            "unsupported_model",
            "no operator of the model computes its output from its input",
            "check that this is the right file",
        )
    return Graph(
        activations=tuple(activations.made),
        ops=tuple(ops),
        input=image_input,
        output=output,
        input_border=_border(model.tensors[model.inputs[0]]),
        output_border=_border(model.tensors[model.outputs[0]]),
    )


class _Activations:
    """The image's activations, each created when one of its tensors is first asked for."""

    def __init__(self, model: TfliteModel, aliases: dict[int, int], extents: dict[int, tuple[int, int, int]]) -> None:
        self._tensors, self._aliases, self._extents = model.tensors, aliases, extents
        self._known: dict[int, int] = {}
        self.made: list[Activation] = []

    def index(self, tensor: int) -> int:
        """Index of the activation that stands for `tensor`."""
        root = self._aliases[tensor]
        if root not in self._known:
            group = [self._tensors[i] for i, r in self._aliases.items() if r == root]
            self._known[root] = len(self.made)
            fixed = next((self._extents[t.index] for t in group if t.index in self._extents), None)
            self.made.append(_activation(self._tensors[root], group, fixed))
        return self._known[root]


def _lower(model: TfliteModel, skipped: frozenset[int], activations: _Activations, image_input: int) -> list[ImageOp]:
    """All operators but the skipped ones, in the file's order. Refuses an order that cannot run."""
    ready = {image_input}
    ops: list[ImageOp] = []
    for operator in model.operators:
        if operator.index in skipped:
            continue
        op = operators.lower(Lowering(model, operator, activations.index, activations.made))
        if not ready.issuperset(op.reads) or op.output in ready:
            raise KilotuneError(
                "bad_model",
                f"{model.describe(operator)} runs before its input is computed, or writes a tensor twice",
                "the file is damaged: convert the model again",
            )
        ready.add(op.output)
        ops.append(op)
        if len(ops) > MAX_OPS or sum(o.inputs * o.outputs for o in ops) > MAX_PARAMETERS:
            raise KilotuneError(
                "unsupported_model",
                f"the model has more than {MAX_OPS} operators or {MAX_PARAMETERS} weights",
                "a model for a microcontroller is far smaller: check that this is the right file",
            )
    return ops


def with_flat_output(graph: Graph) -> Graph:
    """The graph with a flat output, as losses need it: the last op's output, copied in place."""
    last, x = graph.ops[graph.producer(graph.output)], graph.activations[graph.output]
    if x.positions == 1 or x.elements > MAX_EXTENT or not last.has_backward:
        return graph
    flat = len(graph.activations)
    copy = arrange.Reshape(source=last.source, name=last.name, input=graph.output, output=flat, operator="RESHAPE")
    return replace(
        graph,
        activations=(*graph.activations, replace(x, height=1, width=1, channels=x.elements)),
        ops=(*graph.ops, copy),
        output=flat,
    )


def _border(tensor: Tensor) -> Border:
    return Border(tensor.name, tensor.dtype, tensor.shape)


def _shape_arithmetic(model: TfliteModel) -> frozenset[int]:
    """Operators that only compute the target shape of a RESHAPE (Keras emits them for an open batch size).

    They are not needed: the file's tensors have their shapes for a batch of 1.
    """
    wanted = {op.input(1) for op in model.operators if op.opcode == "RESHAPE"}
    others = set(model.outputs)
    found = set()
    for operator in reversed(model.operators):
        outputs = set(operator.outputs)
        integers = all(model.tensors[i].dtype in ("int32", "int64") for i in outputs)
        if outputs and outputs <= wanted - others and integers:
            found.add(operator.index)
            wanted |= set(operator.inputs)
        elif operator.opcode == "RESHAPE":
            others |= set(operator.inputs[:1])
        else:
            others |= set(operator.inputs)
    return frozenset(found)


def _extents(model: TfliteModel, skipped: frozenset[int]) -> dict[int, tuple[int, int, int]]:
    """(height, width, channels) of the int8 tensors whose shape matters to an operator."""
    found = {}
    for operator in model.operators:
        if operator.opcode in operators.TRANSPARENT or operator.index in skipped:
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
                found[i] = _extent(tensor)
    return found


def _aliases(
    model: TfliteModel, skipped: frozenset[int], extents: dict[int, tuple[int, int, int]]
) -> tuple[dict[int, int], frozenset[int]]:
    """Tensor -> the int8 tensor that stands for it in the image; and the operators that this makes unnecessary."""
    root = {t.index: t.index for t in model.tensors}
    inputs = set(model.inputs)
    elided = set()
    for operator in model.operators:
        if operator.opcode not in operators.TRANSPARENT or operator.index in skipped:
            continue
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
                continue  # two operators need the values in different shapes: this stays an op
            _join(root, source.index, target.index)
        elif operator.opcode == "QUANTIZE" and source.dtype == target.dtype == "int8":
            continue
        elif operator.opcode == "QUANTIZE" and root[source.index] in inputs and target.dtype == "int8":
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
        elided.add(operator.index)
    return root, frozenset(elided)


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


def _activation(root: Tensor, group: list[Tensor], fixed: tuple[int, int, int] | None = None) -> Activation:
    """The int8 tensor for `root`, in the shape that an operator asks for, else the flattest of its names' shapes."""
    if root.dtype != "int8" or root.scales.size != 1 or not -128 <= root.zero_point <= 127:
        raise KilotuneError(
            "unsupported_model",
            f"tensor {root.index} '{root.name}' is {root.dtype} with {root.scales.size} scales",
            "convert the model with full int8 quantisation (`kilotune quantize`)",
        )
    if root.constant:
        raise KilotuneError(
            "unsupported_model",
            f"tensor {root.index} '{root.name}' is a constant where an activation is expected",
            "constant inputs are not supported: fold them into a layer",
        )
    height, width, channels = fixed or min((_extent(t) for t in group), key=lambda e: e[0] * e[1])
    if not all(1 <= n <= MAX_EXTENT for n in (height, width, channels)):
        raise KilotuneError(
            "unsupported_model",
            f"tensor {root.index} '{root.name}' has shape {list(root.shape)}",
            f"each extent must be between 1 and {MAX_EXTENT}, the batch 1 and fixed",
        )
    return Activation(root.name, height, width, channels, root.scale, root.zero_point, root.index)


def _extent(tensor: Tensor) -> tuple[int, int, int]:
    """(height, width, channels) of a batch of 1."""
    shape = tensor.shape
    if len(shape) > 1 and shape[0] != 1:
        raise KilotuneError(
            "unsupported_model",
            f"tensor {tensor.index} '{tensor.name}' has shape {list(shape)}: a batch of {shape[0]}",
            "convert the model with batch size 1",
        )
    rest = shape[1:] if len(shape) > 1 else shape
    padded = (1,) * (3 - len(rest)) + rest
    if len(padded) != 3:
        raise KilotuneError(
            "unsupported_model",
            f"tensor {tensor.index} '{tensor.name}' has {len(shape)} dimensions",
            "up to four (batch, height, width, channels) are supported",
        )
    return padded[0], padded[1], padded[2]
