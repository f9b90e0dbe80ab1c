"""Turns the operators of a `.tflite` into the ops of an image; strips float borders and elides reshapes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kilotune import operators
from kilotune.compiler.aliases import aliases_of, extent, extents_of_tensors
from kilotune.compiler.blockers import Blockers, require_int8
from kilotune.compiler.folding import folded
from kilotune.compiler.inputs import joined
from kilotune.errors import KilotuneError
from kilotune.operators import arrange
from kilotune.operators.base import MAX_EXTENT, Activation, Extents, ImageOp, Lowering
from kilotune.tflite.model import Tensor, TfliteModel

# A malicious file may use one constant in thousands of operators. These bound the work that it can cause.
MAX_OPS = 1024
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
    scales_differ: bool = False  # between the inputs of the file that are one of the image

    def producer(self, activation: int) -> int:
        """Index of the op that writes `activation`, -1 for the model's input."""
        return next((i for i, op in enumerate(self.ops) if op.output == activation), -1)


def build(model: TfliteModel) -> Graph:
    """Lowers every operator of `model`. KilotuneError `unsupported_model` names all that is not supported."""
    require_int8(model)
    model, blockers = folded(model), Blockers()
    with blockers.collecting():
        _check_borders(model)
    shapes = _shape_arithmetic(model)
    extents = extents_of_tensors(model, shapes)
    aliases, elided = aliases_of(model, shapes, extents, blockers)
    activations = _Activations(model, aliases, extents)
    image_input, first = -1, list[ImageOp]()
    with blockers.collecting():
        image_input, first = joined([activations.index(i) for i in model.inputs], activations.made)
    ops = _lower(model, elided | shapes, activations, blockers, {image_input, *(op.output for op in first)})
    blockers.require_none()
    ops, output = first + ops, activations.index(model.outputs[0])
    if not ops or output == image_input or all(op.output != output for op in ops):
        raise KilotuneError(
            "unsupported_model",
            "no operator of the model computes its output from its input",
            "check that this is the right file",
        )
    inputs = [activations.made[activations.index(i)] for i in model.inputs]
    return Graph(
        activations=tuple(activations.made),
        ops=tuple(ops),
        input=image_input,
        output=output,
        input_border=_border_of([model.tensors[i] for i in model.inputs]),
        output_border=_border(model.tensors[model.outputs[0]]),
        scales_differ=len({(float(x.scale), x.zero_point) for x in inputs}) > 1,
    )


def _check_borders(model: TfliteModel) -> None:
    if not model.inputs or len(model.outputs) != 1:
        raise KilotuneError(
            "unsupported_model",
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs",
            "convert a model of the output that is wanted: keras.Model(model.inputs, model.outputs[0])",
        )
    for source in (model.tensors[i] for i in model.inputs):
        if len(source.shape) > 1 and source.shape[0] != 1:
            raise KilotuneError(
                "unsupported_model",
                f"the input '{source.short_name}' has shape {list(source.shape)}: a batch of {source.shape[0]}",
                "convert the model with batch size 1",
            )


class _Activations:
    """The image's activations, each created when one of its tensors is first asked for."""

    def __init__(self, model: TfliteModel, aliases: dict[int, int], extents: dict[int, Extents]) -> None:
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


def _lower(
    model: TfliteModel, skipped: frozenset[int], activations: _Activations, blockers: Blockers, ready: set[int]
) -> list[ImageOp]:
    """All operators but the skipped ones, in the file's order; `ready`: what is there before. Refuses an order that
    cannot run."""
    ops: list[ImageOp] = []
    for operator in model.operators:
        if operator.index in skipped:
            continue
        made: list[ImageOp] = []
        with blockers.collecting():
            made = operators.lower(Lowering(model, operator, activations.index, activations.made))
        if blockers:
            continue  # only to find what else is not supported
        for op in made:
            if not ready.issuperset(op.reads) or op.output in ready:
                raise KilotuneError(
                    "bad_model",
                    f"{model.describe(operator)} runs before its input is computed, or writes a tensor twice",
                    "the file is damaged: convert the model again",
                )
            ready.add(op.output)
        ops += made
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


def _border_of(inputs: list[Tensor]) -> Border:
    if len(inputs) == 1:
        return _border(inputs[0])
    return Border(", ".join(t.short_name for t in inputs), inputs[0].dtype, (1, sum(t.elements for t in inputs)))


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


def _activation(root: Tensor, group: list[Tensor], fixed: Extents | None = None) -> Activation:
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
    height, width, channels = fixed or min((extent(t) for t in group), key=lambda e: e[0] * e[1])
    if not all(1 <= n <= MAX_EXTENT for n in (height, width, channels)):
        raise KilotuneError(
            "unsupported_model",
            f"tensor {root.index} '{root.name}' has shape {list(root.shape)}",
            f"each extent must be between 1 and {MAX_EXTENT}, the batch 1 and fixed",
        )
    return Activation(root.name, height, width, channels, root.scale, root.zero_point, root.index)
