"""messages.cddl as typed rules: types and ranges by zcbor's parser, documentation from the comments."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from zcbor import DataTranslator

_RULE = re.compile(r"^([a-z][\w-]*) = ")
_CHOICES = re.compile(r"^([a-z][\w-]*) = &\(", re.MULTILINE)
_MEMBER = re.compile(r"([a-z][\w-]*)\s*(?=[:,)]|$)")
_NAMED = re.compile(r"^([A-Z][A-Za-z]*): ")
_CODE = "-code"  # an enumeration as the device reads it: any byte
_MESSAGE = re.compile(r"-(request|answer)$")


class SchemaError(Exception):
    """What is wrong with messages.cddl or requests.def, and in which line or rule."""


@dataclass(frozen=True)
class Doc:
    """Comments: on lines of their own, and behind what they are about."""

    above: str = ""
    behind: str = ""


@dataclass(frozen=True)
class Number:
    name: str
    value: int
    doc: Doc = Doc()


@dataclass(frozen=True)
class Scalar:
    """An integer from `low` to `high`, or a string of `low` to `high` bytes; None: without a limit."""

    base: str  # int, bytes, str
    low: int | None
    high: int | None
    alias: str = ""  # the rule that it comes from
    choices: str = ""  # the enumeration that its values have names in
    doc: Doc = Doc()


@dataclass(frozen=True)
class Field:
    name: str
    type: Scalar | str  # str: a group of fields
    doc: Doc


@dataclass(frozen=True)
class Choices:
    """Numbers with names; of `flags`, each is a bit."""

    name: str
    class_name: str
    doc: str
    members: tuple[Number, ...]
    flags: bool

    def values(self) -> Iterator[tuple[Number, int]]:
        for member in self.members:
            yield member, 1 << member.value if self.flags else member.value


@dataclass(frozen=True)
class Rule:
    """A message, or a group of fields in messages."""

    name: str
    class_name: str
    doc: str
    fields: tuple[Field, ...]
    is_message: bool

    @property
    def sole_group(self) -> str:
        """The group that is all there is to the message, which is no class of its own then."""
        return self.fields[0].type if len(self.fields) == 1 and isinstance(self.fields[0].type, str) else ""


@dataclass
class Schema:
    numbers: list[Number] = field(default_factory=list)
    scalars: dict[str, Scalar] = field(default_factory=dict)
    choices: dict[str, Choices] = field(default_factory=dict)
    rules: dict[str, Rule] = field(default_factory=dict)

    def rule_of(self, name: str) -> Rule:
        """The rule whose class a message is."""
        rule = self.rules[name]
        return self.rules[rule.sole_group] if rule.sole_group else rule


def camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in name.replace("_", "-").split("-"))


def snake(name: str) -> str:
    return name.replace("-", "_")


def device_cddl(text: str) -> str:
    """The schema for zcbor. Enumerations and flags are bytes there: a request with a value that has no name is a
    good message, and refused as `bad_argument` by what knows the names."""
    plain = re.sub(r";.*", "", text)
    plain = re.sub(r"uint \.bits [\w-]+", "0..255", plain)
    names = _CHOICES.findall(plain)
    if not names:
        return plain
    plain = re.sub(rf":\s*({'|'.join(names)})(?![\w-])", rf": \1{_CODE}", plain)
    return plain.rstrip() + "\n" + "".join(f"{name}{_CODE} = 0..255\n" for name in names)


def read_schema(text: str) -> Schema:
    try:
        parsed = DataTranslator.from_cddl(device_cddl(text), 1)
    except Exception as error:  # zcbor raises whatever it meets
        raise SchemaError(f"messages.cddl: {error.__cause__ or error}") from error
    return _Reader(text, parsed.my_types).read(parsed.my_control_groups)


class _Reader:
    """zcbor's `types`, which have types and ranges, and the text, which has comments and flags."""

    def __init__(self, text: str, types: dict[str, Any]) -> None:
        self._types = types
        self._docs = _comments(text)
        self._flags = set(re.findall(r"\.bits ([\w-]+)", re.sub(r";.*", "", text)))

    def read(self, groups: dict[str, Any]) -> Schema:
        unknown = self._flags - set(groups)
        if unknown:
            raise SchemaError(f"messages.cddl: there are no flags '{min(unknown)}'")
        schema = Schema()
        for name, group in groups.items():
            class_name, doc = self._titled(name)
            members = tuple(Number(m.label, m.value, self._doc(name, m.label)) for m in group.value)
            schema.choices[name] = Choices(name, class_name, doc, members, name in self._flags)
        for name, item in self._types.items():
            if item.type in ("LIST", "GROUP"):
                class_name, doc = self._titled(name)
                fields = tuple(self._field(name, child) for child in item.value)
                schema.rules[name] = Rule(name, class_name, doc, fields, item.type == "LIST")
            elif item.type == "UINT" and item.value is not None:
                schema.numbers.append(Number(name, item.value, self._doc(name, name)))
            elif not name.endswith(_CODE):
                schema.scalars[name] = replace(self._scalar(name, item), doc=self._doc(name, name))
        return schema

    def _doc(self, rule: str, member: str) -> Doc:
        return self._docs.get((rule, member), Doc())

    def _titled(self, rule: str) -> tuple[str, str]:
        """(class, documentation)"""
        doc = self._doc(rule, "").above
        named = _NAMED.match(doc)
        text = doc[named.end() :] if named else doc
        return named[1] if named else camel(rule), text[:1].upper() + text[1:]

    def _field(self, rule: str, child: Any) -> Field:
        if (child.min_qty, child.max_qty) != (1, 1):
            raise SchemaError(f"messages.cddl: {rule}: a field may neither be left out nor repeated")
        label = child.label or child.value
        if child.type == "OTHER" and self._types[child.value].type == "GROUP":
            word = rule.split("-")[0] + "-"
            return Field(snake(label.removeprefix(word)), child.value, self._doc(rule, label))
        if child.label is None:
            raise SchemaError(f"messages.cddl: {rule}: a field has no name")
        if keyword.iskeyword(label):
            raise SchemaError(f"messages.cddl: {rule}: no field can be called '{label}' in Python")
        return Field(snake(label), self._scalar(f"{rule}: {label}", child), self._doc(rule, label))

    def _scalar(self, where: str, item: Any) -> Scalar:
        if item.type == "OTHER":
            if item.value.endswith(_CODE):
                return Scalar("int", 0, 255, choices=item.value.removesuffix(_CODE))
            return replace(self._scalar(where, self._types[item.value]), alias=item.value)
        if item.type in ("UINT", "INT"):
            return Scalar("int", item.min_value or 0, item.max_value)
        if item.type in ("BSTR", "TSTR"):
            return Scalar("bytes" if item.type == "BSTR" else "str", item.min_size, item.max_size)
        raise SchemaError(f"messages.cddl: {where}: messages are made of integers, byte strings and texts only")


def _comments(text: str) -> dict[tuple[str, str], Doc]:
    """By (rule, member); by (rule, "") the rule's own, by (rule, rule) a type's or number's."""
    docs: dict[tuple[str, str], Doc] = {}
    rule, above = "", list[str]()
    for line in text.splitlines():
        code, _, comment = (part.strip() for part in line.partition(";"))
        if not code:
            above = [*above, comment] if comment else []
            continue
        begins = _RULE.match(code)
        if begins:
            rule = begins[1]
            docs[(rule, "")] = Doc(above=" ".join(above))
            code, above = code[begins.end() :], []
        members = _MEMBER.findall(re.sub(r":[^,)]*", ":", code))
        if begins and code[:1] not in "[(&":
            members = [rule]
        if members:
            docs[(rule, members[0])] = Doc(" ".join(above), comment)
        above = []
    return docs
