"""For C++: the numbers of the schema that have names, and for the fuzzer what requests are made of."""

from __future__ import annotations

import textwrap

from generator.requests import Request
from generator.rules import Choices, Number, Rule, Scalar, Schema, camel, snake

_COLUMNS = 100
_HEAD = """\
// Numbers of the wire that have names. Made by the build from firmware/schema/messages.cddl: change that.
#ifndef KILOTUNE_SCHEMA_TERMS_H_
#define KILOTUNE_SCHEMA_TERMS_H_

#include <cstdint>

namespace kilotune {
"""
_TAIL = """
}  // namespace kilotune

#endif  // KILOTUNE_SCHEMA_TERMS_H_
"""
_SHAPES = """\
// What requests are made of, for the fuzzer. Made by the build from firmware/schema: change that.
#ifndef KILOTUNE_SCHEMA_SHAPES_H_
#define KILOTUNE_SCHEMA_SHAPES_H_

#include <cstdint>
#include <string_view>

namespace kilotune {

struct FieldShape {
  std::string_view name;
  char type;       // u: from 0 on, i: negative too, b: bytes
  uint32_t bytes;  // as many at most; 0: no limit
};
"""
_SHAPES_TAIL = """
}  // namespace kilotune

#endif  // KILOTUNE_SCHEMA_SHAPES_H_
"""


def header(schema: Schema) -> str:
    numbers = [_constant(number) for number in schema.numbers]
    sizes = [
        _constant(Number(name, scalar.high))
        for name, scalar in schema.scalars.items()
        if scalar.base == "bytes" and name.endswith("-bytes") and scalar.high is not None
    ]
    parts = ["\n".join(numbers + sizes), *(_enum(choices) for choices in schema.choices.values())]
    return _HEAD + "\n" + "\n\n".join(parts) + "\n" + _TAIL


def _constant(number: Number) -> str:
    small = number.value <= 0xFF and not number.name.endswith("-bytes")
    line = f"constexpr uint{8 if small else 32}_t k{camel(number.name)} = {number.value}{'' if small else 'u'};"
    return f"{line}  // {number.doc.behind}" if number.doc.behind else line


def _enum(choices: Choices) -> str:
    """Flags are plain numbers, to be joined by |."""
    lines = textwrap.wrap(choices.doc, _COLUMNS - 3)
    text = [*(f"// {line}" for line in lines)]
    text.append(f"enum {'' if choices.flags else 'class '}{camel(choices.name)} : uint8_t {{")
    for member, value in choices.values():
        name = f"k{camel(member.name)}" if choices.flags else snake(member.name)
        text.append(f"  {name} = {value}," + (f"  // {member.doc.behind}" if member.doc.behind else ""))
    text.append("};")
    if choices.flags:
        text.append(f"constexpr uint32_t k{camel(choices.name)}Count = {len(choices.members)};")
    return "\n".join(text)


def shapes(schema: Schema, requests: list[Request]) -> str:
    """The fields of every request, groups laid out."""
    rules = [rule for rule in schema.rules.values() if rule.name.endswith("-request")]
    parts = [_fields(rule, schema) for rule in rules]
    rows = [
        f"    {{{r.number}, {_array(r.request) if r.request else 'nullptr'}, {_count(r, schema)}}},  // {r.name}"
        for r in requests
    ]
    table = ["struct RequestShape {", "  uint8_t kind;", "  const FieldShape* fields;", "  uint32_t count;", "};"]
    table += ["constexpr RequestShape kRequestShapes[] = {", *rows, "};"]
    return _SHAPES + "\n" + "\n".join([*parts, *table]) + "\n" + _SHAPES_TAIL


def _array(rule: str) -> str:
    return f"k{camel(rule)}Fields"


def _count(request: Request, schema: Schema) -> int:
    return len(_laid_out(schema.rules[request.request], schema)) if request.request else 0


def _laid_out(rule: Rule, schema: Schema) -> list[tuple[str, Scalar]]:
    found: list[tuple[str, Scalar]] = []
    for member in rule.fields:
        if isinstance(member.type, str):
            found += _laid_out(schema.rules[member.type], schema)
        else:
            found.append((member.name, member.type))
    return found


def _fields(rule: Rule, schema: Schema) -> str:
    lines = [f"constexpr FieldShape {_array(rule.name)}[] = {{"]
    for name, scalar in _laid_out(rule, schema):
        number = "i" if (scalar.low or 0) < 0 else "u"
        size = 0 if scalar.base == "int" else scalar.high or 0
        lines.append(f"    {{\"{name}\", '{number if scalar.base == 'int' else 'b'}', {size}}},")
    return "\n".join([*lines, "};"])
