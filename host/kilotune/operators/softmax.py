"""SOFTMAX: frozen; training starts from the logits before it."""

from __future__ import annotations

from dataclasses import dataclass

from kilotune.operators.base import ImageOp, Lowering, OpPlan, SectionWriter, pack_op
from kilotune.tflite import fixed_point

OPCODE = 2
# From 512 on, the sum of exponentials can lead to a shift of 32 bits in TensorFlow Lite, which is undefined.
MAX_CHANNELS = 511


@dataclass(frozen=True, slots=True)
class Softmax(ImageOp):
    """`scaling` is (multiplier, left shift, diff_min)."""

    beta: float
    scaling: tuple[int, int, int]

    @property
    def kind(self) -> str:
        return "SOFTMAX"

    @property
    def macs(self) -> int:
        return 0

    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        return pack_op(opcode=OPCODE, flags=0, input=self.input, output=self.output, words=self.scaling)


def lower(context: Lowering) -> Softmax:
    """Reads one SOFTMAX operator, int8 to int8 with the output scale 1/256 that TensorFlow Lite requires."""
    source, output = context.tensor(0), context.output_tensor()
    if source.dtype != "int8" or output.dtype != "int8":
        raise context.refuse(
            f"goes from {source.dtype} to {output.dtype}",
            "int8 to int8 is supported: quantise the whole model",
        )
    if source.shape != output.shape or not source.shape or not 1 <= source.shape[-1] <= MAX_CHANNELS:
        raise context.refuse(f"has shape {list(source.shape)}", f"up to {MAX_CHANNELS} classes are supported")
    if float(output.scale) != 1.0 / 256 or output.zero_point != -128:
        raise context.refuse("has an output scale other than 1/256", "convert the model with a current TensorFlow")
    beta = context.operator.options.beta
    if not 1e-6 <= beta <= 1e6:  # also false for NaN
        raise context.refuse(f"has a beta of {beta:g}", "use a plain softmax")
    return Softmax(
        source=context.operator.index,
        name=output.short_name,
        input=context.activation(source.index),
        output=context.activation(output.index),
        beta=beta,
        scaling=fixed_point.softmax_scaling(beta, source.scale),
    )
