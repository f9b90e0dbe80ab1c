"""Writes the tables in docs/ that are made of the sources:  python docs/tables.py  (--check: only compares)"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from kilotune.error_codes import CODES, EXIT_REFUSED
from kilotune.link.status import statuses
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


def error_codes() -> str:
    """Codes of the tools and of the device, in one list."""
    refusals = {status.name: status for status in statuses().values() if status.name != "ok"}
    rows = ["| code | exit | cause | what to do |", "|---|---|---|---|"]
    for code in sorted(set(CODES) | set(refusals)):
        own, refusal = CODES.get(code), refusals.get(code)
        if own is not None and own.cause:
            rows.append(f"| `{code}` | {own.exit_code} | {own.cause} | {own.remedy} |")
        if refusal is not None:
            exits = dict.fromkeys(
                [own.exit_code, EXIT_REFUSED] if own is not None and not own.cause else [EXIT_REFUSED]
            )
            name = f"`{code}`, by the device" if own is not None and own.cause else f"`{code}`"
            rows.append(f"| {name} | {' or '.join(map(str, exits))} | {refusal.text} | {refusal.hint} |")
    return "\n".join(rows)


TABLES: dict[tuple[str, str], Callable[[], str]] = {
    ("ERRORS.md", "errors"): error_codes,
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
