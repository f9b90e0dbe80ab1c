"""Reads JSON objects into dataclasses of plain values; checks that every field is present and has the right type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

from kilotune.terms import Loss, Method, known

_WORDS = {"Loss": Loss, "Method": Method}
LARGEST = 0xFFFFFFFF


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


# By the declared type: whether a value is one.
_KINDS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "int": _is_int,
    "tuple[int, ...]": lambda value: isinstance(value, (list, tuple)) and all(map(_is_int, value)),
    "float": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "Loss": lambda value: known(Loss, value) is not None,
    "Method": lambda value: known(Method, value) is not None,
}


def typed(cls: type, data: object, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """`data` as keyword arguments of the dataclass `cls`: exactly its fields, each of its declared type.

    Integers have at most 32 bits; words become members of their enumeration. Raises ValueError, with a text that
    completes "the file ...".
    """
    if not isinstance(data, dict):
        raise ValueError(f"holds a {type(data).__name__} instead of an object")
    kinds = {f.name: str(f.type) for f in fields(cls) if f.name not in without}
    if set(data) != set(kinds):
        raise ValueError(f"has missing or unknown fields: {sorted(map(str, set(data) ^ set(kinds)))[:5]}")
    found = dict(data)
    for name, kind in kinds.items():
        value = data[name]
        if not _KINDS[kind](value):
            raise ValueError(f"has the wrong value {value!r:.40} for '{name}'")
        if kind == "tuple[int, ...]":
            found[name] = tuple(value)
        elif kind in _WORDS:
            found[name] = known(_WORDS[kind], value)
    return found
