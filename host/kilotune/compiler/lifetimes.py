"""When every buffer of the arena is alive, forward and backward together."""

from __future__ import annotations

from kilotune.compiler.arena import Buffer
from kilotune.compiler.graph import Graph
from kilotune.compiler.schedule import Schedule
from kilotune.compiler.training_plan import GradientPlan, TrainingPlan
from kilotune.image.memory import Piece
from kilotune.operators.base import Activation, OpPlan
from kilotune.terms import Loss


def gradient_bytes(activation: Activation, *, wide: bool) -> int:
    """Exponents, then mantissas. `wide`: with room for int32 values of one position while an operator fills it
    (SPEC 1.2)."""
    head = 2 * (activation.positions + activation.positions % 2)
    return head + activation.elements * (4 if wide and activation.positions == 1 else 2)


def mask_bytes(activation: Activation) -> int:
    return activation.positions * ((activation.channels + 7) // 8)


def lifetimes(
    graph: Graph,
    ops: list[OpPlan],
    gradients: list[GradientPlan | None],
    training: TrainingPlan | None,
    order: Schedule,
    *,
    overwrite: bool = False,
) -> list[Buffer]:
    """Every buffer of the arena, in the steps of `order`. `overwrite`: outputs are written over inputs that are
    no longer needed, where the op supports that."""
    end = len(graph.ops)
    loss_read = end if training is None else order.data[training.loss.tensor][0][1]
    overlaid = _overlaid_output(graph, ops, gradients, training, loss_read)
    buffers = _activations(graph, ops, order, overlaid, overwrite=overwrite)
    for i, op in enumerate(graph.ops):
        scratch = op.scratch_bytes(graph.activations, ops[i])
        if scratch:
            buffers.append(Buffer.of(f"scratch {i}", scratch, i, i, ((s, s) for s in order.again[i])))
        scratch = op.backward_scratch_bytes(graph.activations, ops[i]) if ops[i].gradient_unit else 0
        if scratch:
            buffers.append(Buffer.of(f"backward scratch {i}", scratch, order.backward[i], order.backward[i]))
    if training is None:
        return buffers
    # A gradient is written by the loss or by the ops that read the activation, each of which masks what it
    # writes, and read by the backward of the op that makes the activation.
    shared: dict[int, Buffer] = {}
    for i, op in enumerate(graph.ops):
        gradient = gradients[op.output]
        if gradient is None:
            continue
        writers = [
            order.backward[j]
            for j, user in enumerate(graph.ops)
            if any(sent and source == op.output for source, sent in zip(user.reads, ops[j].sends, strict=False))
        ]
        if op.output == training.loss.tensor:
            writers.append(end)
        activation = graph.activations[op.output]
        if op.output == overlaid:
            buffers.append(_over_output(activation, order.data[overlaid][0][0], end, order.backward[i], overlaid))
            continue
        size, first, reader = gradient_bytes(activation, wide=True), min(writers), order.backward[i]
        known = shared.get(gradient.place)
        if known is not None:
            size, first, reader = max(size, known.size), min(first, known.first), max(reader, known.last)
        shared[gradient.place] = Buffer.of(f"gradient {gradient.place}", size, first, reader)
        if gradient.masked:
            buffers.append(Buffer.of(f"mask {op.output}", mask_bytes(activation), i, max(writers)))
    return buffers + list(shared.values())


def _activations(
    graph: Graph, ops: list[OpPlan], order: Schedule, overlaid: int | None, *, overwrite: bool
) -> list[Buffer]:
    """Buffers of the activations' values, except the one that its gradient overlays."""
    held = {
        i: Buffer.of(f"data {i}", graph.activations[i].elements, *spans[0], spans[1:])
        for i, spans in sorted(order.data.items())
        if i != overlaid
    }
    for i, op in enumerate(graph.ops if overwrite else ()):
        if op.output not in held or len(order.data[op.output]) > 1 or ops[i].train_weights:
            continue
        for source, behind in op.overwrites(graph.activations):
            spans = order.data[source]
            if source in held and len(spans) == 1 and spans[0][1] == i:
                held[op.output] = held[op.output].over(held.pop(source), behind)
                break
    return list(held.values())


def _overlaid_output(
    graph: Graph,
    ops: list[OpPlan],
    gradients: list[GradientPlan | None],
    training: TrainingPlan | None,
    last: int,
) -> int | None:
    """The loss's tensor, where the gradient of a squared error can be written over it."""
    if training is None or training.loss.kind is Loss.classification or last > len(graph.ops):
        return None
    first_op, tensor = training.first_op, training.loss.tensor
    if any(g is not None and (g.place == tensor) != (i == tensor) for i, g in enumerate(gradients)):
        return None  # it shares its memory with another gradient
    return None if graph.ops[first_op].keeps_gradient(ops[first_op]) else training.loss.tensor


def _over_output(activation: Activation, made: int, loss_step: int, last: int, index: int) -> Buffer:
    """Gradient of the loss, with the output at its end: mantissa i is written after output i was read, and ends
    before output i + 1."""
    start = -(-(4 + activation.elements) // 4) * 4
    size = max(gradient_bytes(activation, wide=False), start + activation.elements)
    gradient = Piece(f"gradient {index}", 0, size, loss_step, last)
    return Buffer((gradient, Piece(f"data {index}", start, size - start, made, loss_step)))
