"""The memory plan: buffers that live at the same time do not overlap, and chains reach the lower bound."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.compiler import arena, graph, planning
from kilotune.compiler.arena import Buffer
from kilotune.compiler.lifetimes import lifetimes
from kilotune.compiler.options import CompileOptions
from kilotune.compiler.schedule import schedule
from kilotune.image.memory import Piece
from kilotune.operators.base import OpPlan
from kilotune.terms import Method, named
from kilotune.tflite import model as tflite_model

from tests.support import small_models

buffers = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 20), st.integers(0, 8)), max_size=24).map(
    lambda items: [Buffer.of(str(i), size, first, first + length) for i, (size, first, length) in enumerate(items)]
)


@given(buffers)
@settings(deadline=None, max_examples=150)
def test_buffers_that_live_together_never_overlap(items: list[Buffer]) -> None:
    plan = arena.plan(items)
    assert plan.size >= plan.lower_bound
    assert all(plan.offsets[b.key] % 4 == 0 and plan.offsets[b.key] + b.size <= plan.size for b in items)
    for i, a in enumerate(items):
        for b in items[:i]:
            if a.meets(b):
                x, y = plan.offsets[a.key], plan.offsets[b.key]
                assert x + a.size <= y or y + b.size <= x


@given(buffers, st.integers(0, 64), st.integers(-3, 3))
@settings(deadline=None, max_examples=100)
def test_the_lower_bound_is_what_one_step_after_the_other_needs(items: list[Buffer], behind: int, moved: int) -> None:
    """Counted step by step; every second buffer has a second piece, which may end before or begin after the first."""
    spread = []
    for i, b in enumerate(items):
        first = b.first + moved
        tail = (Piece(f"tail {b.key}", behind, b.size, first, first + 4),) if i % 2 else ()
        spread.append(Buffer(b.pieces + tail))
    needs = []
    for step in range(-4, 40):
        alive = [[p for p in b.pieces if p.first <= step <= p.last] for b in spread]
        spans = [(min(p.offset for p in ps), max(p.offset + arena.rounded(p.size) for p in ps)) for ps in alive if ps]
        needs.append(sum(end - start for start, end in spans))
    assert arena.lower_bound(spread) == max(needs)


@given(buffers, st.data())
@settings(deadline=None, max_examples=80)
def test_a_tail_that_lives_earlier_keeps_its_place(items: list[Buffer], data: st.DataObject) -> None:
    """Each buffer may have a tail; no byte is given to two that live in the same step."""
    tailed = []
    for b in items:
        tail = data.draw(st.integers(0, b.size // 8)) * 4
        first = data.draw(st.integers(-3, b.first - 1))
        pieces = b.pieces
        if tail:
            pieces += (Piece(f"tail {b.key}", b.size - tail, tail, first, b.first),)
        tailed.append(Buffer(pieces))
    nobody_shares(tailed)


@given(buffers, st.data())
@settings(deadline=None, max_examples=80)
def test_what_is_written_over_another_lies_before_it(items: list[Buffer], data: st.DataObject) -> None:
    """Chains of buffers, each over the last of the one before."""
    chained: list[Buffer] = []
    for b in items:
        if not chained or data.draw(st.booleans()):
            chained.append(b)
            continue
        before, behind = chained.pop(), data.draw(st.integers(0, 60))
        later = Buffer.of(b.key, b.size, before.last, before.last + b.last - b.first)
        chained.append(later.over(before, behind))
        x, y = chained[-1].pieces[-2:]
        assert behind <= x.offset - y.offset <= behind + 3
        assert min(p.offset for p in chained[-1].pieces) == 0
    nobody_shares(chained)


def nobody_shares(items: list[Buffer]) -> None:
    """No byte belongs to two buffers in the same step, and the pieces of each keep their distance."""
    plan = arena.plan(items)
    assert plan.size >= plan.lower_bound
    for b in items:
        assert len({plan.offsets[p.key] - p.offset for p in b.pieces}) == 1
        assert all(plan.offsets[p.key] % 4 == 0 for p in b.pieces)
    for step in range(-3, 60):
        owners = np.zeros(plan.size, np.int64)
        for b in items:
            mine = np.zeros(plan.size, bool)
            for p in b.pieces:
                if p.first <= step <= p.last:
                    mine[plan.offsets[p.key] : plan.offsets[p.key] + p.size] = True
            owners += mine
        assert owners.max(initial=0) <= 1


@given(buffers)
@settings(deadline=None, max_examples=30)
def test_the_plan_is_the_same_every_time(items: list[Buffer]) -> None:
    assert arena.plan(items) == arena.plan(list(items))


@given(small_models.dense_specs(), st.sampled_from([Method.none, Method.bias, Method.head, Method.bias_and_head]))
@settings(deadline=None, max_examples=60)
def test_dense_networks_come_near_the_lower_bound(spec: small_models.DenseSpec, method: Method) -> None:
    g = graph.build(tflite_model.read(small_models.dense_model(spec)))
    plan = planning.plan(g, CompileOptions(method=named(Method, method)), calibration_bytes=0)
    assert plan.arena.size <= 1.1 * plan.arena.lower_bound + 8


def data_of(g: graph.Graph, ops: list[OpPlan], keep_input: bool = False) -> dict[str, Buffer]:
    order = schedule(g, ops, loss_tensor=None, keep_input=keep_input)
    return {b.key: b for b in lifetimes(g, ops, [None] * 3, None, order)}


def test_the_input_survives_until_a_reconstruction_is_compared_with_it() -> None:
    g = graph.build(tflite_model.read(small_models.chain(16, 8, 16)))
    made = data_of(g, [OpPlan()] * 2, keep_input=True)
    assert made[f"data {g.input}"].last == 2
    assert made[f"data {g.output}"].last == 2


def test_the_heads_input_survives_until_its_update() -> None:
    g = graph.build(tflite_model.read(small_models.chain(16, 8, 16)))
    made = data_of(g, [OpPlan(), OpPlan(train_weights=True, gradient_unit=1.0)])
    assert made[f"data {g.ops[1].input}"].last > 2
