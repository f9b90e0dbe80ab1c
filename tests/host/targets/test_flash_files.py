"""Flash as boards divide it, and as a file: what stays in it, and which device it belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.targets import flashfile
from kilotune.targets.boards import board, boards
from kilotune.targets.process import DeviceProcess

from tests.support.errors import code_of


def test_board_files_are_sound() -> None:
    assert {b.id for b in boards()} >= {"native", "mps2-an385", "mps2-an386"}
    for b in boards():
        f = b.flash
        regions = [
            (f.model_offset, f.model_bytes),
            (f.checkpoint_offset, f.checkpoint_bytes),
            (f.key_offset, f.key_bytes),
        ]
        end = 0
        for offset, size in sorted(regions):
            assert offset >= end
            end = offset + size
        assert f.key_offset % f.key_sector_bytes == 0
        assert f.key_sector_bytes % 16 == 0
        assert f.key_sector_count >= 2
        assert f.used_bytes <= f.bytes
        assert not any(size % 16 for size in f.checkpoint_sectors)
        assert f.word_bytes in (1, 2, 4, 8, 16)
        assert len(f.checkpoint_sectors) >= 3


def test_a_flash_file_keeps_checkpoints_when_the_model_changes(tmp_path: Path) -> None:
    layout = board("native").flash
    path = tmp_path / "flash.bin"
    flashfile.prepare(path, layout, b"first model")
    content = bytearray(path.read_bytes())
    assert len(content) == layout.bytes
    assert content[:12] == b"first model\xff"
    content[layout.checkpoint_offset] = 0x12
    path.write_bytes(content)
    flashfile.prepare(path, layout, b"second")
    changed = path.read_bytes()
    assert changed[: layout.model_bytes] == b"second".ljust(layout.model_bytes, b"\xff")
    assert changed[layout.checkpoint_offset] == 0x12
    flashfile.prepare(path, layout)
    assert path.read_bytes() == changed


def test_a_device_that_outlives_its_command_keeps_its_flash_to_itself(tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    with flashfile.locked(flash) as lock:
        process = DeviceProcess(["sleep", "60"], tmp_path / "log", "the chip", holds=lock)
    try:
        with pytest.raises(KilotuneError) as error, flashfile.locked(flash, patience_s=0.1):
            pass
        assert code_of(error) == "busy_target"
    finally:
        process.close()
    with flashfile.locked(flash, patience_s=0.0):
        pass


def test_a_device_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    with flashfile.locked(flash) as lock:
        process = DeviceProcess(["sleep", "0.3"], tmp_path / "log", "the chip", holds=lock)
    with process, flashfile.locked(flash, patience_s=30.0):
        pass
