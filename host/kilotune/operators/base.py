"""Base classes of the compiler's operators. An operator lowers itself, says what its training needs, and writes its
entry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from kilotune.errors import KilotuneError
from kilotune.image.layout import BIAS_TRAINED, NO_TENSOR, NONE, WEIGHTS_TRAINED, OpEntry, OpTraining, pack_words
from kilotune.image.real16 import is_power_of_two, pack_factor, pack_real
from kilotune.tflite.model import Operator, Tensor, TfliteModel

# Flags of an op (SPEC 1.3), beside those of image/layout.py.
PER_CHANNEL = 4
RECORDS_MASK = 8
BACKWARD_TO_INPUT = 16
ADDS_TO_INPUT = 32
BACKWARD_TO_INPUT2 = 64
ADDS_TO_INPUT2 = 128


@dataclass(frozen=True, slots=True)
class Activation:
    """One int8 tensor of the image, (height, width, channels); tensors that only reshape it share it."""

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

    @property
    def extents(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels


@dataclass(frozen=True, slots=True)
class OpPlan:
    """What the planner decided for one op."""

    train_bias: bool = False
    train_weights: bool = False  # all of them, unless one of the next two fields says which
    channels: tuple[int, ...] = ()
    rank: int = 0  # of an update of all of them
    start: bytes = b""  # start values of its factor A, int8 (rank, in)
    sends: tuple[bool, ...] = ()  # for each activation that the op reads: whether backward continues to it
    adds: tuple[bool, ...] = ()  # ... and adds to what another op has sent before
    factors: tuple[float, ...] = ()  # ... times this
    in_place: bool = False  # the first input's gradient overwrites the output's
    in_triples: bool = False  # a faster backward pass through a window, with more scratch
    records_mask: bool = False
    gradient_unit: float = 0.0  # C of the output's gradient; 0: no gradient
    fraction_bits: int = 0  # F of the bias deltas
    bias_param: int = NONE  # adapter offsets
    weight_param: int = NONE
    bias_state: int = NONE  # optimiser state offsets
    weight_state: int = NONE
    scratch: int = NONE  # arena offsets
    backward_scratch: int = NONE

    @property
    def to_input(self) -> bool:
        return any(self.sends)

    @property
    def sums(self) -> bool:
        """Whether a gradient that it sends must be scaled, or added to another."""
        return any(self.adds) or not all(is_power_of_two(f) for f in self.factors)

    @property
    def adapted(self) -> bool:
        """Whether weights are partly trained; the device has a separate operator for such layers."""
        return bool(self.channels) or self.rank > 0

    @property
    def trained(self) -> bool:
        return self.train_bias or self.train_weights


class SectionWriter:
    """Collects the image's sections after its fixed tables; each starts at a multiple of 4."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._content = bytearray()
        self._known: dict[bytes, int] = {}

    def add(self, content: bytes) -> int:
        """Offset of `content` in the image. Equal sections (weights of a shared layer) are stored once."""
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
        """Number of trainable biases; 0 for an op without parameters."""
        return 0

    @property
    def inputs(self) -> int:
        """Number of weights per output."""
        return 0

    @property
    def reads(self) -> tuple[int, ...]:
        """Activations that the forward pass reads."""
        return (self.input,)

    @property
    def parameters(self) -> tuple[int, int]:
        """(weight, bias) tensors of the .tflite; -1 for none."""
        return -1, -1

    @property
    def trains_weights(self) -> bool:
        """Whether all of its weights can be trained."""
        return False

    @property
    def adapts_weights(self) -> bool:
        """Whether the weights of some channels, or a low-rank update, can be trained."""
        return False

    @property
    def pointwise(self) -> bool:
        """Whether it is a dense layer, or one at each position."""
        return False

    @property
    def clamps(self) -> bool:
        """Whether outputs may be clamped to `act_range`; no gradient passes where they are."""
        return True

    @property
    def gradient_gain(self) -> float:
        """C of the input's gradient over C of the output's."""
        return 1.0

    @property
    def gradient_gains(self) -> tuple[float, ...]:
        """The same for each of `reads`."""
        return (self.gradient_gain,) * len(self.reads)

    def mantissa_bits(self, plan: OpPlan) -> int:
        """Widest mantissa of the output's gradient that cannot overflow on the way to the input."""
        return 15

    def fraction_bits(self) -> int:
        """F of the bias deltas."""
        raise NotImplementedError

    def reads_input_backward(self, plan: OpPlan) -> bool:
        """Whether the backward pass reads the op's inputs, so that they must be kept until then."""
        return plan.train_weights

    def keeps_gradient(self, plan: OpPlan) -> bool:
        """Whether the backward pass needs room for a second copy of the output's mantissas, after them."""
        return False

    def overwrites(self, activations: Sequence[Activation]) -> tuple[tuple[int, int], ...]:
        """Inputs that the forward pass may overwrite with its output while it reads them, and how many bytes after
        the output each must then begin."""
        return ()

    def can_share(self, activations: Sequence[Activation]) -> bool:
        """Whether the first input's gradient may be written over the output's, position by position."""
        return False

    def fits_triples(self, activations: Sequence[Activation], plan: OpPlan) -> bool:
        """Whether the device can pass the gradient on in triples of rows (SPEC 1.3)."""
        return False

    def scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        """Arena bytes needed during this op's forward pass only."""
        return 0

    def backward_scratch_bytes(self, activations: Sequence[Activation], plan: OpPlan) -> int:
        """Arena bytes needed during this op's backward pass only: int32 values of one position."""
        return 4 * max(activations[i].channels for i in self.reads) if plan.to_input else 0

    @abstractmethod
    def write(self, sections: SectionWriter, plan: OpPlan) -> bytes:
        """The op's entry in the image; everything it points to is added to `sections`."""


