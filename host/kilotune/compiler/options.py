"""All options of a compilation in one value, which library, search and command line share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from kilotune.errors import KilotuneError
from kilotune.image.base_profile import LifeSettings, Profile
from kilotune.image.features import FeatureConfig
from kilotune.operators.adapted import MAX_RANK
from kilotune.terms import FIXED_METHODS, Loss, Method, named

DEFAULT_CHANNELS, DEFAULT_RANK = 4, 2
AUTO = "auto"  # for the loss: what suits the model

# Options that say what is trained, and the methods that use them. A search decides all of these itself.
_LAYERED = (Method.bias, Method.bias_and_head, Method.lora, Method.channels)
_WHAT = {
    "channels": (Method.channels,),
    "rank": (Method.lora,),
    "layers": _LAYERED,
    "last_layers": _LAYERED,
    "chosen": (Method.chosen,),
}
SEARCHED = ("method", *_WHAT)
_TRAINING = (*FIXED_METHODS, Method.chosen)
_LOOKED_AT = _WHAT | dict.fromkeys(("momentum", "accumulate", "adam"), _TRAINING)


@dataclass(frozen=True, slots=True)
class LayerChoice:
    """What to train in one layer. `weights` without channels and rank: all weights."""

    bias: bool = False
    weights: bool = False
    channels: tuple[int, ...] = ()
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """All options of `kilotune.compile`. Raises KilotuneError `bad_argument`.

    The comment of a field says what None means for it.
    """

    method: Method = Method.bias

    # Layers to train: this many, counted from the last (1 or more), or these names or numbers. None: all that gradients
    # reach.
    last_layers: int | None = None
    layers: tuple[str | int, ...] | None = None

    # For method channels: how many per layer (those with the largest weights), or which ones in each layer. None: 4.
    channels: int | Mapping[str | int, Sequence[int]] | None = None

    # For method lora: rank of the updates of the weights of dense layers and 1x1 convolutions, 1 to 8. None: 2.
    rank: int | None = None

    # For method chosen: what to train in each op. None for all other methods.
    chosen: Mapping[int, LayerChoice] | None = None

    # Loss to train with. None: the one in the model's metadata, else the one that its shape suggests.
    loss: Loss | None = None

    # Optimiser state that the device reserves: for momentum, for gradients of several windows, or for Adam, with which
    # it then trains. Adam cannot be combined with the other two, nor with low-rank updates.
    momentum: bool = False
    accumulate: bool = False
    adam: bool = False

    # Recompute activations for the backward pass where that makes the arena smaller: more instructions, the same
    # learned bits.
    recompute: bool = False

    # How windows become model inputs. None: as in the model's metadata; without any, it takes ready int8 inputs.
    features: FeatureConfig | None = None
    profile: Profile | None = None

    # Windows that the device keeps for training, including those held back: 1 to 255. Each takes one byte per input.
    reservoir: int = 32

    # Windows of the first learn phase kept as a check on later ones: 3 to `reservoir`, or 0 for none. The same size.
    early: int = 0

    # Healthy windows that a device with a sensor learns from without a host: 8 to 65,535, or 0 to wait for a host.
    # None: twice the reservoir; those of the first phase, where the device goes on learning.
    alone_windows: int | None = None

    # How the device goes on learning after its first phase. None: it learns once. "auto": as usual, if it can at all.
    life: LifeSettings | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        unused = [name for name in self._given(_LOOKED_AT) if self.method not in _LOOKED_AT[name]]
        if unused:
            raise _refuse(f"method {self.method} takes no {unused[0]}", f"omit {unused[0]}")
        if self.layers is not None and self.last_layers is not None:
            raise _refuse("layers and last_layers both say which layers to train", "give one of them")
        for name in self._given(("layers", "last_layers")) if isinstance(self.channels, Mapping) else ():
            raise _refuse(f"channels by layer and {name} both say which layers to train", "give one of them")
        if self.rank is not None and not 1 <= self.rank <= MAX_RANK:
            raise _refuse(f"the rank is {self.rank}", f"use 1 to {MAX_RANK}")
        if self.adam and self.optimiser_state:
            raise _refuse("Adam has a momentum of its own and does not accumulate", "choose one")

    @property
    def optimiser_state(self) -> bool:
        """Whether there is optimiser state other than Adam's."""
        return self.momentum or self.accumulate

    def require_nothing_searched(self) -> None:
        """Raises KilotuneError `bad_argument` if the options fix what a search has to find."""
        for name in self._given(SEARCHED):
            raise _refuse(f"the search chooses what is trained, so it takes no {name}", f"omit {name}")

    def require_used_without_features(self) -> None:
        """Raises KilotuneError `bad_argument` for options about windows of samples, if the model takes none."""
        names = ("reservoir", "early", "alone_windows") + (() if self.life == AUTO else ("life",))
        for name in self._given(names):
            raise _refuse(f"the model takes ready inputs, so it takes no {name}", f"omit {name}")

    def life_with(self, loss: Loss) -> LifeSettings | None:
        """How a device goes on learning whose model takes features and has this loss."""
        if self.life == "auto":
            return LifeSettings() if loss is Loss.reconstruction else None
        return self.life

    def _given(self, names: Mapping[str, object] | Sequence[str]) -> list[str]:
        """The options among `names` that differ from their defaults."""
        return [f.name for f in fields(self) if f.name in names and getattr(self, f.name) != f.default]


def loss_named(word: Loss | str) -> Loss | None:
    """The loss that `word` names; None for "auto"."""
    return None if word == AUTO else named(Loss, word)


def _refuse(what: str, hint: str) -> KilotuneError:
    return KilotuneError("bad_argument", what, hint)
