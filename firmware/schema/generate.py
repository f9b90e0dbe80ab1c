"""What the build makes of messages.cddl and requests.def:  python firmware/schema/generate.py --cpp terms.h ...

The types are read by zcbor's own parser, which also makes the device's codec.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from generator import cpp, python
from generator.requests import read_requests
from generator.rules import SchemaError, device_cddl, read_schema

HERE = Path(__file__).parent
TABLE = "requests.def"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schema", type=Path, default=HERE, help="folder of messages.cddl and requests.def")
    parser.add_argument("--zcbor", type=Path, help="write the CDDL that zcbor makes the device's codec of")
    parser.add_argument("--cpp", type=Path, help="write the numbers that have names, as a C++ header")
    parser.add_argument("--shapes", type=Path, help="write what requests are made of, as a C++ header")
    parser.add_argument("--python", type=Path, help="write the messages as a Python module")
    parser.add_argument("--python-terms", type=Path, help="write the words that messages are made of as another")
    options = parser.parse_args(arguments)
    try:
        cddl = (options.schema / "messages.cddl").read_text(encoding="utf-8")
        schema = read_schema(cddl)
        requests = read_requests((options.schema / TABLE).read_text(encoding="utf-8"), schema)
    except SchemaError as error:
        print(f"{options.schema}: {error}", file=sys.stderr)
        return 1
    _write(options.zcbor, device_cddl(cddl))
    _write(options.cpp, cpp.header(schema))
    _write(options.shapes, cpp.shapes(schema, requests))
    _write(options.python, python.module(schema, requests))
    _write(options.python_terms, python.terms(schema))
    return 0


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
