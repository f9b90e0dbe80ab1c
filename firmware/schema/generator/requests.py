"""requests.def as typed rows, held against the schema."""

from __future__ import annotations

import re
from dataclasses import dataclass

from generator.rules import Schema, SchemaError, snake

_ROW = re.compile(
    r"^KILOTUNE_REQUEST\((?P<number>\d+), (?P<name>[a-z]\w*), (?P<request>\w+), (?P<answer>\w+), (?P<access>\w+), "
    r'(?P<needs>\w+), (?P<effects>0|\w+(?: \| \w+)*), "(?P<text>[^"]+)"\)$'
)
_NONE = "none"
_ACCESS, _NEEDS, _EFFECTS = ("anyone", "reader", "owner"), ("model", "nothing"), ("kHolds", "kSteers")
_MOST = 0x3F  # the two highest bits of a kind say what the message is
_ERROR = "error-answer"


@dataclass(frozen=True)
class Request:
    number: int
    name: str
    request: str  # rule of the schema; empty: no fields
    answer: str
    access: str
    needs_model: bool
    holds: bool
    steers: bool
    text: str


def read_requests(text: str, schema: Schema) -> list[Request]:
    """Every row; SchemaError names the first that is wrong, or a message that no row is about."""
    requests: list[Request] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line or line.startswith("//"):
            continue
        row = _ROW.match(line)
        if row is None:
            raise SchemaError(f"requests.def:{number}: this is no KILOTUNE_REQUEST(...) as the first lines have it")
        requests.append(_checked(row, schema, requests))
    used = {_ERROR} | {rule for r in requests for rule in (r.request, r.answer)}
    unused = [rule.name for rule in schema.rules.values() if rule.is_message and rule.name not in used]
    if unused:
        raise SchemaError(f"requests.def: no request is about '{unused[0]}' of messages.cddl")
    return requests


def _checked(row: re.Match[str], schema: Schema, before: list[Request]) -> Request:
    name, number = row["name"], int(row["number"])

    def one_of(column: str, known: tuple[str, ...]) -> str:
        if row[column] not in known:
            raise SchemaError(f"requests.def: {name}: {column} is '{row[column]}', not {' or '.join(known)}")
        return row[column]

    def rule(column: str) -> str:
        if row[column] == _NONE:
            return ""
        for known in schema.rules.values():
            if known.is_message and snake(known.name) == row[column] and known.name.endswith(f"-{column}"):
                return known.name
        raise SchemaError(f"requests.def: {name}: there is no {column} '{row[column]}' in messages.cddl")

    if not 1 <= number <= _MOST:
        raise SchemaError(f"requests.def: {name}: the number is {number}, not 1 to {_MOST}")
    for other in before:
        if other.number == number or other.name == name:
            raise SchemaError(f"requests.def: {name}: '{other.name}' has its number or name already")
    effects = [] if row["effects"] == "0" else row["effects"].split(" | ")
    wrong = [effect for effect in effects if effect not in _EFFECTS]
    if wrong:
        raise SchemaError(f"requests.def: {name}: effects are {' | '.join(_EFFECTS)} or 0, not '{wrong[0]}'")
    return Request(
        number=number,
        name=name,
        request=rule("request"),
        answer=rule("answer"),
        access=one_of("access", _ACCESS),
        needs_model=one_of("needs", _NEEDS) == "model",
        holds="kHolds" in effects,
        steers="kSteers" in effects,
        text=row["text"],
    )
