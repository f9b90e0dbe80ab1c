"""Files that belong together are replaced together, and nobody else can read secrets."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from kilotune.common import files
from kilotune.common.files import current, make_private, write_together
from kilotune.errors import KilotuneError

from tests.support.killed import Killed, cut_after

OLD = {"a": b"old a", "b": b"old b"}
NEW = {"a": b"new a", "b": b"new b"}


def content(folder: Path) -> dict[str, bytes]:
    return {name: current(folder, name).read_bytes() for name in OLD}


def test_files_are_replaced_as_one_wherever_the_process_is_killed(tmp_path: Path) -> None:
    seen: list[dict[str, bytes]] = []
    for steps in range(100):
        folder = tmp_path / str(steps)
        write_together(folder, OLD)
        with pytest.MonkeyPatch.context() as patch:
            cut_after(steps, patch)
            try:
                write_together(folder, NEW)
                finished = True
            except Killed:
                finished = False
        seen.append(content(folder))
        assert seen[-1] in (OLD, NEW), steps
        write_together(folder, {**NEW, "a": b"newer a"})  # and the next one finds its way from there
        assert content(folder) == {**NEW, "a": b"newer a"}
        if finished:
            break
    assert steps >= 5
    assert seen[0] == OLD
    assert seen[-1] == NEW


def test_nothing_but_the_files_is_left_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "README").write_text("mine")
    write_together(tmp_path, OLD)
    write_together(tmp_path, NEW)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["README", "a", "b"]


@pytest.mark.parametrize("journal", [b"", b"{", b"7", b'["../a"]', b'["/etc/passwd", 3, null]', b"\xff"])
def test_a_journal_of_somebody_else_moves_nothing(tmp_path: Path, journal: bytes) -> None:
    folder = tmp_path / "in"
    write_together(folder, OLD)
    (tmp_path / "a.new").write_bytes(b"outside")
    (folder / files._JOURNAL).write_bytes(journal)
    assert content(folder) == OLD
    write_together(folder, NEW)
    assert content(folder) == NEW
    assert (tmp_path / "a.new").read_bytes() == b"outside"


def test_a_file_in_the_folders_place_is_an_error_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(KilotuneError) as error:
        write_together(tmp_path / "taken", NEW)
    assert error.value.code == "cannot_write"
    assert "taken" in error.value.message


def test_a_private_folder_is_made_so_where_it_was_open(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        (tmp_path / "keys").mkdir(mode=0o755)
        make_private(tmp_path / "keys")
        make_private(tmp_path / "x" / "y")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "x" / "y").stat().st_mode) == 0o700
