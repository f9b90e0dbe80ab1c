"""Decides what is trained, how gradients flow and where parameters are stored; puts the plan together."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from kilotune.compiler import arena
from kilotune.compiler.arena import Buffer
from kilotune.compiler.graph import Graph
from kilotune.compiler.lifetimes import lifetimes
from kilotune.compiler.losses import choose_loss, plan_loss
from kilotune.compiler.options import CompileOptions, LayerChoice
from kilotune.compiler.schedule import Schedule, choose_dropped, schedule
from kilotune.compiler.selection import choose, reached
from kilotune.compiler.training_plan import GradientPlan, Plan, TrainingPlan
from kilotune.errors import KilotuneError
from kilotune.image.layout import NONE
from kilotune.operators import adapted
from kilotune.operators.base import OpPlan
from kilotune.operators.weighted import MIN_FRACTION_BITS
from kilotune.terms import Loss, Method

UNIT_EXPONENT_MAX = 110  # float32 ends at 126
_Alive = tuple[Schedule, list[Buffer]]  # the order of all steps, and which buffers are alive in each


def plan(graph: Graph, options: CompileOptions, *, calibration_bytes: int) -> Plan:
    """Plans training and memory of `graph`. The adapter begins with `calibration_bytes`."""
    if calibration_bytes % 4 != 0:
        raise ValueError("calibration bytes must be a multiple of 4")
    loss = choose_loss(graph, options.loss)
    ops = [OpPlan() for _ in graph.ops]
    gradients: list[GradientPlan | None] = [None] * len(graph.activations)
    training = None
    if options.method is not Method.none:
        training = _plan_training(graph, options, loss, ops, gradients)
    adapter_bytes = _lay_out_parameters(graph, ops, calibration_bytes, state=False)
    state_bytes = 0
    if options.optimiser_state or options.adam:
        state_bytes = _lay_out_parameters(graph, ops, 0, state=True, bias_bytes=2 if options.adam else 4)

    def alive(dropped: frozenset[int] = frozenset(), *, overwrite: bool = True) -> _Alive:
        tensor = training.loss.tensor if training is not None else None
        keep_input = loss is Loss.reconstruction
        order = schedule(graph, ops, loss_tensor=tensor, keep_input=keep_input, dropped=dropped)
        return order, lifetimes(graph, ops, gradients, training, order, overwrite=overwrite)

    order, placed = _smallest(graph, ops, alive, recompute=options.recompute)
    for i in range(len(ops)):
        ops[i] = replace(
            ops[i],
            scratch=placed.offsets.get(f"scratch {i}", NONE),
            backward_scratch=placed.offsets.get(f"backward scratch {i}", NONE),
        )
    return Plan(tuple(ops), tuple(gradients), training, placed, adapter_bytes, state_bytes, order.reruns)


def _plan_training(
    graph: Graph, options: CompileOptions, loss: Loss, ops: list[OpPlan], gradients: list[GradientPlan | None]
) -> TrainingPlan:
    """What is trained, and how its gradients flow; fills in `ops` and `gradients`."""
    loss_plan, first_op = plan_loss(graph, loss)
    chosen = choose(graph, first_op, options)
    if options.adam and any(choice.rank for choice in chosen.values()):
        raise KilotuneError("bad_argument", "Adam does not train low-rank updates", "use method channels, or momentum")
    training = TrainingPlan(options.method, loss_plan, first_op, min(chosen), options.adam)
    _choose_paths(graph, training, chosen, ops)
    _flow(graph, training, ops, gradients)
    return training


def _smallest(
    graph: Graph, ops: list[OpPlan], alive: Callable[..., _Alive], *, recompute: bool
) -> tuple[Schedule, arena.Arena]:
    """Tries a few orders of the whole pass and returns the one with the smallest arena. `alive` gives the order, and
    what is alive when, for a set of dropped activations, with or without outputs over inputs; it reads `ops`."""
    if not recompute:  # with it, the smallest arena is wanted
        _spend_on_triples(graph, ops, alive)
    tried = [alive()]
    apart = alive(overwrite=False)
    if apart != tried[0]:
        tried.append(apart)
    if recompute:
        tried.append(alive(choose_dropped(graph, ops, lambda dropped: arena.lower_bound(alive(dropped)[1]))))
    return min(((order, arena.plan(buffers)) for order, buffers in tried), key=lambda made: made[1].size)


def _spend_on_triples(graph: Graph, ops: list[OpPlan], alive: Callable[..., _Alive]) -> None:
    """Lets gradients pass in triples of rows wherever that makes the arena at most an eighth larger. What an op needs
    for that is alive in its backward step alone."""
    able = [i for i, op in enumerate(graph.ops) if op.fits_triples(graph.activations, ops[i])]
    if not able:
        return
    order, buffers = alive()
    used = arena.usage(buffers)
    limit = max(used.values()) * 9 // 8
    steps = list(used)
    for i in able:
        faster = replace(ops[i], in_triples=True)
        sizes = (graph.ops[i].backward_scratch_bytes(graph.activations, op) for op in (ops[i], faster))
        slow, fast = map(arena.rounded, sizes)
        step = steps[bisect_right(steps, order.backward[i]) - 1]  # where the usage changed last
        if not ops[i].gradient_unit or used[step] + fast - slow <= limit:
            ops[i] = faster


def _choose_paths(
    graph: Graph,
    training: TrainingPlan,
    chosen: dict[int, LayerChoice],
    ops: list[OpPlan],
) -> None:
    """Decides which ops take part in the backward pass, and to which of their inputs they pass gradients."""
    reachable = reached(graph, training.first_op)
    needed: set[int] = set()  # activations that depend on a trained op
    for i in range(training.first_op + 1):
        op = graph.ops[i]
        sends = tuple(source in needed for source in op.reads)
        if i not in reachable or not (i in chosen or any(sends)):
            continue
        needed.add(op.output)
        choice = chosen.get(i, LayerChoice())
        ops[i] = OpPlan(
            train_bias=choice.bias,
            train_weights=choice.weights,
            channels=choice.channels,
            rank=choice.rank,
            start=adapted.start_factors(choice.rank, op.inputs, i) if choice.rank else b"",
            sends=sends,
            records_mask=op.clamps,
        )


def _flow(graph: Graph, training: TrainingPlan, ops: list[OpPlan], gradients: list[GradientPlan | None]) -> None:
    """Sets units, mantissa widths and places of the gradients, from the loss down to the first trained op."""
    units = {training.loss.tensor: training.loss.unit}
    places = {training.loss.tensor: training.loss.tensor}
    for i in range(training.first_op, training.last_op - 1, -1):
        op = graph.ops[i]
        if op.output not in units or not (ops[i].trained or ops[i].to_input):
            continue
        unit = units[op.output]
        adds, factors, in_place = [], [], False
        for k, source in enumerate(op.reads):
            sent = unit * op.gradient_gains[k]
            if not ops[i].sends[k]:
                adds.append(False)
                factors.append(1.0)
                continue
            adds.append(source in units)
            factors.append(sent / units.get(source, _in_range(sent)))
            if source not in units:
                # A partly trained op needs its output's gradient once more, for its weights.
                alone = k == 0 and source not in op.reads[1:] and not ops[i].adapted
                shares = alone and op.can_share(graph.activations)
                places[source] = places[op.output] if shares else source
                in_place = in_place or shares
            units.setdefault(source, _in_range(sent))
        fraction = op.fraction_bits() if ops[i].trained else MIN_FRACTION_BITS
        ops[i] = replace(
            ops[i],
            adds=tuple(adds),
            factors=tuple(factors),
            in_place=in_place,
            gradient_unit=unit,
            fraction_bits=fraction,
        )
        bits = op.mantissa_bits(ops[i])
        if bits < 1:
            raise KilotuneError(
                "unsupported_model",
                f"gradients of operator {op.source} {op.kind} ('{op.name}') overflow: too many outputs",
                "train fewer last layers, or use method head",
            )
        gradients[op.output] = GradientPlan(
            bits, unit, ops[i].records_mask and i != training.first_op, places[op.output]
        )


def _in_range(unit: float) -> float:
    """`unit`, scaled towards 1 by a power of two if many layers have made it too small for float32."""
    exponent = math.frexp(unit)[1]
    return unit if abs(exponent) <= UNIT_EXPONENT_MAX else math.ldexp(unit, -exponent)


def _lay_out_parameters(graph: Graph, ops: list[OpPlan], start: int, *, state: bool, bias_bytes: int = 4) -> int:
    """Lays out each op's int32 biases, then its int16 weights, in op order. Returns the end, a multiple of 4."""
    offset = start
    for i, op in enumerate(graph.ops):
        bias = weight = NONE
        if ops[i].train_bias:
            bias = offset
            offset += -(-bias_bytes * op.outputs // 4) * 4
        if ops[i].train_weights:
            weight = offset
            offset += -(-2 * adapted.parameter_count(ops[i], op.outputs, op.inputs) // 4) * 4
        if state:
            ops[i] = replace(ops[i], bias_state=bias, weight_state=weight)
        else:
            ops[i] = replace(ops[i], bias_param=bias, weight_param=weight)
    return offset
