"""The plan of an image: what is trained, how gradients flow, and where everything is in memory."""

from __future__ import annotations

from dataclasses import dataclass

from kilotune.compiler.arena import Arena
from kilotune.image.layout import NONE
from kilotune.operators.base import OpPlan
from kilotune.terms import Loss, Method


@dataclass(frozen=True, slots=True)
class LossPlan:
    """The loss, as in the training section (SPEC 1.5)."""

    kind: Loss
    tensor: int  # activation whose gradient the loss gives
    a: int
    b: int
    unit: float  # C of that gradient
    classes: int
    logit_scale: float  # scale of the logits times beta of the SOFTMAX, 0 unless classification


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Backward runs from op `first_op` down to `last_op`."""

    method: Method
    loss: LossPlan
    first_op: int
    last_op: int
    adam: bool = False  # the optimiser


@dataclass(frozen=True, slots=True)
class GradientPlan:
    """Gradient of one activation."""

    mantissa_bits: int
    unit: float  # C
    masked: bool  # by a mask in the arena; the loss masks its own tensor
    place: int  # activation whose gradient's memory it uses; usually its own


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything in the image beyond the graph. `ops` and `gradients` are parallel to the graph's."""

    ops: tuple[OpPlan, ...]
    gradients: tuple[GradientPlan | None, ...]
    training: TrainingPlan | None
    arena: Arena
    adapter_bytes: int
    state_bytes: int
    reruns: tuple[tuple[int, int], ...] = ()  # (op before whose backward pass, op that runs again)

    def data_offset(self, activation: int) -> int:
        return self.arena.offsets[f"data {activation}"]

    def gradient_offset(self, activation: int) -> int:
        gradient = self.gradients[activation]
        return NONE if gradient is None else self.arena.offsets[f"gradient {gradient.place}"]

    def mask_offset(self, activation: int) -> int:
        return self.arena.offsets.get(f"mask {activation}", NONE)
