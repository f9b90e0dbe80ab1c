"""Decides what is trained, how gradients flow and where parameters lie; puts the plan together."""

from __future__ import annotations

import math
from dataclasses import replace

from kilotune import arena
from kilotune.errors import KilotuneError
from kilotune.graph import Graph
from kilotune.lifetimes import lifetimes
from kilotune.losses import choose_loss, plan_loss
from kilotune.operators.base import NONE, ImageOp, OpPlan
from kilotune.operators.dense import MIN_FRACTION_BITS
from kilotune.plan import METHODS, GradientPlan, Plan, TrainingPlan

UNIT_EXPONENT_MAX = 110  # float32 ends at 126


def plan(
    graph: Graph,
    *,
    method: str,
    last_layers: int | None,
    loss: str,
    optimiser_state: bool,
    calibration_bytes: int,
) -> Plan:
    """Plans training and memory of `graph`. `calibration_bytes` lead the adapter."""
    if method not in METHODS:
        raise KilotuneError(
            "bad_argument", f"there is no method {method!r}", f"use one of {', '.join(METHODS)}"
        )
    if calibration_bytes % 4 != 0:
        raise ValueError("calibration bytes must be a multiple of 4")
    loss_kind = choose_loss(graph, loss)
    ops = [OpPlan() for _ in graph.ops]
    gradients: list[GradientPlan | None] = [None] * len(graph.activations)
    training = None
    if method != "none":
        loss_plan, first_op = plan_loss(graph, loss_kind)
        trained_bias, trained_weights = _choose_trained(graph, first_op, method, last_layers)
        last_op = min(trained_bias | trained_weights)
        training = TrainingPlan(method, loss_plan, first_op, last_op)
        _choose_paths(graph, training, trained_bias, trained_weights, ops)
        _flow(graph, training, ops, gradients)
    adapter_bytes = _lay_out_parameters(graph, ops, calibration_bytes, "bias_param", "weight_param")
    state_bytes = _lay_out_parameters(graph, ops, 0, "bias_state", "weight_state") if optimiser_state else 0
    buffers = lifetimes(graph, ops, gradients, training, keep_input=loss_kind == "reconstruction")
    placed = arena.plan(buffers)
    for i in range(len(ops)):
        ops[i] = replace(
            ops[i],
            scratch=placed.offsets.get(f"scratch {i}", NONE),
            backward_scratch=placed.offsets.get(f"backward scratch {i}", NONE),
        )
    return Plan(tuple(ops), tuple(gradients), training, placed, adapter_bytes, state_bytes)


def reached(graph: Graph, first_op: int) -> frozenset[int]:
    """Ops whose output the loss's gradient reaches, through ops that have a backward."""
    wanted = {graph.ops[first_op].output}
    found = set()
    for i in range(first_op, -1, -1):
        op = graph.ops[i]
        if op.output in wanted and op.has_backward:
            found.add(i)
            wanted.update(op.reads)
    return frozenset(found)


def _choose_trained(
    graph: Graph, first_op: int, method: str, last_layers: int | None
) -> tuple[frozenset[int], frozenset[int]]:
    """Indices of ops whose biases, and whose weights, are trained."""
    reachable = reached(graph, first_op)
    layers = [i for i in range(first_op + 1) if graph.ops[i].outputs > 0 and i in reachable]
    if not layers:
        raise KilotuneError(
            "unsupported_model",
            "the model has no layer with a bias that gradients reach",
            "there is nothing to train",
        )
    head = frozenset({layers[-1]})
    if method != "bias" and not graph.ops[layers[-1]].trains_weights:
        last = graph.ops[layers[-1]]
        raise KilotuneError(
            "unsupported_model",
            f"the weights of the last layer, operator {last.source} {last.kind} ('{last.name}'), cannot be "
            "trained",
            "use method bias, or end the model with a dense layer",
        )
    if last_layers is not None and method == "head":
        raise KilotuneError(
            "bad_argument", "the head is one layer", "leave last_layers out, or use method bias"
        )
    if last_layers is not None and not 1 <= last_layers <= len(layers):
        raise KilotuneError(
            "bad_argument",
            f"last_layers is {last_layers}, but the model has {len(layers)} layers with biases "
            f"that gradients reach: {', '.join(graph.ops[i].name for i in layers)}",
            f"give a number from 1 to {len(layers)}",
        )
    biases = frozenset(layers if last_layers is None else layers[-last_layers:])
    if method == "bias":
        chosen = biases, frozenset[int]()
    elif method == "head":
        chosen = head, head
    else:
        chosen = biases | head, head
    refuse_doubly_trained(graph, *chosen)
    return chosen


