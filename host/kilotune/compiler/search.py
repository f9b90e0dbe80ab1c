"""Chooses what to train within a budget. The contribution of each layer is measured, its cost is planned.

First, every way to train a single layer is tried alone: the twin trains on part of the calibration data, and the
contribution is how much the loss on the rest falls (the contribution analysis of Lin et al., "On-Device Training Under
256KB Memory", 2022). Then sets grow greedily by contribution per byte of added memory. The planner itself prices each
set, since layers share the arena. As contributions do not add up exactly, the intermediate sets and the fixed methods
are trained and measured too, and the best that fits is chosen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kilotune.compiler import costs, planning
from kilotune.compiler.graph import Graph
from kilotune.compiler.losses import choose_loss, plan_loss
from kilotune.compiler.options import CompileOptions, LayerChoice
from kilotune.compiler.selection import choose, in_channels, largest_channels, trainable_layers
from kilotune.errors import KilotuneError
from kilotune.terms import FIXED_METHODS, Method
from kilotune.twin_library import twin_library

if TYPE_CHECKING:
    from kilotune.image.image import Image

    Rows = npt.NDArray[np.int8]

RATES = (0.5, 0.05, 0.005, 0.0005)
HOLD_EVERY = 4  # of the calibration data, the last quarter of each class is held back
SHARES = (8, 4, 2)  # fractions of a layer's channels that are tried: 1/8, 1/4, 1/2
RANKS = (1, 4)
TIE = 0.002  # sets whose gains differ by less count as equal, and the smaller is chosen
SHOWN_SETS = 8  # intermediate sets that are trained and measured

Chosen = dict[int, LayerChoice]


@dataclass(frozen=True, slots=True)
class Budget:
    """Bytes of arena, adapter and optimiser state; instructions per step on a Cortex-M4F (None: no limit)."""

    ram_bytes: int
    instructions: int | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """Calibration data: inputs (n, inputs); labels (n,) for a classifier, targets (n, outputs) for regression."""

    inputs: Rows
    labels: npt.NDArray[np.uint16] | None = None
    targets: Rows | None = None

    def split(self) -> tuple[list[int], list[int]]:
        """Rows to train on and rows held back: the last quarter of each class, in the order of the data."""
        groups = [np.arange(len(self.inputs))]
        if self.labels is not None:
            groups = [np.flatnonzero(self.labels == k) for k in np.unique(self.labels)]
        train: list[int] = []
        held: list[int] = []
        for group in groups:
            cut = len(group) - len(group) // HOLD_EVERY
            train += group[:cut].tolist()
            held += group[cut:].tolist()
        if not train or len(held) < 2:
            raise KilotuneError(
                "too_little_data",
                f"{len(self.inputs)} calibration samples leave {len(held)} to measure on",
                "give at least 8, and 4 of each class",
            )
        return train, held


@dataclass(frozen=True, slots=True)
class Part:
    """One layer trained in one way, alone."""

    op: int
    name: str  # of the layer
    what: str
    choice: LayerChoice
    contribution: float  # fraction by which it lowers the held-out loss


@dataclass(frozen=True, slots=True)
class Point:
    """A set of parts; `gain` is the fraction by which training it lowered the held-out loss."""

    name: str
    chosen: Chosen
    ram_bytes: int
    instructions: int  # of a training step, estimated
    gain: float
    fits: bool


@dataclass(frozen=True, slots=True)
class Found:
    best: Point
    points: tuple[Point, ...]  # by RAM
    parts: tuple[Part, ...]
    held: int  # samples that gains are measured on


Compile = Callable[[Chosen], "Image"]
Progress = Callable[[int, int, str], None]


def search(
    graph: Graph,
    compile_chosen: Compile,
    samples: Samples,
    budget: Budget,
    options: CompileOptions,
    *,
    calibration_bytes: int,
    steps: int,
    progress: Progress | None = None,
) -> Found:
    """The best set within the budget. `compile_chosen` makes an image that trains a given set. `options`: those of
    the final image, whose adapter begins with `calibration_bytes`."""
    pricer = _Pricer(graph, options, calibration_bytes)
    measure = _Measure(compile_chosen, samples, steps)
    _, first_op = plan_loss(graph, choose_loss(graph, options.loss))
    layers = trainable_layers(graph, first_op)
    ways = [(i, what, c) for i in layers for what, c in _ways(graph, i) if pricer.fits({i: c}, budget)]
    if not ways:
        cheapest = min(pricer.ram({i: LayerChoice(bias=True)}) for i in layers)
        raise KilotuneError(
            "too_large",
            f"training needs at least {cheapest:,} bytes of arena and adapter, but the budget is "
            f"{budget.ram_bytes:,}" + (f" and {budget.instructions:,} instructions" if budget.instructions else ""),
            "give a larger budget, or use a smaller model",
        )
    sets = list(_fixed(graph, first_op))
    total = len(ways) + len(sets) + SHOWN_SETS

    def tell(done: int, name: str) -> None:
        if progress is not None:
            progress(min(done, total), total, name)

    parts = []
    for k, (i, what, choice) in enumerate(ways):
        tell(k, f"{graph.ops[i].name}: {what}")
        parts.append(Part(i, graph.ops[i].name, what, choice, measure.gain({i: choice})))
    grown = _thinned(list(_grow(parts, pricer, budget)))
    points = []
    for k, (name, chosen) in enumerate([*sets, *grown]):
        tell(len(ways) + k, name)
        ram, instructions = pricer.price(chosen)
        fits = ram <= budget.ram_bytes and instructions <= (budget.instructions or math.inf)
        points.append(Point(name, chosen, ram, instructions, measure.gain(chosen), fits))
    points.sort(key=lambda p: (p.ram_bytes, -p.gain))
    fitting = [p for p in points if p.fits]
    most = max(p.gain for p in fitting)
    best = min((p for p in fitting if p.gain >= most - TIE), key=lambda p: (p.ram_bytes, -p.gain))
    return Found(best, tuple(points), tuple(parts), measure.held)


def _ways(graph: Graph, i: int) -> Iterator[tuple[str, LayerChoice]]:
    """The ways to train one layer; all include its biases."""
    op = graph.ops[i]
    yield "bias", LayerChoice(bias=True)
    if op.adapts_weights:
        counts = dict.fromkeys(max(1, op.outputs // share) for share in SHARES)
        for count in counts:
            if count < op.outputs:
                yield f"{count} channels", in_channels(op, largest_channels(op, count))
        whole = in_channels(op, tuple(range(op.outputs)))
        yield "weights", whole
        for rank in RANKS:
            if rank * (op.inputs + op.outputs) < op.inputs * op.outputs:
                yield f"rank {rank}", LayerChoice(bias=True, weights=True, rank=rank)
    elif op.trains_weights:
        yield "weights", LayerChoice(bias=True, weights=True)


def _fixed(graph: Graph, first_op: int) -> Iterator[tuple[str, Chosen]]:
    """The methods that need no search, for comparison."""
    for method in FIXED_METHODS:
        try:
            yield str(method), choose(graph, first_op, CompileOptions(method=method))
        except KilotuneError:
            continue


def _grow(parts: Sequence[Part], pricer: _Pricer, budget: Budget) -> Iterator[tuple[str, Chosen]]:
    """Sets that grow by the part with the highest contribution per byte of added memory, as long as one fits."""
    chosen: dict[int, Part] = {}
    now = 0
    for count in itertools.count(1):
        best: tuple[float, int, Part] | None = None
        for part in parts:
            old = chosen.get(part.op)
            more = part.contribution - (old.contribution if old else 0.0)
            if more <= 0:
                continue
            tried = {**{i: p.choice for i, p in chosen.items()}, part.op: part.choice}
            if not pricer.fits(tried, budget):
                continue
            ram = pricer.ram(tried)
            worth = more / max(ram - now, 4)
            if best is None or worth > best[0]:
                best = (worth, ram, part)
        if best is None:
            return
        now, part = best[1], best[2]
        chosen[part.op] = part
        yield f"search {count}: {part.name} {part.what}", {i: p.choice for i, p in chosen.items()}


def _thinned(sets: list[tuple[str, Chosen]]) -> list[tuple[str, Chosen]]:
    """At most SHOWN_SETS of `sets`, including the last."""
    if len(sets) <= SHOWN_SETS:
        return sets
    places = sorted({round(k * (len(sets) - 1) / (SHOWN_SETS - 1)) for k in range(SHOWN_SETS)})
    return [sets[k] for k in places]


class _Pricer:
    """RAM and instructions of a set, from the planner; caches plans."""

    def __init__(self, graph: Graph, options: CompileOptions, calibration_bytes: int) -> None:
        self._graph, self._options, self._calibration_bytes = graph, options, calibration_bytes
        self._known: dict[tuple[tuple[int, LayerChoice], ...], tuple[float, float]] = {}

    def price(self, chosen: Mapping[int, LayerChoice]) -> tuple[int, int]:
        """(bytes, instructions); raises KilotuneError if the set cannot be trained at all."""
        options = replace(self._options, method=Method.chosen, chosen=chosen)
        plan = planning.plan(self._graph, options, calibration_bytes=self._calibration_bytes)
        ram = plan.arena.size + plan.adapter_bytes + plan.state_bytes
        return ram, costs.step(self._graph, plan)

    def _price(self, chosen: Mapping[int, LayerChoice]) -> tuple[float, float]:
        key = tuple(sorted(chosen.items(), key=lambda item: item[0]))
        if key not in self._known:
            try:
                self._known[key] = self.price(chosen)
            except KilotuneError:  # gradients overflow, or one tensor would be trained twice
                self._known[key] = (math.inf, math.inf)
        return self._known[key]

    def ram(self, chosen: Mapping[int, LayerChoice]) -> int:
        found = self._price(chosen)[0]
        return 1 << 30 if math.isinf(found) else int(found)

    def fits(self, chosen: Mapping[int, LayerChoice], budget: Budget) -> bool:
        ram, instructions = self._price(chosen)
        return ram <= budget.ram_bytes and instructions <= (budget.instructions or 1e18)


class _Measure:
    """Trains a set on the twin and measures how much the held-out loss falls, with the best of RATES."""

    def __init__(self, compile_chosen: Compile, samples: Samples, steps: int) -> None:
        self._compile, self._samples, self._steps = compile_chosen, samples, steps
        self._train, held = samples.split()
        self._held = held
        order = np.random.Generator(np.random.PCG64(1))
        passes = -(-steps // len(self._train))
        self._order = [int(i) for _ in range(passes) for i in order.permutation(self._train)][:steps]

    @property
    def held(self) -> int:
        return len(self._held)

    def gain(self, chosen: Chosen) -> float:
        from kilotune.image.real16 import to_real

        kernel = twin_library().Kernel(self._compile(chosen).content)
        before = self._loss(kernel)
        best = 0.0
        for rate in RATES:
            kernel.reset()
            kernel.begin(to_real(rate, "the learning rate"))
            for i in self._order:
                kernel.step(self._samples.inputs[i], **self._target(i))
            best = max(best, 1.0 - self._loss(kernel) / max(before, 1e-30))
        return best

    def _loss(self, kernel: object) -> float:
        loss = kernel.loss  # type: ignore[attr-defined]
        return float(np.mean([loss(self._samples.inputs[i], **self._target(i)) for i in self._held]))

    def _target(self, i: int) -> dict[str, object]:
        if self._samples.labels is not None:
            return {"label": int(self._samples.labels[i])}
        return {} if self._samples.targets is None else {"target": self._samples.targets[i]}
