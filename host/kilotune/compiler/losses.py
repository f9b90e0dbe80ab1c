"""Chooses the loss of a model and plans its constants (SPEC 1.5)."""

from __future__ import annotations

from kilotune.compiler.graph import Graph
from kilotune.compiler.training_plan import LossPlan
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import LOSS_BITS, difference_factors
from kilotune.operators.softmax import Softmax
from kilotune.terms import Loss

MAX_CLASSES = 256
CROSS_ENTROPY_BITS = 24
DIFFERENT = "the model's inputs have different ones, and they are one input on the device"
ONE_SCALE = "make one input of them in the model, split inside, or choose another loss and ready inputs"


def choose_loss(graph: Graph, loss: Loss | None) -> Loss:
    """`loss`, or if that is None, what suits the model: classification for a final SOFTMAX, reconstruction for an
    output shaped like the input, else regression."""
    source, output = graph.activations[graph.input], graph.activations[graph.output]
    if loss is None:
        if isinstance(graph.ops[graph.producer(graph.output)], Softmax):
            return Loss.classification
        same = source.elements == output.elements and source.elements > 1 and not graph.scales_differ
        return Loss.reconstruction if same else Loss.regression
    if loss is Loss.reconstruction and graph.scales_differ:
        raise KilotuneError("bad_argument", f"reconstruction needs inputs of one scale: {DIFFERENT}", ONE_SCALE)
    if loss is Loss.reconstruction and source.elements != output.elements:
        raise KilotuneError(
            "bad_argument",
            f"reconstruction needs an output like the input, but {source.elements} values become {output.elements}",
            "use regression or classification",
        )
    return loss


def reason(loss: Loss, *, asked: Loss | None, own: Loss | None) -> str:
    """Why a model is trained with this loss: `asked` for it was this, and in its metadata is its `own`."""
    if asked is not None:
        return "asked for"
    if own is not None:
        return "the model's metadata says so"
    return {
        Loss.classification: "the model ends with SOFTMAX",
        Loss.reconstruction: "the output is as large as the input",
        Loss.regression: "the model does not end with SOFTMAX; if its outputs are scores of classes, give "
        "--loss classification",
    }[loss]


def plan_loss(graph: Graph, kind: Loss) -> tuple[LossPlan, int]:
    """The loss, and the op whose output it takes, where the backward pass begins."""
    tensor, beta = graph.output, 1.0
    last = graph.ops[graph.producer(tensor)]
    if kind is Loss.classification and isinstance(last, Softmax):
        tensor, beta = last.input, last.beta
    first_op = graph.producer(tensor)
    if first_op < 0 or not graph.ops[first_op].has_backward:
        raise KilotuneError(
            "unsupported_model",
            f"training cannot start at the output of {graph.ops[max(first_op, 0)].kind}",
            "end the model with a layer that gradients can pass; a final SOFTMAX goes with classification",
        )
    y, x = graph.activations[tensor], graph.activations[graph.input]
    if y.positions != 1:
        raise KilotuneError(
            "unsupported_model",
            f"the loss needs a vector, but '{y.name}' has {y.height} x {y.width} positions",
            "end the model with a flat output",
        )
    if kind is Loss.classification:
        if not 2 <= y.channels <= MAX_CLASSES:
            raise KilotuneError(
                "unsupported_model",
                f"the model has {y.channels} classes",
                f"2 to {MAX_CLASSES} can be trained",
            )
        scale = float(y.scale) * beta
        return LossPlan(kind, tensor, 0, 0, beta * 2.0**-CROSS_ENTROPY_BITS, y.channels, scale), first_op
    target_scale = float(x.scale) if kind is Loss.reconstruction else float(y.scale)
    largest = max(float(y.scale), target_scale)
    a, b = difference_factors(float(y.scale), target_scale)
    if min(a, b) == 0:
        raise KilotuneError(
            "unsupported_model",
            f"input and output have scales of {target_scale:.3g} and {float(y.scale):.3g}",
            "a reconstruction has its input's range: quantise the model with representative data",
        )
    unit = 2.0 / y.elements * largest / 2**LOSS_BITS
    return LossPlan(kind, tensor, a, b, unit, 0, 0.0), first_op