def refuse_doubly_trained(graph: Graph, biases: frozenset[int], weights: frozenset[int]) -> None:
    """A tensor that two ops train would need two values in the merged model."""
    owners: dict[tuple[str, int], ImageOp] = {}
    for index in sorted(biases | weights):
        op = graph.ops[index]
        weight_tensor, bias_tensor = op.parameters
        trained = (("bias", bias_tensor, index in biases), ("weights", weight_tensor, index in weights))
        for key in ((what, tensor) for what, tensor, used in trained if used and tensor >= 0):
            if key in owners:
                raise shared_error(key[0], key[1], owners[key].source, op.source)
            owners[key] = op


def shared_error(what: str, tensor: int, first: int, second: int) -> KilotuneError:
    return KilotuneError(
        "shared_tensor",
        f"operators {first} and {second} share {what} tensor {tensor} (one layer used twice), and both would "
        "train it",
        "train the last layers only (fewer last_layers, or method head), or use separate layers in the model",
    )


def _choose_paths(
    graph: Graph,
    training: TrainingPlan,
    biases: frozenset[int],
    weights: frozenset[int],
    ops: list[OpPlan],
) -> None:
    """Which ops take part in the backward pass, and to which of their inputs they pass gradients on."""
    reachable = reached(graph, training.first_op)
    needed: set[int] = set()  # activations with a trained op in front of them
    for i in range(training.first_op + 1):
        op = graph.ops[i]
        sends = tuple(source in needed for source in op.reads)
        if i not in reachable or not (i in biases | weights or any(sends)):
            continue
        needed.add(op.output)
        ops[i] = OpPlan(
            train_bias=i in biases, train_weights=i in weights, sends=sends, records_mask=op.clamps
        )


def _flow(
    graph: Graph, training: TrainingPlan, ops: list[OpPlan], gradients: list[GradientPlan | None]
) -> None:
    """Units, mantissa widths and places of the gradients, from the loss down to the first trained op."""
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
                shares = k == 0 and source not in op.reads[1:] and op.can_share(graph.activations)
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
    """`unit`, by a power of two nearer to 1 where many layers have made it tiny: it is kept as float32."""
    exponent = math.frexp(unit)[1]
    return unit if abs(exponent) <= UNIT_EXPONENT_MAX else math.ldexp(unit, -exponent)


def _lay_out_parameters(
    graph: Graph, ops: list[OpPlan], start: int, bias_field: str, weight_field: str
) -> int:
    """Bias values i32 in op order, then head weights i16; returns the end, a multiple of 4."""
    offset = start
    for i, op in enumerate(graph.ops):
        if ops[i].train_bias:
            ops[i] = _with_offset(ops[i], bias_field, offset)
            offset += 4 * op.outputs
    for i, op in enumerate(graph.ops):
        if ops[i].train_weights:
            ops[i] = _with_offset(ops[i], weight_field, offset)
            offset += -(-2 * op.outputs * op.inputs // 4) * 4
    return offset


def _with_offset(op: OpPlan, field: str, offset: int) -> OpPlan:
    if field == "bias_param":
        return replace(op, bias_param=offset)
    if field == "weight_param":
        return replace(op, weight_param=offset)
    if field == "bias_state":
        return replace(op, bias_state=offset)
    return replace(op, weight_state=offset)
