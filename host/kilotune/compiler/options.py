"""What can be asked of a compilation, in one value that library, search and command line pass on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from kilotune.errors import KilotuneError
from kilotune.image.base_profile import Profile
from kilotune.image.features import FeatureConfig
from kilotune.operators.adapted import MAX_RANK
from kilotune.terms import FIXED_METHODS, Loss, Method, named

DEFAULT_CHANNELS, DEFAULT_RANK = 4, 2
AUTO = "auto"  # for the loss: what suits the model

# Options that say what is trained, and the methods that look at them. A search decides all of these itself.
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
    """What is trained of one layer. `weights` without channels and rank: all of them."""

    bias: bool = False
    weights: bool = False
    channels: tuple[int, ...] = ()
    rank: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileOptions:
    """Everything that `kilotune.compile` takes beside the model. Raises KilotuneError `bad_argument`.

    None always means: as it is said beside the field.
    """

    method: Method = Method.bias

    # Which layers: the last so many (1 or more), or those with these names or numbers. None: all that gradients reach.
    last_layers: int | None = None
    layers: tuple[str | int, ...] | None = None

    # Of method channels: how many of each layer, those with the largest weights, or which, by layer. None: 4.
    channels: int | Mapping[str | int, Sequence[int]] | None = None

    # Of method lora: of the sums on the weights of dense layers and 1x1 convolutions, 1 to 8. None: 2.
    rank: int | None = None

    # Of method chosen: what of each op. None for all other methods.
    chosen: Mapping[int, LayerChoice] | None = None

    # What training lowers. None: what the model's metadata says, else what its shape suggests.
    loss: Loss | None = None

    # Optimiser state that the device reserves: for momentum, for gradients of several windows, or Adam's, which then
    # trains. Adam goes with neither of the others, and not with low-rank sums.
    momentum: bool = False
    accumulate: bool = False
    adam: bool = False

    # Activations that the backward pass reads are computed again for it where that makes the arena smaller: more
    # instructions, the same learned bits.
    recompute: bool = False

    # How windows become model inputs. None: what the model's metadata says; without any, it takes ready int8 inputs.
    features: FeatureConfig | None = None
    profile: Profile | None = None

    # Windows that the device keeps for training, held-back ones included: 1 to 255. A byte a model input each.
    reservoir: int = 32

    # Windows of the first learn phase that later ones are held to: 3 to `reservoir`, 0: none. As large.
    early: int = 0

    # Healthy windows that a device with a sensor and without a host learns from: 8 to 65,535, 0: it waits for a host.
    # None: twice the reservoir.
    alone_windows: int | None = None

    def __post_init__(self) -> None:
        unused = [name for name in self._given(_LOOKED_AT) if self.method not in _LOOKED_AT[name]]
        if unused:
            raise _refuse(f"method {self.method} takes no {unused[0]}", f"leave {unused[0]} out")
        if self.layers is not None and self.last_layers is not None:
            raise _refuse("layers and last_layers both say which", "give one of them")
        for name in self._given(("layers", "last_layers")) if isinstance(self.channels, Mapping) else ():
            raise _refuse(f"channels by layer and {name} both say which", "give one of them")
        if self.rank is not None and not 1 <= self.rank <= MAX_RANK:
            raise _refuse(f"the rank is {self.rank}", f"use 1 to {MAX_RANK}")
        if self.adam and self.optimiser_state:
            raise _refuse("Adam has a momentum of its own and does not accumulate", "choose one")

    @property
    def optimiser_state(self) -> bool:
        """Whether there is any but Adam's."""
        return self.momentum or self.accumulate

    def require_nothing_searched(self) -> None:
        """KilotuneError `bad_argument` where they say what a search is to find out."""
        for name in self._given(SEARCHED):
            raise _refuse(f"the search chooses what is trained, so it takes no {name}", f"leave {name} out")

    def require_used_without_features(self) -> None:
        """KilotuneError `bad_argument` where they are about windows of samples, and the model takes none."""
        for name in self._given(("reservoir", "early", "alone_windows")):
            raise _refuse(f"the model takes ready inputs, so it takes no {name}", f"leave {name} out")

    def _given(self, names: Mapping[str, object] | Sequence[str]) -> list[str]:
        """Those of `names` that are not at their defaults."""
        return [f.name for f in fields(self) if f.name in names and getattr(self, f.name) != f.default]


def loss_named(word: Loss | str) -> Loss | None:
    """What is asked for in words; None for "auto"."""
    return None if word == AUTO else named(Loss, word)


def _refuse(what: str, hint: str) -> KilotuneError:
    return KilotuneError("bad_argument", what, hint)
