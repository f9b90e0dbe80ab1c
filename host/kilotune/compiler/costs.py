"""Instructions of an inference and of a training step on a Cortex-M4F, estimated before anything is built.

Each kind of work costs a number of instructions per unit. `tests/bench/costs.py` measures these numbers on QEMU's
mps2-an386, and how far off the estimates are for networks that they were not fitted to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from kilotune.compiler.graph import Graph
from kilotune.compiler.training_plan import Plan
from kilotune.operators.base import ImageOp, OpPlan
from kilotune.operators.convolution import Conv2D, DepthwiseConv2D, PositionLayer
from kilotune.operators.weighted import Weighted

# Instructions per unit, from `python tests/bench/costs.py`.
INSTRUCTIONS: Mapping[str, float] = MappingProxyType(
    {
        "bias gradient": 0,
        "convolution product": 0.685,
        "convolution product back": 2.998,
        "dense product": 1.712,
        "dense product back": 1.766,
        "depthwise product": 0,
        "depthwise product back": 0.157,
        "gradient": 54.28,
        "loss": 86.98,
        "low-rank product": 7.897,
        "operator": 573.1,
        "operator back": 0,
        "other value": 307.8,
        "other value back": 0,
        "output": 8.085,
        "partial gradient": 14.33,
        "partial update": 73.71,
        "partly trained product": 3.178,
        "partly trained product back": 5.155,
        "pointwise product": 0.429,
        "pointwise product back": 2.534,
        "trained product": 5.393,
        "trained weight made": 14.5,
        "weight update": 15.07,
    }
)


def inference(graph: Graph, plan: Plan) -> int:
    return _price(inference_work(graph, plan.ops, range(len(graph.ops))))


def step(graph: Graph, plan: Plan) -> int:
    """Instructions of a training step; 0 if nothing is trained."""
    return _price(step_work(graph, plan)) if plan.training is not None else 0


def _price(work: Mapping[str, float]) -> int:
    return round(sum(INSTRUCTIONS[kind] * units for kind, units in work.items()))


def inference_work(graph: Graph, ops: Sequence[OpPlan], which: Sequence[int]) -> Counter[str]:
    """Units of work by kind."""
    work: Counter[str] = Counter()
    for i in which:
        op, y = graph.ops[i], graph.activations[graph.ops[i].output]
        work["operator"] += 1
        if not isinstance(op, Weighted):
            work["other value"] += max(graph.activations[k].elements for k in (*op.reads, op.output))
            continue
        kind = "partly trained" if ops[i].adapted else "trained" if ops[i].train_weights else _kind(op)
        work[f"{kind} product"] += op.macs
        work["output"] += y.elements
        if ops[i].adapted:
            work["trained weight made"] += _trained(op, ops[i])
            work["low-rank product"] += ops[i].rank * op.inputs * op.outputs
    return work


def step_work(graph: Graph, plan: Plan) -> Counter[str]:
    training = plan.training
    assert training is not None
    work = inference_work(graph, plan.ops, range(training.first_op + 1))
    work += inference_work(graph, plan.ops, [op for _, op in plan.reruns])
    work["loss"] += graph.activations[training.loss.tensor].elements
    for i in range(training.last_op, training.first_op + 1):
        op, decided = graph.ops[i], plan.ops[i]
        if not decided.gradient_unit:
            continue
        y = graph.activations[op.output]
        work["operator back"] += 1
        if decided.to_input:
            sources = {s for s, sent in zip(op.reads, decided.sends, strict=True) if sent}
            work["gradient"] += sum(graph.activations[s].elements for s in sources)
            if isinstance(op, Weighted):
                work[f"{'partly trained' if decided.adapted else _kind(op)} product back"] += op.macs
            else:
                work["other value back"] += max(graph.activations[k].elements for k in (*op.reads, op.output))
        if decided.train_bias:
            work["bias gradient"] += y.elements
        if decided.train_weights:
            work += _weight_work(op, decided, y.positions)
    return work


def _weight_work(op: ImageOp, plan: OpPlan, positions: int) -> Counter[str]:
    assert isinstance(op, Weighted)
    if not plan.adapted:
        return Counter({"weight update": op.inputs * op.outputs})
    made = op.inputs * op.outputs if plan.rank else 0
    values = plan.rank * (op.inputs + op.outputs) if plan.rank else _trained(op, plan)
    return Counter(
        {
            "partial update": values,
            "partial gradient": positions * values * (2 if plan.rank else 1),
            "low-rank product": plan.rank * made if plan.to_input else 0,
        }
    )


def _trained(op: Weighted, plan: OpPlan) -> int:
    return op.inputs * (op.outputs if plan.rank else len(plan.channels))


def _kind(op: Weighted) -> str:
    if isinstance(op, DepthwiseConv2D):
        return "depthwise"
    if isinstance(op, Conv2D):
        return "pointwise" if op.geometry.taps == 1 else "convolution"
    return "convolution" if isinstance(op, PositionLayer) else "dense"
