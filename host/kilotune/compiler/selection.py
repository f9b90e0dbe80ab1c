"""Decides for every op what is trained, from a method and names of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from kilotune.compiler.graph import Graph
from kilotune.compiler.options import DEFAULT_CHANNELS, DEFAULT_RANK, CompileOptions, LayerChoice
from kilotune.errors import KilotuneError
from kilotune.image.image import shared_error
from kilotune.operators.adapted import MAX_RANK
from kilotune.operators.base import ImageOp
from kilotune.operators.weighted import Weighted
from kilotune.terms import Method


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


def trainable_layers(graph: Graph, first_op: int) -> list[int]:
    """Ops with parameters that gradients reach."""
    reachable = reached(graph, first_op)
    layers = [i for i in range(first_op + 1) if graph.ops[i].outputs > 0 and i in reachable]
    if not layers:
        raise KilotuneError(
            "unsupported_model",
            "the model has no layer with a bias that gradients reach, so there is nothing to train",
            "end the model with a dense layer or a convolution",
        )
    return layers


@dataclass(frozen=True, slots=True)
class Trainability:
    """The methods by which one layer with parameters can be trained: some of bias, head, channels and lora.
    `reason`: if there are none, why."""

    op: int
    layer: str
    kind: str
    ways: tuple[Method, ...]
    reason: str = ""


def trainability(graph: Graph, first_op: int) -> tuple[Trainability, ...]:
    """Every layer with parameters, in execution order."""
    reachable = reached(graph, first_op)
    layers = [i for i, op in enumerate(graph.ops) if op.outputs > 0]
    last = max((i for i in layers if i in reachable), default=-1)
    found = []
    for i in layers:
        op = graph.ops[i]
        ways = [Method.bias] if i in reachable else []
        if i == last and op.trains_weights:
            ways.append(Method.head)
        if i in reachable and op.adapts_weights:
            ways += [Method.channels, Method.lora]
        found.append(Trainability(i, op.name, op.kind, tuple(ways), "" if ways else _obstacle(graph, reachable, i)))
    return tuple(found)


def _obstacle(graph: Graph, reachable: frozenset[int], layer: int) -> str:
    """What keeps gradients from a layer: the first operator after it that they cannot pass."""
    outputs = {graph.ops[layer].output}
    for i in range(layer + 1, len(graph.ops)):
        op = graph.ops[i]
        if outputs.isdisjoint(op.reads) or i in reachable:
            continue
        if not op.has_backward:
            return f"gradients do not pass operator {op.source} {op.kind} ('{op.name}')"
        outputs.add(op.output)
    return "the loss does not depend on it"


def choose(graph: Graph, first_op: int, options: CompileOptions) -> dict[int, LayerChoice]:
    """Op -> what is trained in it; ops without training are omitted."""
    layers = trainable_layers(graph, first_op)
    if options.method is Method.chosen:
        found = dict(options.chosen or {})
        _check_chosen(graph, layers, found)
    elif options.method in (Method.lora, Method.channels):
        found = _in_part(graph, _layers(graph, layers, options, in_part=True), options)
    else:
        found = _biases_and_head(graph, layers, options)
    refuse_doubly_trained(graph, found)
    return found


def named(graph: Graph, layers: Iterable[int], name: str | int) -> int:
    """The op of `layers` with this name or number."""
    candidates = list(layers)
    for i in candidates:
        if name == i or name == graph.ops[i].name or name == str(i):
            return i
    known = ", ".join(f"{i} '{graph.ops[i].name}'" for i in candidates)
    raise KilotuneError(
        "bad_argument", f"there is no layer {name!r} that can be trained this way", f"use one of: {known}"
    )


def _layers(graph: Graph, layers: list[int], options: CompileOptions, *, in_part: bool) -> list[int]:
    """The layers that the options name; if they name none, all that can be trained this way."""
    able = [i for i in layers if graph.ops[i].adapts_weights] if in_part else layers
    if not able:
        raise KilotuneError("unsupported_model", "gradients reach no dense layer or convolution", "use method bias")
    if isinstance(options.channels, Mapping):
        return sorted({named(graph, able, name) for name in options.channels})
    if options.layers is not None:
        return sorted({named(graph, able, name) for name in options.layers})
    if options.method is Method.lora:
        able = [i for i in able if graph.ops[i].pointwise] or able
    if options.last_layers is None:
        return able
    if not 1 <= options.last_layers <= len(able):
        raise KilotuneError(
            "bad_argument",
            f"last_layers is {options.last_layers}, but the model has {len(able)} layers with biases "
            f"that gradients reach: {', '.join(graph.ops[i].name for i in able)}",
            f"give a number from 1 to {len(able)}",
        )
    return able[-options.last_layers :]


def _biases_and_head(graph: Graph, layers: list[int], options: CompileOptions) -> dict[int, LayerChoice]:
    head = layers[-1]
    biases = _layers(graph, layers, options, in_part=False) if options.method is not Method.head else []
    found = {i: LayerChoice(bias=True) for i in biases}
    if options.method is Method.bias:
        return found
    if not graph.ops[head].trains_weights:
        last = graph.ops[head]
        raise KilotuneError(
            "unsupported_model",
            f"the weights of the last layer, operator {last.source} {last.kind} ('{last.name}'), cannot be trained",
            "use method bias, or end the model with a dense layer",
        )
    return {**found, head: LayerChoice(bias=True, weights=True)}


def _in_part(graph: Graph, layers: list[int], options: CompileOptions) -> dict[int, LayerChoice]:
    found = {}
    which = options.channels
    given = {named(graph, layers, k): v for k, v in which.items()} if isinstance(which, Mapping) else {}
    for i in layers:
        if options.method is Method.lora:
            found[i] = LayerChoice(bias=True, weights=True, rank=options.rank or DEFAULT_RANK)
            continue
        count = which if isinstance(which, int) else DEFAULT_CHANNELS
        channels = tuple(sorted(set(given[i]))) if i in given else largest_channels(graph.ops[i], count)
        if not channels or channels[0] < 0 or channels[-1] >= graph.ops[i].outputs:
            raise KilotuneError(
                "bad_argument",
                f"layer '{graph.ops[i].name}' has channels 0 to {graph.ops[i].outputs - 1}, not {list(channels)}",
                "give at least one of them",
            )
        found[i] = in_channels(graph.ops[i], channels)
    return found


def in_channels(op: ImageOp, channels: tuple[int, ...]) -> LayerChoice:
    """These channels' weights and the layer's biases; for all channels of a dense layer, simply its weights."""
    if len(channels) == op.outputs and op.trains_weights:
        return LayerChoice(bias=True, weights=True)
    return LayerChoice(bias=True, weights=True, channels=channels)


def largest_channels(op: ImageOp, count: int) -> tuple[int, ...]:
    """The `count` channels with the largest weights, in real units."""
    if count < 1:
        raise KilotuneError("bad_argument", f"{count} channels cannot be trained", "give at least 1")
    if not isinstance(op, Weighted):
        return ()
    size = np.abs(op.weights.astype(np.float64)).sum(1) * op.weight_scales.astype(np.float64)
    order = np.argsort(-size, kind="stable")[:count]
    return tuple(sorted(int(i) for i in order))


def _check_chosen(graph: Graph, layers: list[int], found: Mapping[int, LayerChoice]) -> None:
    for i, choice in found.items():
        op = graph.ops[i] if 0 <= i < len(graph.ops) else None
        good = (
            op is not None
            and i in layers
            and (choice.bias or choice.weights)
            and all(0 <= c < op.outputs for c in choice.channels)
            and list(choice.channels) == sorted(set(choice.channels))
            and 0 <= choice.rank <= MAX_RANK
            and not (choice.channels and choice.rank)
            and (not choice.weights or (op.adapts_weights if choice.channels or choice.rank else op.trains_weights))
        )
        if not good:
            raise KilotuneError(
                "bad_argument",
                f"op {i} cannot be trained this way: {choice}",
                "see what `kilotune.compiler.compile.trainable` lists for it",
            )
    if not found:
        raise KilotuneError("bad_argument", "nothing is chosen to be trained", "choose at least one layer")


def refuse_doubly_trained(graph: Graph, chosen: Mapping[int, LayerChoice]) -> None:
    """Refuses to train one tensor in two ops, as it would need two values in the merged model."""
    owners: dict[tuple[str, int], ImageOp] = {}
    for index in sorted(chosen):
        op, choice = graph.ops[index], chosen[index]
        weight_tensor, bias_tensor = op.parameters
        trained = (("bias", bias_tensor, choice.bias), ("weights", weight_tensor, choice.weights))
        for key in ((what, tensor) for what, tensor, used in trained if used and tensor >= 0):
            if key in owners:
                raise shared_error(key[0], key[1], owners[key].source, op.source)
            owners[key] = op
