"""Every code that is raised is listed, and every listed code is raised: read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kilotune
import pytest
from kilotune.error_codes import _LIST, CODES, EXIT_FAILED, EXIT_REFUSED, EXIT_USAGE
from kilotune.errors import KilotuneError
from kilotune.link.status import RefusedError, local_error, statuses

SOURCES = Path(kilotune.__file__).parent
DEVICE = {status.name for status in statuses().values()}
# Codes that are computed, and come from a listed one each: a status's name, or an error that is raised again.
COMPUTED = {"known.name", "error.code"}
BY_ITS_STATUS = {"unknown_status"}  # `RefusedError` gives it where a device's status is none of the list


@dataclass(frozen=True)
class Use:
    code: str  # or, where it is computed, the expression
    computed: bool
    where: str


def uses(source: str, where: str) -> Iterator[Use]:
    """First arguments of every call that makes a KilotuneError."""
    tree = ast.parse(source)
    constants = {
        target.id: value.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for names, values in [(node.targets[0], node.value)]
        for target, value in _pairs(names, values)
        if isinstance(target, ast.Name) and isinstance(value, ast.Constant)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not (
            _is_named(node.func, "KilotuneError", "local_error") or _is_super_init(node, tree)
        ):
            continue
        place = f"{where}:{node.lineno}"
        code = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg in ("code", "name")), None)
        if isinstance(code, ast.Name) and isinstance(constants.get(code.id), str):
            code = ast.Constant(constants[code.id])
        if isinstance(code, ast.Constant) and isinstance(code.value, str):
            yield Use(code.value, False, place)
        else:
            yield Use(ast.unparse(code) if code is not None else "", True, place)


def _pairs(names: ast.expr, values: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    if isinstance(names, ast.Tuple) and isinstance(values, ast.Tuple):
        return list(zip(names.elts, values.elts, strict=True))
    return [(names, values)]


def _is_named(function: ast.expr, *names: str) -> bool:
    name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    return name in names


def _is_super_init(node: ast.Call, tree: ast.Module) -> bool:
    """Of a class that is a KilotuneError."""
    if ast.unparse(node.func) != "super().__init__":
        return False
    owners = [c for c in ast.walk(tree) if isinstance(c, ast.ClassDef) and node in set(ast.walk(c))]
    return any(_is_named(base, "KilotuneError") for c in owners for base in c.bases)


def all_uses() -> list[Use]:
    files = sorted(SOURCES.rglob("*.py"))
    found = [use for f in files for use in uses(f.read_text(encoding="utf-8"), str(f.relative_to(SOURCES)))]
    assert len(found) > 200
    return found


def test_every_code_is_listed() -> None:
    unlisted = [use for use in all_uses() if not use.computed and use.code not in CODES]
    assert unlisted == []


def test_codes_are_computed_only_from_listed_ones() -> None:
    assert {use.code for use in all_uses() if use.computed} <= COMPUTED


def test_every_listed_code_is_used() -> None:
    assert set(CODES) - {use.code for use in all_uses()} - BY_ITS_STATUS == set()


@pytest.mark.parametrize(
    ("source", "code", "computed"),
    [
        ('raise KilotuneError("no_such_code", "what", "hint")', "no_such_code", False),
        ('raise errors.KilotuneError(code="no_such_code", message="what")', "no_such_code", False),
        ('_A, _B = "one", "two"\nraise KilotuneError(_B, "what")', "two", False),
        ('raise KilotuneError("a" if x else "b", "what")', "'a' if x else 'b'", True),
        ("class A(KilotuneError):\n    def __init__(self):\n        super().__init__(f(), '')", "f()", True),
    ],
)
def test_a_code_is_found_however_it_is_given(source: str, code: str, computed: bool) -> None:
    assert [(use.code, use.computed) for use in uses(source, "")] == [(code, computed)]


def test_codes_that_are_asked_for_exist() -> None:
    """`error.code == "..."` with a code that nobody raises would never hold."""
    asked = set()
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and getattr(node.left, "attr", "") == "code":
                asked |= {n.value for side in node.comparators for n in ast.walk(side) if isinstance(n, ast.Constant)}
    assert {code for code in asked if isinstance(code, str)} <= set(CODES) | DEVICE
    assert asked


def test_the_list_has_each_code_once_and_explains_it() -> None:
    assert len(CODES) == len(_LIST)
    for entry in _LIST:
        assert bool(entry.cause) == bool(entry.remedy)
        assert entry.cause or entry.code in DEVICE, f"{entry.code} has no words of its own, and no status has"
        assert "|" not in entry.cause + entry.remedy  # of a table


def test_wrong_use_has_one_code() -> None:
    assert "usage" not in CODES
    assert KilotuneError("bad_argument", "").exit_code == EXIT_USAGE


def test_refusals_by_the_device_end_in_their_own_exit_code() -> None:
    for status in statuses().values():
        assert RefusedError(status.code, 0, "dance").exit_code == EXIT_REFUSED
    assert RefusedError(200, 0, "dance").code == "unknown_status"
    assert local_error("not_trainable").exit_code == EXIT_FAILED
