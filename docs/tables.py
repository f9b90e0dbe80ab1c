"""Writes the tables in docs/ that are made of the sources:  python docs/tables.py  (--check: only compares)"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from kilotune.link.wire import REQUESTS, Access

DOCS = Path(__file__).parent


def requests_by_access() -> str:
    """What a locked device does for whom."""
    who = {
        Access.anyone: "anyone",
        Access.reader: "anyone, unless reading is closed",
        Access.owner: "who has the key",
    }
    rows = ["| who | may ask a locked device to |", "|---|---|"]
    for access, name in who.items():
        asked = [f"{r.doing} (`{k.name.replace('_', '-')}`)" for k, r in REQUESTS.items() if r.access is access]
        rows.append(f"| {name} | {'; '.join(asked) if access is not Access.owner else 'do everything else'} |")
    return "\n".join(rows)


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("SECURITY.md", "requests"): requests_by_access,
}


def with_table(text: str, name: str, table: str) -> str:
    """`text` with the table between its two marks; ValueError where they are missing."""
    marks = re.compile(rf"(<!-- {name}: made by docs/tables.py -->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    made, found = marks.subn(lambda m: f"{m[1]}{table}\n{m[2]}", text)
    if found != 1:
        raise ValueError(f"the marks of the table '{name}' are there {found} times")
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a table is out of date")
    check = parser.parse_args().check
    stale = []
    for (document, name), table in TABLES.items():
        path = DOCS / document
        text = path.read_text(encoding="utf-8")
        made = with_table(text, name, table())
        if made != text:
            stale.append(f"{document}: the table '{name}'")
            if not check:
                path.write_text(made, encoding="utf-8")
    if stale and check:
        print(f"out of date: {', '.join(stale)}; run `python docs/tables.py`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
