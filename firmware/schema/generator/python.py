"""The schema as two Python modules: its words with their numbers, and its messages."""

from __future__ import annotations

import json
import textwrap

from generator.requests import Request
from generator.rules import Choices, Doc, Field, Rule, Scalar, Schema, camel, snake

_COLUMNS = 120
_INT64 = (1 << 63) - 1  # msgspec knows no higher limit
_TERMS = '''\
"""The words of the wire and their numbers.

Made by the build from firmware/schema/messages.cddl: change that.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
'''
_HEAD = '''\
"""Messages, and the numbers in them that have names.

Made by the build from firmware/schema/messages.cddl and requests.def: change those.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import msgspec

from kilotune.wire_terms import (
{words})
'''
_REQUEST = '''\
class Access(IntEnum):
    """Who may ask for it on a locked device."""

    anyone = 0
    reader = 1  # anyone, unless reading is closed
    owner = 2  # who has the key


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What holds for one kind of request."""

    fields: type | None  # of the request; None: it has none
    answer: type | None
    access: Access
    needs_model: bool  # it is refused where there is none
    holds: bool  # it leaves something in the device that the host comes back to
    steers: bool  # it takes over what the device has learned by itself
    doing: str  # what it asks for, to complete "the device refused to ..."'''


def terms(schema: Schema) -> str:
    """The enumerations, on the ground of the package: every part of it shares them."""
    return _TERMS + "\n\n" + "\n\n\n".join(_enum(choices) for choices in schema.choices.values()) + "\n"


def module(schema: Schema, requests: list[Request]) -> str:
    classes = [rule for rule in schema.rules.values() if not rule.sole_group]
    parts = [
        _constants(schema),
        _kinds(requests),
        *(_message(rule, schema) for rule in classes),
        _REQUEST,
        _table(requests, schema),
    ]
    words = "".join(f"    {name},\n" for name in sorted(choices.class_name for choices in schema.choices.values()))
    return _HEAD.format(words=words) + "\n" + _exported(schema, classes) + "\n" + "\n\n\n".join(parts) + "\n"


def _exported(schema: Schema, classes: list[Rule]) -> str:
    names = ["Access", "Kind", "REQUESTS", "Request"]
    names += [_upper(number.name) for number in schema.numbers]
    names += [_upper(name) for name in _sized(schema)] + [camel(name) for name in schema.scalars]
    names += [choices.class_name for choices in schema.choices.values()] + [rule.class_name for rule in classes]
    names.sort(key=lambda name: (not name.isupper(), name))
    return "__all__ = [\n" + "".join(f'    "{name}",\n' for name in names) + "]\n"


def _upper(name: str) -> str:
    return snake(name).upper()


def _sized(schema: Schema) -> dict[str, int]:
    """Byte strings whose longest size has a name."""
    found = ((n, s) for n, s in schema.scalars.items() if s.base == "bytes" and n.endswith("-bytes"))
    return {name: scalar.high for name, scalar in found if scalar.high is not None}


def _constants(schema: Schema) -> str:
    lines = [_commented(f"{_upper(n.name)} = {n.value}", n.doc) for n in schema.numbers]
    lines += [f"{_upper(name)} = {size}" for name, size in _sized(schema).items()]
    lines += [""] + [_commented(f"{camel(name)} = {_bare(s)}", s.doc) for name, s in schema.scalars.items()]
    return "\n".join(lines)


def _bare(scalar: Scalar) -> str:
    """The type with its limits written out."""
    low, high = ("ge", "le") if scalar.base == "int" else ("min_length", "max_length")
    limits = []
    if scalar.low is not None and (scalar.base == "int" or scalar.low > 0):
        limits.append(f"{low}={scalar.low}")
    if scalar.high is not None and scalar.high <= _INT64:
        limits.append(f"{high}={scalar.high}")
    return f"Annotated[{scalar.base}, msgspec.Meta({', '.join(limits)})]" if limits else scalar.base


def _kinds(requests: list[Request]) -> str:
    lines = ["class Kind(IntEnum):", '    """Of requests; that of an answer has `ANSWER` in it."""', ""]
    return "\n".join(lines + [f"    {request.name} = {request.number}" for request in requests])


def _enum(choices: Choices) -> str:
    lines = [f"class {choices.class_name}({'IntFlag' if choices.flags else 'IntEnum'}):"]
    lines += [*_docstring(choices.doc), ""] if choices.doc else []
    for member, value in choices.values():
        lines += _commented(f"    {snake(member.name)} = {value}", member.doc).splitlines()
    return "\n".join(lines)


def _message(rule: Rule, schema: Schema) -> str:
    lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", f"class {rule.class_name}:"]
    lines += [*_docstring(rule.doc), ""] if rule.doc else []
    for member in rule.fields:
        lines += _commented(f"    {member.name}: {_type(member, schema)}", member.doc).splitlines()
    return "\n".join(lines)


def _type(member: Field, schema: Schema) -> str:
    if isinstance(member.type, str):
        return schema.rules[member.type].class_name
    if member.type.choices:
        return schema.choices[member.type.choices].class_name
    return camel(member.type.alias) if member.type.alias else _bare(member.type)


def _table(requests: list[Request], schema: Schema) -> str:
    lines = ["REQUESTS: dict[Kind, Request] = {"]
    for request in requests:
        fields, answer = (schema.rule_of(r).class_name if r else "None" for r in (request.request, request.answer))
        lines += [
            f"    Kind.{request.name}: Request(",
            f"        fields={fields},",
            f"        answer={answer},",
            f"        access=Access.{request.access},",
            f"        needs_model={request.needs_model},",
            f"        holds={request.holds},",
            f"        steers={request.steers},",
            f"        doing={json.dumps(request.text)},",
            "    ),",
        ]
    return "\n".join([*lines, "}"])


def _docstring(doc: str) -> list[str]:
    doc = doc if doc.endswith(".") else f"{doc}."
    lines = textwrap.wrap(f'"""{doc}"""', _COLUMNS - 4)
    if len(lines) > 1:
        lines = [*textwrap.wrap(f'"""{doc}', _COLUMNS - 4), '"""']
    return [f"    {line}" for line in lines]


def _commented(line: str, doc: Doc) -> str:
    """What stands behind the line in the schema does so here where there is room."""
    indent = line[: len(line) - len(line.lstrip())]
    fits = len(line) + len("  # ") + len(doc.behind) <= _COLUMNS
    above = textwrap.wrap(doc.above if fits else f"{doc.above} {doc.behind}", _COLUMNS - 2 - len(indent))
    behind = f"  # {doc.behind}" if doc.behind and fits else ""
    return "\n".join([*(f"{indent}# {part}" for part in above), line + behind])
