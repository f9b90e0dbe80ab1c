"""Sliding windows: padding as TensorFlow Lite computes it, and the words of an op's entry that describe it."""

from __future__ import annotations

from dataclasses import dataclass

from kilotune.operators.base import Activation, Lowering
from kilotune.tflite.model import Tensor

MAX_SIZE, MAX_STRIDE, MAX_DILATION = 4095, 255, 255


@dataclass(frozen=True, slots=True)
class Geometry:
    """Pairs are (height, width)."""

    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad: tuple[int, int]  # at the start; padding at the end follows from the output's extent

    @property
    def taps(self) -> int:
        return self.size[0] * self.size[1]

    @property
    def pointwise(self) -> bool:
        """Whether each output position reads exactly the input position at its place."""
        return self.taps == 1 and self.stride == (1, 1) and self.pad == (0, 0)

    @property
    def words(self) -> tuple[int, int, int, int]:
        pairs = (self.size, self.stride, self.dilation, self.pad)
        a, b, c, d = (pair[0] | pair[1] << 16 for pair in pairs)
        return a, b, c, d

    def can_share(self, x: Activation, y: Activation) -> bool:
        """Whether the gradients of input and output may share memory."""
        return (x.height, x.width, x.channels) == (y.height, y.width, y.channels) and self.stride == (1, 1)

    def backward_scratch_bytes(self, x: Activation, y: Activation, *, in_place: bool) -> int:
        """int32 values of one position and, if in place, the output's rows that are still needed."""
        values = 4 * x.channels
        if not in_place or self.pointwise:
            return values
        reach = max(0, (self.size[0] - 1) * self.dilation[0] - self.pad[0])
        row = y.width * y.channels
        return values + 2 * (reach + 1) * (row + row % 2)


def of_window(
    context: Lowering,
    size: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
    *,
    source: Tensor | None = None,
    output: Tensor | None = None,
) -> Geometry:
    """The geometry of an operator with `padding` and `stride` options, from `source` to `output`."""
    options = context.operator.options
    inner, outer = (
        spatial(context, source or context.tensor(0)),
        spatial(context, output or context.output_tensor()),
    )
    limits = ((size, MAX_SIZE), (options.stride, MAX_STRIDE), (dilation, MAX_DILATION))
    if not all(1 <= n <= limit for pair, limit in limits for n in pair):
        raise context.refuse(
            f"has a window of {size}, strides of {options.stride} and dilations of {dilation}",
            f"windows up to {MAX_SIZE}, strides up to {MAX_STRIDE}, dilations up to {MAX_DILATION} are supported",
        )
    pads = []
    for axis in (0, 1):
        reach, stride = (size[axis] - 1) * dilation[axis] + 1, options.stride[axis]
        if options.padding == "SAME":
            out = -(-inner[axis] // stride)
            pads.append(max(0, (out - 1) * stride + reach - inner[axis]) // 2)
        else:
            out = -(-(inner[axis] - reach + 1) // stride)
            pads.append(0)
        if options.padding not in ("SAME", "VALID") or out != outer[axis] or out < 1:
            raise context.refuse(
                f"makes {list(outer)} of {list(inner)} with padding {options.padding}",
                "the file is damaged: convert the model again",
            )
    return Geometry(size, options.stride, dilation, (pads[0], pads[1]))


def spatial(context: Lowering, tensor: Tensor) -> tuple[int, int]:
    """(height, width) of a tensor of four dimensions."""
    if len(tensor.shape) == 4 and tensor.shape[0] != 1:
        raise context.refuse(f"has a batch of {tensor.shape[0]}", "convert the model with batch size 1")
    if len(tensor.shape) != 4:
        raise context.refuse(f"has a tensor of shape {list(tensor.shape)}", "(1, height, width, channels) is supported")
    return tensor.shape[1], tensor.shape[2]
