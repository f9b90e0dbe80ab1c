"""UNIDIRECTIONAL_SEQUENCE_LSTM with int8 activations and a 16-bit cell state, as TensorFlow Lite Micro computes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kilotune.operators.base import Activation, ImageOp, Lowering, OpPlan, SectionWriter, pack_op
from kilotune.operators.checks import check_int8, extents_of
from kilotune.operators.weighted import MAX_FAN_IN, bias_of, check_types
from kilotune.tflite import fixed_point
from kilotune.tflite.model import Tensor

OPCODE = 16
GATES = ("input", "forget", "cell", "output")
# The operator's inputs.
WEIGHTS, RECURRENT, PEEPHOLES, BIASES, PROJECTION = 1, 5, range(9, 12), 12, range(16, 18)
OUTPUT_STATE, CELL_STATE, NORMS = 18, 19, range(20, 24)
MAX_BIAS = 1 << 28  # on the device
GATE_SCALE, OPEN_SCALE = 2.0**-12, 2.0**-15
CELL_POWERS = range(-24, -8)
TABLE_STEP = 24  # entries for 1
# Entries of TensorFlow Lite Micro's table that are one more than 65536 * sigmoid(i / 24), rounded, so that its
# straight lines come closer to the curve. The last one is 65535.
RAISED = 1 << 255 | 0x800011009020440005C0467BAEFA7BD110

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lstm(ImageOp):
    """`weights` (gate, unit, inputs + units) int8, `biases` (gate, unit, 2) with the zero points folded in, `scalings`
    (multiplier, shift) of each gate's inputs and last outputs; `cell_limit`: 0 for none; `zero_point`: of the
    hidden state, whose values are the outputs. Before a CONCATENATION the converter gives the output another
    quantisation, but no runtime converts the values to it."""

    weights: npt.NDArray[np.int8]
    biases: Integers
    scalings: tuple[tuple[int, int], ...]
    output_scaling: tuple[int, int]
    cell_power: int
    cell_limit: int
    zero_point: int
    steps: int

    @property
    def kind(self) -> str:
        return "UNIDIRECTIONAL_SEQUENCE_LSTM"

    @property
    def macs(self) -> int:
        return self.steps * int(self.weights.size)

    def scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        return 2 * activations[self.output].channels  # the cell state

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        return pack_op(
            opcode=OPCODE,
            flags=0,
            input=self.input,
            output=self.output,
            offsets=(
                sections.add(self.weights.tobytes()),
                sections.add(self.biases.astype("<i4").tobytes()),
                sections.add(np.array([m for m, _ in self.scalings], "<i4").tobytes()),
                sections.add(np.array([s for _, s in self.scalings], np.int8).tobytes()),
            ),
            plan=plan,
            words=(
                self.output_scaling[0],
                self.output_scaling[1] & 0xFF | (self.cell_power & 0xFF) << 8 | self.cell_limit << 16,
                sections.add(sigmoid_table().astype("<u2").tobytes()),
                plan.scratch,
                self.zero_point & 0xFF,
            ),
        )


def sigmoid_table() -> Integers:
    """(256,) for arguments from 0 up, in Q16."""
    exact = 65536.0 / (1.0 + np.exp(-np.arange(256) / TABLE_STEP))
    raised = np.array([RAISED >> i & 1 for i in range(256)])
    table: Integers = np.floor(exact + 0.5).astype(np.int64) + raised
    return table


def lower(context: Lowering) -> Lstm:
    """Reads one LSTM: without peepholes, projection and normalisation, over a sequence of batch 1."""
    source, output = context.tensor(0), context.output_tensor()
    check_int8(context, source)
    _check_kind(context)
    hidden, cells = context.tensor(OUTPUT_STATE), context.tensor(CELL_STATE)
    _check_states(context, hidden, cells)
    units, inputs = output.shape[-1], source.shape[-1]
    if source.shape[:-1] != output.shape[:-1] or hidden.elements != units or inputs + units > MAX_FAN_IN:
        raise context.refuse(
            f"makes {list(output.shape)} of {list(source.shape)} with a state of {list(hidden.shape)}",
            f"one sequence, (1, steps, inputs), with up to {MAX_FAN_IN} inputs and units is supported",
        )
    steps = math.prod(extents_of(context, source)[:2])
    rows, biases, scalings = [], [], []
    for gate in range(len(GATES)):
        parts, folded = [], []
        for first, driver, width in ((WEIGHTS, source, inputs), (RECURRENT, hidden, units)):
            tensor = context.tensor(first + gate)
            parts.append(_weights(context, tensor, driver, (units, width)))
            folded.append(-driver.zero_point * parts[-1].astype(np.int64).sum(1))
            scalings += fixed_point.dense_multipliers(driver.scale, tensor.scales, np.float32(GATE_SCALE))
        folded[0] = folded[0] + bias_of(context, units, BIASES + gate)[0]
        rows.append(np.concatenate(parts, 1))
        biases.append(np.stack(folded, 1))
    if max(int(np.abs(b).max()) for b in biases) > MAX_BIAS:
        raise context.refuse("has biases beyond 2^28 units of its accumulator", "quantise the model again")
    return Lstm(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(source.index),
        output=context.activation(output.index),
        weights=np.stack(rows),
        biases=np.stack(biases),
        scalings=tuple(scalings),
        output_scaling=fixed_point.quantise_multiplier(OPEN_SCALE**2 / float(hidden.scale)),
        cell_power=_cell_power(context, cells),
        cell_limit=_cell_limit(context, cells),
        zero_point=hidden.zero_point,
        steps=steps,
    )


def _check_kind(context: Lowering) -> None:
    operator, options = context.operator, context.operator.options
    found = {
        "a time-major sequence": options.time_major,
        f"the activation {options.activation}": options.activation != "TANH",
        "peepholes": any(operator.input(i) >= 0 for i in PEEPHOLES),
        "a projection": any(operator.input(i) >= 0 for i in PROJECTION) or options.projection_limit > 0,
        "layer normalisation": any(operator.input(i) >= 0 for i in NORMS),
        "coupled input and forget gates": operator.input(WEIGHTS) < 0,
    }
    wrong = [name for name, there in found.items() if there]
    if wrong:
        raise context.refuse(
            f"has {' and '.join(wrong)}",
            "use the LSTM layer of Keras with its default activations, over (1, steps, inputs)",
        )


def _check_states(context: Lowering, hidden: Tensor, cells: Tensor) -> None:
    made = {t for op in context.model.operators for t in op.outputs} | set(context.model.inputs)
    if hidden.index in made or cells.index in made or hidden.constant or cells.constant:
        raise context.refuse("is given an initial state", "omit it: each inference starts from an empty state")
    if hidden.dtype != "int8" or cells.dtype != "int16" or cells.elements != hidden.elements:
        raise context.refuse(
            f"has states of type {hidden.dtype} and {cells.dtype}",
            "int8 activations with an int16 cell state are supported: convert with full int8 quantisation",
        )


def _weights(context: Lowering, tensor: Tensor, driver: Tensor, shape: tuple[int, int]) -> npt.NDArray[np.int8]:
    check_types(context, driver, tensor, context.output_tensor())
    if tensor.shape != shape or tensor.scales.size != 1:
        raise context.refuse(
            f"has weights of shape {list(tensor.shape)} with {tensor.scales.size} scales",
            f"{list(shape)} with one scale is supported",
        )
    return tensor.values().astype(np.int8)


def _cell_power(context: Lowering, cells: Tensor) -> int:
    mantissa, exponent = math.frexp(float(cells.scale))
    if mantissa != 0.5 or exponent - 1 not in CELL_POWERS or cells.zero_point != 0:
        raise context.refuse(
            f"has a cell state of scale {float(cells.scale):g}",
            f"powers of two from 2^{CELL_POWERS[0]} to 2^{CELL_POWERS[-1]} are supported: convert the model again",
        )
    return exponent - 1


def _cell_limit(context: Lowering, cells: Tensor) -> int:
    limit = context.operator.options.cell_limit
    if not 0 <= limit < math.inf or 0 < limit < float(cells.scale):
        raise context.refuse(f"limits its cell state to {limit:g}", "limits not below the cell's scale are supported")
    return min(int(limit / float(cells.scale)), 32767)
