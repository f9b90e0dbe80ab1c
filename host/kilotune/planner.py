"""Decides what is trained, how gradients flow and where parameters lie; puts the plan together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kilotune import arena
from kilotune.errors import KilotuneError
from kilotune.graph import Graph
from kilotune.lifetimes import lifetimes
from kilotune.losses import choose_loss, plan_loss
from kilotune.operators.base import ImageOp, OpPlan
from kilotune.operators.dense import MIN_FRACTION_BITS
from kilotune.plan import METHODS, GradientPlan, Plan, TrainingPlan


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
        _check_chain(graph, training)
        for i in range(first_op, last_op - 1, -1):
            ops[i] = OpPlan(
                train_bias=i in trained_bias,
                train_weights=i in trained_weights,
                to_input=i > last_op,
                records_mask=True,
            )
        _flow(graph, training, ops, gradients)
    adapter_bytes = _lay_out_parameters(graph, ops, calibration_bytes, "bias_param", "weight_param")
    state_bytes = _lay_out_parameters(graph, ops, 0, "bias_state", "weight_state") if optimiser_state else 0
    buffers = lifetimes(graph, ops, gradients, training, keep_input=loss_kind == "reconstruction")
    return Plan(tuple(ops), tuple(gradients), training, arena.plan(buffers), adapter_bytes, state_bytes)


def _choose_trained(
    graph: Graph, first_op: int, method: str, last_layers: int | None
) -> tuple[frozenset[int], frozenset[int]]:
    """Indices of ops whose biases, and whose weights, are trained."""
    layers = [i for i in range(first_op + 1) if graph.ops[i].outputs > 0]
    if not layers:
        raise KilotuneError(
            "unsupported_model", "the model has no layer with a bias", "there is nothing to train"
        )
    head = frozenset({layers[-1]})
    if last_layers is not None and method == "head":
        raise KilotuneError(
            "bad_argument", "the head is one layer", "leave last_layers out, or use method bias"
        )
    if last_layers is not None and not 1 <= last_layers <= len(layers):
        raise KilotuneError(
            "bad_argument",
            f"last_layers is {last_layers}, but the model has {len(layers)} layers with biases",
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


def _check_chain(graph: Graph, training: TrainingPlan) -> None:
    for i in range(training.last_op, training.first_op + 1):
        op = graph.ops[i]
        if not op.has_backward or (i > training.last_op and graph.ops[i - 1].output != op.input):
            raise KilotuneError(
                "unsupported_model",
                f"gradients cannot pass operator {op.source} {op.kind} ('{op.name}')",
                "train fewer last layers, or use method head",
            )
        if i > training.last_op and graph.activations[op.input].positions != 1:
            raise KilotuneError(
                "unsupported_model",
                f"the input of operator {op.source} {op.kind} ('{op.name}') is not a vector",
                "train fewer last layers, or use method head",
            )


def _flow(
    graph: Graph, training: TrainingPlan, ops: list[OpPlan], gradients: list[GradientPlan | None]
) -> None:
    """Units and mantissa widths of the gradients, from the loss down to the last op of the backward pass."""
    unit = training.loss.unit
    for i in range(training.first_op, training.last_op - 1, -1):
        op = graph.ops[i]
        fraction = op.fraction_bits() if ops[i].train_bias or ops[i].train_weights else MIN_FRACTION_BITS
        ops[i] = replace(ops[i], gradient_unit=unit, fraction_bits=fraction)
        bits = op.mantissa_bits(ops[i])
        if bits < 1:
            raise KilotuneError(
                "unsupported_model",
                f"gradients of operator {op.source} {op.kind} ('{op.name}') overflow: too many outputs",
                "train fewer last layers, or use method head",
            )
        gradients[op.output] = GradientPlan(bits, unit, masked=i != training.first_op)
        if not ops[i].to_input:
            continue
        unit *= op.gradient_gain
        if not np.isfinite(np.float32(unit)) or np.float32(unit) == 0:
            raise KilotuneError(
                "unsupported_model",
                f"gradients vanish or explode below operator {op.source} {op.kind} ('{op.name}')",
                "train fewer last layers, or use method head",
            )


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
