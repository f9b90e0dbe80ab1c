"""Tables in docs/ that are made by a program: between two marks that name it."""

from __future__ import annotations

import re


def replaced_table(text: str, name: str, table: str) -> str:
    """`text` with the table between its two marks; ValueError where they are missing."""
    marks = re.compile(rf"(<!-- {name}: made by [^\n]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    made, found = marks.subn(lambda m: f"{m[1]}{table}\n{m[2]}", text)
    if found != 1:
        raise ValueError(f"the marks of the table '{name}' are there {found} times")
    return made
