"""A flash file is opened or refused, never replaced; and nobody but its owner reads it."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.link import keys
from kilotune.link.auth import KEY_BYTES, Key
from kilotune.targets import flashfile
from kilotune.targets.boards import board
from kilotune.targets.build import native_program
from kilotune.targets.target import parse_target, state_folder

LAYOUT = board("native").flash


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("change", [-1, 1, -LAYOUT.sector_bytes, -LAYOUT.bytes])
def test_a_flash_file_of_another_length_stays_as_it_is(tmp_path: Path, change: int) -> None:
    file = tmp_path / "flash.bin"
    flashfile.prepare(file, LAYOUT)
    with file.open("r+b") as flash:
        flash.write(b"what was learned")
        flash.truncate(LAYOUT.bytes + change)
    before = file.read_bytes()
    with pytest.raises(KilotuneError) as error:
        flashfile.prepare(file, LAYOUT)
    assert error.value.code == "bad_state"
    assert f"{LAYOUT.bytes + change:,}" in error.value.message
    assert "--state" in error.value.hint
    assert file.read_bytes() == before


def test_a_folder_in_the_flash_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "flash.bin").mkdir()
    with pytest.raises(KilotuneError) as error:
        flashfile.prepare(tmp_path / "flash.bin", LAYOUT)
    assert error.value.code == "bad_state"


def test_only_its_owner_reads_a_flash_file_an_older_one_too(tmp_path: Path) -> None:
    file = tmp_path / "flash.bin"
    flashfile.prepare(file, LAYOUT)
    assert mode(file) == 0o600
    file.chmod(0o644)
    flashfile.prepare(file, LAYOUT)
    assert mode(file) == 0o600
    assert mode(state_folder(parse_target("native"), tmp_path / "state")) == 0o700


def test_the_native_program_refuses_too_and_makes_private_files(tmp_path: Path) -> None:
    program, file = str(native_program()), tmp_path / "flash.bin"
    command = [program, "--flash", str(file), "--tcp", "0", "--exit-with-stdin"]
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True, timeout=30)
    assert (mode(file), file.stat().st_size) == (0o600, LAYOUT.bytes)
    with file.open("r+b") as flash:
        flash.truncate(LAYOUT.bytes - 1)
    before = file.read_bytes()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"{LAYOUT.bytes - 1}" in done.stderr
    assert file.read_bytes() == before


def test_the_folder_of_keys_is_private_even_where_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keys.folder().mkdir(parents=True, mode=0o755)
    keys.folder().chmod(0o755)
    keys.write(keys.folder() / "a.key", Key(bytes(KEY_BYTES)))
    assert (mode(keys.folder()), mode(keys.folder() / "a.key")) == (0o700, 0o600)
