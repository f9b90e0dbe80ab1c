"""One vocabulary: the words and numbers of the tools are those of the firmware, and each has one spelling."""

from __future__ import annotations

import re
from enum import Enum

import pytest
from kilotune import terms
from kilotune.errors import KilotuneError
from kilotune.terms import Loss, Method, Word, named, word_for, word_of, words

from tests.support.paths import ROOT

# The firmware's own spelling, where it is another.
SPELLINGS = {"cross_entropy": "classification"}
HOMES: dict[str, type[Enum]] = {
    "kernel/model.h Loss": terms.Loss,
}


def enumerators(header: str, name: str) -> dict[str, int]:
    """The members of a C++ enumeration with their values; kCamelCase as words: early_loss of kEarlyLoss."""
    text = re.sub(r"//[^\n]*", "", (ROOT / "firmware" / header).read_text(encoding="utf-8"))
    bodies = re.findall(rf"\benum (?:class )?{name} : uint8_t \{{([^}}]*)\}}", text)
    assert len(bodies) == 1, f"{header} defines {name} {len(bodies)} times"
    found: dict[str, int] = {}
    for member in filter(None, (m.strip() for m in bodies[0].split(","))):
        written, equals, value = member.partition("=")
        word = re.sub(r"(?<!^)([A-Z])", r"_\1", written.strip().removeprefix("k")).lower()
        found[SPELLINGS.get(word, word)] = int(value, 0) if equals else len(found)
    return found


def numbers(kind: type[Enum]) -> dict[str, int]:
    return {word_of(m): m.number if isinstance(m, Word) else int(m.value) for m in kind}


@pytest.mark.parametrize("home", HOMES)
def test_the_numbers_are_the_firmwares(home: str) -> None:
    header, name = home.split()
    assert enumerators(header, name) == numbers(HOMES[home])


def test_every_word_with_a_number_in_the_firmware_is_compared_with_it() -> None:
    defined = {kind for kind in vars(terms).values() if isinstance(kind, type) and issubclass(kind, Enum)}
    shared = {kind for kind in defined if kind.__module__ == terms.__name__ and len(kind)}
    assert shared - set(HOMES.values()) == {Method}  # of which the firmware only hands the number on


def test_methods_have_the_numbers_of_the_specification() -> None:
    text = (ROOT / "docs" / "SPEC.md").read_text(encoding="utf-8")
    listed = re.search(r"method: ((?:\d \S+,? ?)+)", text)
    assert listed is not None
    told = {word: int(number) for number, word in re.findall(r"(\d) ([a-z+]+)", listed[1])}
    assert {"none": 0} | told == numbers(Method)


def test_both_spellings_of_a_loss_name_one_member() -> None:
    assert named(Loss, "classification") is named(Loss, "cross_entropy") is Loss.classification
    assert str(Loss.classification) == f"{Loss.classification}" == "classification"
    assert named(Loss, Loss.regression) is Loss.regression


@pytest.mark.parametrize("kind", [Loss, Method, terms.Scorer, terms.Guard])
def test_a_word_that_is_none_is_refused_with_those_that_are(kind: type[Enum]) -> None:
    for word in ("", "Bias", "0", "residual ", "__class__"):
        with pytest.raises(KilotuneError) as refused:
            named(kind, word)
        assert refused.value.code == "bad_argument"
        assert all(known in refused.value.hint for known in words(kind))


def test_numbers_that_a_newer_device_may_tell_are_shown_as_numbers() -> None:
    assert [word_for(Loss, n) for n in (0, 3, 9)] == ["none", "classification", "loss 9"]
    assert [word_for(Method, n) for n in (0, 3, 9)] == ["none", "bias+head", "method 9"]
