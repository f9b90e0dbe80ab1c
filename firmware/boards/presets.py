"""Writes the boards' presets into CMakePresets.json: `make presets`, after a board was added or renamed.

CMake wants every preset named twice, for configuring and for building, and cannot look into a folder. What boards
there are, and what they are called, stands in their board.json alone; other presets stay as they are.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

BOARDS = Path(__file__).resolve().parent
PRESETS = BOARDS.parents[1] / "CMakePresets.json"

Preset = dict[str, Any]


def with_boards(presets: dict[str, Any], boards: dict[str, str]) -> dict[str, Any]:
    """The same presets, with a configure and a build preset for each board (id -> title) and no other's."""
    not_boards = [p for p in presets["configurePresets"] if "KILOTUNE_BOARD" not in p.get("cacheVariables", {})]
    kept = {p["name"] for p in not_boards}
    return presets | {
        "configurePresets": not_boards + [_configure(board, title) for board, title in sorted(boards.items())],
        "buildPresets": [p for p in presets["buildPresets"] if p["configurePreset"] in kept]
        + [{"name": board, "configurePreset": board} for board in sorted(boards)],
    }


def _configure(board: str, title: str) -> Preset:
    return {"name": board, "inherits": "base", "displayName": title, "cacheVariables": {"KILOTUNE_BOARD": board}}


def titles(folder: Path = BOARDS) -> dict[str, str]:
    """Board id -> its title, of every board.json."""
    described = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/board.json"))]
    return {str(board["id"]): str(board["title"]) for board in described}


def written(presets: dict[str, Any]) -> str:
    """The text of CMakePresets.json: one line for each preset."""
    fields = []
    for name, value in presets.items():
        if name.endswith("Presets"):
            lines = ",\n".join(f"    {json.dumps(preset)}" for preset in value)
            fields.append(f"  {json.dumps(name)}: [\n{lines}\n  ]")
        else:
            fields.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def main() -> None:
    before = PRESETS.read_text(encoding="utf-8")
    after = written(with_boards(json.loads(before), titles()))
    if after != before:
        PRESETS.write_text(after, encoding="utf-8")
    print(f"{PRESETS.name} {'written' if after != before else 'was right already'}", file=sys.stderr)


if __name__ == "__main__":
    main()
