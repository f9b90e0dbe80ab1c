"""An operator of the compiler: it lowers itself, says what its training needs, and writes its record."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kilotune.errors import KilotuneError
from kilotune.tflite_model import Operator, Tensor, TfliteModel

NO_TENSOR = 0xFFFF
NONE = 0xFFFFFFFF

# Flags of an op record (SPEC 1.3).
BIAS_TRAINED = 1
WEIGHTS_TRAINED = 2
PER_CHANNEL = 4
RECORDS_MASK = 8
BACKWARD_TO_INPUT = 16


@dataclass(frozen=True, slots=True)
class Activation:
    """One int8 tensor of the image, (height, width, channels); reshaped names share it."""

    name: str
    height: int
    width: int
    channels: int
    scale: np.float32
    zero_point: int
    tflite_tensor: int

    @property
    def positions(self) -> int:
        return self.height * self.width

    @property
    def elements(self) -> int:
        return self.positions * self.channels


@dataclass(frozen=True, slots=True)
class OpPlan:
    """What the planner decided for one op."""

    train_bias: bool = False
    train_weights: bool = False
    to_input: bool = False  # backward goes on to the input
    records_mask: bool = False
    gradient_unit: float = 0.0  # C of the output's gradient; 0: no gradient
    fraction_bits: int = 0  # F of the bias deltas
    bias_param: int = NONE  # adapter offsets
    weight_param: int = NONE
    bias_state: int = NONE  # optimiser state offsets
    weight_state: int = NONE

    @property
    def trained(self) -> bool:
        return self.train_bias or self.train_weights


class SectionWriter:
    """Collects the image's sections behind its fixed tables; each starts at a multiple of 4."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._content = bytearray()
        self._known: dict[bytes, int] = {}

    def add(self, content: bytes) -> int:
        """Offset of `content` in the image; equal sections (weights of a shared layer) are kept once."""
        if content in self._known:
            return self._known[content]
        offset = self._start + len(self._content)
        self._content += content + bytes(-len(content) % 4)
        self._known[content] = offset
        return offset

    @property
    def content(self) -> bytes:
        return bytes(self._content)


@dataclass(frozen=True, slots=True)
class ImageOp(ABC):
    """One op of the image. `input` and `output` are indices of the image's activations."""

    source: int  # index of the operator in the .tflite
    name: str
    input: int
    output: int

    @property
    @abstractmethod
    def kind(self) -> str:
        """Name of the operator as in the `.tflite` schema."""

    @property
    @abstractmethod
    def macs(self) -> int:
        """Multiplications of one inference."""

    @property
    def has_backward(self) -> bool:
        """Whether gradients can pass through this op."""
        return False

    @property
    def outputs(self) -> int:
        """Trainable biases, 0 for an op without parameters."""
        return 0

    @property
    def inputs(self) -> int:
        """Weights of one output."""
        return 0

    @property
    def reads(self) -> tuple[int, ...]:
        """Activations that the forward pass reads."""
        return (self.input,)

    @property
    def parameters(self) -> tuple[int, int]:
        """(weight, bias) tensors of the .tflite, -1 where there is none."""
        return -1, -1

    @property
    def gradient_gain(self) -> float:
        """C of the input's gradient over C of the output's."""
        return 1.0

    def mantissa_bits(self, plan: OpPlan) -> int:
        """Widest mantissa of the output's gradient that cannot overflow the way to the input."""
        return 15

    def fraction_bits(self) -> int:
        """F of the bias deltas."""
        raise NotImplementedError

    def reads_input_backward(self, plan: OpPlan) -> bool:
        """Whether the backward pass reads the op's input, which must then survive until it."""
        return plan.train_weights

    def keeps_gradient(self, plan: OpPlan) -> bool:
        """Whether backward needs room for a second copy of the output's mantissas, behind them."""
        return False

    def scratch_bytes(self, plan: OpPlan) -> int:
        """Arena bytes that only live during this op's forward and backward."""
        return 0

    @abstractmethod
    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        """The op's record (SPEC 1.3); everything it points to goes to `sections`."""


def pack_op(
    *,
    opcode: int,
    flags: int,
    input: int,
    output: int,
    act_range: tuple[int, int] = (-128, 127),
    offsets: tuple[int, int, int, int] = (0, 0, 0, 0),
    plan: OpPlan | None = None,
    training: int = 0,
    words: tuple[int, ...] = (),
) -> bytes:
    """An op record of 64 bytes; `offsets` are weights, bias, multipliers, shifts."""
    plan = plan or OpPlan()
    padded = [w & 0xFFFFFFFF for w in words] + [0] * (6 - len(words))
    return struct.pack(
        "<BBHHHbbH7I6I",
        opcode,
        flags,
        input,
        NO_TENSOR,
        output,
        *act_range,
        0,
        *offsets,
        plan.bias_param,
        plan.weight_param,
        training,
        *padded,
    )


@dataclass(frozen=True, slots=True)
class Lowering:
    """What an operator may look at while it lowers itself."""

    model: TfliteModel
    operator: Operator
    # Index of the activation that a tensor of the file lives in; makes it on first use.
    activation: Callable[[int], int]
    activations: list[Activation]

    def refuse(self, what: str, hint: str) -> KilotuneError:
        return KilotuneError("unsupported_model", f"{self.model.describe(self.operator)} {what}", hint)

    def tensor(self, i: int) -> Tensor:
        """The operator's i-th input."""
        index = self.operator.input(i)
        if index < 0:
            raise self.refuse(f"has no input {i}", "the file is damaged: convert the model again")
        return self.model.tensors[index]

    def output_tensor(self) -> Tensor:
        if len(self.operator.outputs) != 1:
            raise self.refuse(f"has {len(self.operator.outputs)} outputs", "one is supported")
        return self.model.tensors[self.operator.outputs[0]]
