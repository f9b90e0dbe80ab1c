"""What quantising a model to int8 has changed: its size, its outputs, and what a device can do with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kilotune.compiler.compile import compile, trainable
from kilotune.errors import KilotuneError
from kilotune.terms import Method
from kilotune.tflite.convert import Quantised

LISTED = 16  # outputs that are told one by one


@dataclass(frozen=True, slots=True)
class Changes:
    """`error`: root mean square difference of the outputs, real units; `range`: of the float outputs; `worst`: the
    output that differs most. `errors`: of each output, if there are few. `refused`: why it does not compile."""

    float_bytes: int
    int8_bytes: int
    samples: int
    error: float
    range: float
    worst: int
    errors: tuple[float, ...]
    methods: tuple[Method, ...]
    refused: str
    notes: tuple[str, ...]


def changes(made: Quantised) -> Changes:
    methods, refused = _methods(made.content)
    squares = (made.outputs - made.float_outputs) ** 2
    each = np.sqrt(squares.mean(0))
    return Changes(
        float_bytes=made.float_bytes,
        int8_bytes=len(made.content),
        samples=len(squares),
        error=float(np.sqrt(squares.mean())),
        range=float(np.ptp(made.float_outputs)),
        worst=int(each.argmax()),
        errors=tuple(float(e) for e in each) if each.size <= LISTED else (),
        methods=methods,
        refused=refused,
        notes=made.notes,
    )


def _methods(content: bytes) -> tuple[tuple[Method, ...], str]:
    """The methods that some layer can be trained with; or why the model does not compile."""
    try:
        compile(content, method=Method.none)
    except KilotuneError as error:
        return (), str(error)
    try:
        ways = {way for layer in trainable(content) for way in layer.ways}
    except KilotuneError as error:
        return (Method.none,), str(error)
    if Method.head in ways and Method.bias in ways:
        ways.add(Method.bias_and_head)
    order = [Method.none, *(m for m in Method if m is not Method.none)]
    return tuple(m for m in order if m in ways or m is Method.none), ""


def described(c: Changes) -> str:
    """For people."""
    share = 100 * c.error / c.range if c.range else 0.0
    lines = [
        f"{c.float_bytes:,} bytes in float, {c.int8_bytes:,} in int8",
        f"outputs differ by {c.error:.3g} (root mean square over {c.samples} samples), {share:.1f} % of their range; "
        f"most in output {c.worst}",
    ]
    if c.errors:
        lines.append("by output: " + ", ".join(f"{e:.3g}" for e in c.errors))
    lines += c.notes
    lines.append(f"compiles with method {', '.join(c.methods)}" if c.methods else f"does not compile: {c.refused}")
    return "\n".join(lines)
