"""The vocabulary: each word that image, compiler, device, command line, search and report share, written once.

The build generates the words that go over the wire from its schema (`wire_terms`). The others have the numbers of the
model image (docs/SPEC.md). Plain strings are converted to these enums at the public edge (`kilotune.compile`,
`Device.learn`, the command line, a file that is read) and nowhere else.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

from kilotune.errors import KilotuneError
from kilotune.wire_terms import (
    Acknowledgement,
    AlarmCause,
    Apart,
    Chip,
    Guard,
    Lock,
    Phase,
    Reason,
    Refusal,
    RestartCause,
    Scorer,
    StreamKind,
    WindowFlag,
)

__all__ = [
    "COUNTS_AT_FULL_SCALE",
    "FIXED_METHODS",
    "Q10",
    "Acknowledgement",
    "AlarmCause",
    "Apart",
    "Chip",
    "Guard",
    "Lock",
    "Loss",
    "Method",
    "Phase",
    "Reason",
    "Refusal",
    "RestartCause",
    "Scorer",
    "StreamKind",
    "WindowFlag",
    "Word",
    "known",
    "named",
    "word_for",
    "word_of",
    "words",
]

Q10 = 1024.0  # scores, losses and thresholds on the wire are log2 in 1/1024
COUNTS_AT_FULL_SCALE = 32768  # what a sample of a sensor's full scale counts


class Word(str, Enum):
    """A word as it is written in files and JSON, and its number in images and messages."""

    number: int

    def __new__(cls, word: str, number: int) -> Word:
        member = str.__new__(cls, word)
        member._value_ = word
        member.number = number
        return member

    def __str__(self) -> str:
        return str(self.value)


class Loss(Word):
    """The loss that training lowers; 0 on the wire means that nothing is trained."""

    reconstruction = "reconstruction", 1  # squared error to the model's own input
    regression = "regression", 2  # squared error to a given target
    classification = "classification", 3  # cross-entropy of a softmax to a class


class Method(Word):
    """Which parameters of a model the device trains."""

    none = "none", 0
    bias = "bias", 1
    head = "head", 2  # weights and biases of the last layer
    bias_and_head = "bias+head", 3
    lora = "lora", 4  # low-rank updates of the weights of whole layers
    channels = "channels", 5  # the weights of some channels
    chosen = "chosen", 6  # layer by layer, as a search or the caller decides


# Methods that need no further choice.
FIXED_METHODS = tuple(method for method in Method if method not in (Method.none, Method.chosen))


# Other common spellings.
_SYNONYMS = {"cross_entropy": Loss.classification.value}

Term = TypeVar("Term", bound=Enum)
Numbered = TypeVar("Numbered", bound=Word)


def words(kind: type[Term]) -> tuple[str, ...]:
    """The members as people write them."""
    return tuple(word_of(member) for member in kind)


def spellings(kind: type[Term]) -> tuple[str, ...]:
    """`words`, and their other spellings."""
    own = words(kind)
    return (*own, *(other for other, word in _SYNONYMS.items() if word in own))


def word_of(member: Enum) -> str:
    """One member as people write it, and as it is written in JSON."""
    return str(member) if isinstance(member, Word) else member.name


def known(kind: type[Term], word: object) -> Term | None:
    """The member that `word` names, in any spelling; None if it names none."""
    if isinstance(word, kind):
        return word
    text = _SYNONYMS.get(word, word) if isinstance(word, str) else None
    return next((member for member in kind if word_of(member) == text), None)


def named(kind: type[Term], word: Term | str) -> Term:
    """Like `known`, but raises KilotuneError `bad_argument` if `word` names no member."""
    found = known(kind, word)
    if found is None:
        hint = f"use one of {', '.join(words(kind))}"
        raise KilotuneError("bad_argument", f"there is no {kind.__name__.lower()} {word!r}", hint)
    return found


def word_for(kind: type[Numbered], number: int) -> str:
    """The word for a number from a device: "none" for 0; "method 9", say, for one that these tools do not know."""
    told = {0: "none"} | {member.number: str(member) for member in kind}
    return told.get(number, f"{kind.__name__.lower()} {number}")
