"""CMakePresets.json names all boards, and BOARDS.md has a row for each."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BOARDS = sorted(path.parent.name for path in (ROOT / "firmware" / "boards").glob("*/board.json"))


GENERATOR = runpy.run_path(str(ROOT / "firmware" / "boards" / "presets.py"))  # in no package


def presets() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "CMakePresets.json").read_text(encoding="utf-8"))
    return loaded


def test_every_board_can_be_configured_and_built_by_its_name() -> None:
    configured = {
        preset["name"]: preset["cacheVariables"]["KILOTUNE_BOARD"]
        for preset in presets()["configurePresets"]
        if "KILOTUNE_BOARD" in preset.get("cacheVariables", {})
    }
    assert configured == {board: board for board in BOARDS}
    built = {preset["name"]: preset["configurePreset"] for preset in presets()["buildPresets"]}
    assert {board: built.get(board) for board in BOARDS} == configured
    known = {preset["name"] for preset in presets()["configurePresets"] if not preset.get("hidden")}
    assert set(built) == set(built.values()) == known


def test_the_file_is_what_make_presets_writes() -> None:
    text = (ROOT / "CMakePresets.json").read_text(encoding="utf-8")
    assert GENERATOR["written"](GENERATOR["with_boards"](json.loads(text), GENERATOR["titles"]())) == text, (
        "run `make presets`"
    )


def test_a_board_that_comes_gets_its_presets_and_one_that_goes_loses_them() -> None:
    before = presets()
    titles = GENERATOR["titles"]()
    gone = titles.pop("microbit")
    after = GENERATOR["with_boards"](before, titles | {"new_board": "A new board"})
    for kind in ("configurePresets", "buildPresets"):
        names = {preset["name"] for preset in after[kind]}
        assert names == {preset["name"] for preset in before[kind]} - {"microbit"} | {"new_board"}
    assert GENERATOR["with_boards"](after, titles | {"microbit": gone}) == before


def test_every_board_folder_is_called_as_its_board() -> None:
    for board in BOARDS:
        described = json.loads((ROOT / "firmware" / "boards" / board / "board.json").read_text(encoding="utf-8"))
        assert described["id"] == board


def test_every_board_has_its_row_in_the_table_of_boards() -> None:
    table = (ROOT / "docs" / "BOARDS.md").read_text(encoding="utf-8").split("\n\n")[1]
    assert table.startswith("| id | chip |")
    rows = [line.split("|")[1].strip() for line in table.splitlines()[2:]]
    assert sorted(rows) == [f"`{board}`" for board in BOARDS]