@dataclass(frozen=True, slots=True)
class ParameterFree(ImageOp):
    """An operator without weights and biases that gradients can pass."""

    operator: str  # name as in the `.tflite` schema

    @property
    def kind(self) -> str:
        return self.operator

    @property
    def macs(self) -> int:
        return 0

    @property
    def has_backward(self) -> bool:
        return True


def flags_of(plan: OpPlan, *, per_channel: bool = False) -> int:
    """Flags of an op's entry, with the first two of `sends` and `adds`."""
    sends, adds = (*plan.sends, False, False), (*plan.adds, False, False)
    return (
        BIAS_TRAINED * plan.train_bias
        | WEIGHTS_TRAINED * plan.train_weights
        | PER_CHANNEL * per_channel
        | RECORDS_MASK * plan.records_mask
        | BACKWARD_TO_INPUT * sends[0]
        | ADDS_TO_INPUT * adds[0]
        | BACKWARD_TO_INPUT2 * sends[1]
        | ADDS_TO_INPUT2 * adds[1]
    )


def write_training(
    sections: SectionWriter, plan: OpPlan, *, kb: bytes = b"", ratio: float = 1.0, rescale: int = 0
) -> int:
    """Offset of the op's training entry in the image; 0 if no gradient reaches it."""
    if not plan.gradient_unit:
        return 0
    factors = (*plan.factors, 1.0, 1.0)
    entry = OpTraining(
        kb=sections.add(kb or pack_real(1.0)),
        ratio=pack_real(ratio),
        rescale=rescale,
        fraction_bits=plan.fraction_bits,
        gradient_unit=plan.gradient_unit,
        bias_state=plan.bias_state,
        weight_state=plan.weight_state,
        scratch=plan.backward_scratch,
        factor=pack_factor(factors[0]),
        factor2=pack_factor(factors[1]),
    )
    return sections.add(entry.pack())


def pack_op(
    *,
    opcode: int,
    flags: int,
    input: int,
    output: int,
    input2: int = NO_TENSOR,
    act_range: tuple[int, int] = (-128, 127),
    offsets: tuple[int, int, int, int] = (0, 0, 0, 0),
    plan: OpPlan | None = None,
    training: int = 0,
    words: tuple[int, ...] = (),
) -> bytes:
    """An op's entry; `offsets` are weights, bias, multipliers, shifts."""
    plan = plan or OpPlan()
    weights, bias, multipliers, shifts = offsets
    entry = OpEntry(
        opcode=opcode,
        flags=flags,
        input=input,
        input2=input2,
        output=output,
        act_min=act_range[0],
        act_max=act_range[1],
        weights=weights,
        bias=bias,
        multipliers=multipliers,
        shifts=shifts,
        bias_param=plan.bias_param,
        weight_param=plan.weight_param,
        training=training,
        word_bytes=pack_words(words),
    )
    return entry.pack()


Extents = tuple[int, int, int]  # height, width, channels
MAX_EXTENT = 65535  # an image holds each in 16 bits


@dataclass(frozen=True, slots=True)
class Lowering:
    """What an operator can read while it lowers itself, and the ops that it needs before its last one."""

    model: TfliteModel
    operator: Operator
    # Index of the activation that holds a tensor of the file; created on first use.
    activation: Callable[[int], int]
    activations: list[Activation]
    emitted: list[ImageOp] = field(default_factory=list)

    def emit(self, op: ImageOp) -> int:
        """Adds an op before the operator's last one; returns the activation that it writes."""
        self.emitted.append(op)
        return op.output

    def temporary(self, extents: Extents, scale: np.float32, zero_point: int) -> int:
        """A new activation between two ops of this operator, without a tensor in the file."""
        if not all(1 <= n <= MAX_EXTENT for n in extents):
            raise self.refuse(
                f"needs its values as {' x '.join(str(n) for n in extents)} in between",
                f"an extent of up to {MAX_EXTENT} is supported: make its tensors smaller",
            )
        name = f"{self.output_name}, part {len(self.emitted) + 1}"
        self.activations.append(Activation(name, *extents, scale, zero_point, -1))
        return len(self.activations) - 1

    @property
    def output_name(self) -> str:
        return self.model.tensors[self.operator.outputs[0]].short_name if self.operator.outputs else "?"

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
