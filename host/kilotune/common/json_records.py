"""Reads JSON objects into dataclasses of plain values; checks that every field is present and has the right type."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from kilotune.terms import Loss, Method, known

_WORDS = {"Loss": Loss, "Method": Method}
LARGEST = 0xFFFFFFFF


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
    for name, kind in kinds.items():
        value = data[name]
        if kind == "tuple[int, ...]" and isinstance(value, (list, tuple)):
            data = {**data, name: tuple(value)}
        if kind in _WORDS:
            data = {**data, name: known(_WORDS[kind], value)}
        good = {
            "Loss": known(Loss, value) is not None,
            "Method": known(Method, value) is not None,
            "str": isinstance(value, str),
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST,
            "tuple[int, ...]": isinstance(value, (list, tuple))
            and all(isinstance(v, int) and not isinstance(v, bool) and abs(v) <= LARGEST for v in value),
            "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        }[kind]
        if not good:
            raise ValueError(f"has the wrong value {value!r:.40} for '{name}'")
    return dict(data)
