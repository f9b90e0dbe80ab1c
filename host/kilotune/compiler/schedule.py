"""The order of a training step: forward pass, loss, and backward pass with recomputed activations.

An activation that the backward pass reads is either kept from the forward pass on, or dropped and recomputed just
before it is read (gradient checkpointing: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). To
recompute it, its op runs again, after the ops that make those of its inputs that were not kept either.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from kilotune.compiler.graph import Graph
from kilotune.operators.base import OpPlan

# Choosing what to drop takes time that grows with the square of their number; only the largest are considered.
MAX_CANDIDATES = 48

Span = tuple[int, int]  # first and last step, both included


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps: in -1 the input arrives; 0 to n-1 are the forward pass; in n the output is read and the loss computed.
    Then comes the backward pass from the last op to the first, each after the ops that run again for it."""

    reruns: tuple[tuple[int, int], ...]  # (op before whose backward pass, op that runs again)
    backward: tuple[int, ...]  # step of each op's backward pass
    again: tuple[tuple[int, ...], ...]  # steps in which each op runs again
    data: dict[int, tuple[Span, ...]]  # when each activation's values are alive


def read_backward(graph: Graph, ops: Sequence[OpPlan]) -> dict[int, tuple[int, ...]]:
    """The activations that the backward pass of an op reads, by op."""
    return {
        i: tuple(dict.fromkeys(op.reads))
        for i, op in enumerate(graph.ops)
        if ops[i].gradient_unit and op.reads_input_backward(ops[i])
    }


def schedule(
    graph: Graph,
    ops: Sequence[OpPlan],
    *,
    loss_tensor: int | None,
    keep_input: bool,
    dropped: Collection[int] = (),
) -> Schedule:
    """`loss_tensor`: what the loss reads besides the output; None if nothing is trained. `keep_input`: the loss reads
    the input. `dropped`: activations that are recomputed for the backward pass."""
    end = len(graph.ops)
    wanted = read_backward(graph, ops)
    kept = {graph.input} | {a for reads in wanted.values() for a in reads} - set(dropped)
    producers = {op.output: i for i, op in enumerate(graph.ops)}
    made = {graph.input: -1} | producers
    last = {graph.input: end if keep_input else 0, graph.output: end}
    for i, op in enumerate(graph.ops):
        for a in (*op.reads, op.output):
            last[a] = max(last.get(a, 0), i)
    if loss_tensor is not None:
        last[loss_tensor] = max(last[loss_tensor], end)
    spans: dict[int, list[Span]] = {}
    reruns: list[tuple[int, int]] = []
    backward, again = [0] * end, [[] for _ in graph.ops]  # type: tuple[list[int], list[list[int]]]
    step = end
    for i in reversed(range(end)):
        reads = wanted.get(i, ())
        chain = _chain(graph, producers, kept, reads)
        began: dict[int, int] = {}
        for k in chain:
            step += 1
            reruns.append((i, k))
            again[k].append(step)
            began[graph.ops[k].output] = step
            for a in graph.ops[k].reads:
                _read(a, step, kept, last, spans, began)
            spans.setdefault(graph.ops[k].output, []).append((step, step))
        step += 1
        backward[i] = step
        for a in reads:
            _read(a, step, kept, last, spans, began)
    data = {a: ((made[a], last[a]), *spans.get(a, ())) for a in made}
    return Schedule(tuple(reruns), tuple(backward), tuple(map(tuple, again)), data)


def _chain(graph: Graph, producers: dict[int, int], kept: Collection[int], reads: Sequence[int]) -> list[int]:
    """The ops that must run again to provide `reads`, in execution order."""
    needed: set[int] = set()
    waiting = [a for a in reads if a not in kept]
    while waiting:
        op = producers[waiting.pop()]
        if op not in needed:
            needed.add(op)
            waiting += [a for a in graph.ops[op].reads if a not in kept]
    return sorted(needed)


def _read(
    activation: int,
    step: int,
    kept: Collection[int],
    last: dict[int, int],
    spans: dict[int, list[Span]],
    began: dict[int, int],
) -> None:
    """Extends the life of `activation` to `step`: from the start if it is kept, else since it `began` again."""
    if activation in kept:
        last[activation] = max(last[activation], step)
    else:
        spans[activation][-1] = (began[activation], step)


def choose_dropped(graph: Graph, ops: Sequence[OpPlan], cost: Callable[[frozenset[int]], int]) -> frozenset[int]:
    """The activations to drop so that `cost`, in bytes, is smallest; among equals, those that are cheapest to
    recompute. Empty if dropping does not help."""
    every = {a for reads in read_backward(graph, ops).values() for a in reads} - {graph.input}
    largest = sorted(every, key=lambda a: (-graph.activations[a].elements, a))[:MAX_CANDIDATES]
    known: dict[frozenset[int], tuple[int, int]] = {}

    def price(dropped: frozenset[int]) -> tuple[int, int]:
        if dropped not in known:
            planned = schedule(graph, ops, loss_tensor=None, keep_input=False, dropped=dropped)
            known[dropped] = cost(dropped), sum(_work(graph, op) for _, op in planned.reruns)
        return known[dropped]

    # Starts from nothing dropped and from everything dropped, and makes one improving change after another.
    found = [_improve(start, largest, price) for start in (frozenset[int](), frozenset(largest))]
    return min((frozenset[int](), *found), key=lambda dropped: (price(dropped), len(dropped)))


def _improve(
    start: frozenset[int], candidates: Sequence[int], price: Callable[[frozenset[int]], tuple[int, int]]
) -> frozenset[int]:
    best = start
    while True:
        tried = min((best ^ {a} for a in candidates), key=price, default=best)
        if price(tried) >= price(best):
            return best
        best = tried


def _work(graph: Graph, op: int) -> int:
    """Cost of running an op again, in products and outputs."""
    return graph.ops[op].macs + graph.activations[graph.ops[op].output].elements
