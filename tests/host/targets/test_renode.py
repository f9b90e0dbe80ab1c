"""Targets in Renode: its scripts, platforms and sensors, and what it says when they are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.targets import renode
from kilotune.targets.connect import connect
from kilotune.targets.target import parse_target

from tests.support.errors import code_of


def test_without_renode_its_targets_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RENODE", raising=False)
    with pytest.raises(KilotuneError) as error:
        connect("renode:stm32f4_discovery", state=tmp_path)
    assert code_of(error) == "missing_tool"


def test_renode_gets_firmware_model_and_a_folder_of_its_own(tmp_path: Path) -> None:
    of_board = renode.script_of("nrf52840dk")
    script = renode.script_for(of_board, tmp_path / "a.elf", tmp_path / "f.bin", 4711, ["sysbus Tag"]).splitlines()
    assert script[0] == f'logFile "{tmp_path}/machine.log" true'
    assert script[1] == f"$elf=@{tmp_path}/a.elf"
    assert script[2] == "$port=4711"
    assert script[3] == f'$flash="{tmp_path}/f.bin"'
    assert script[4] == f"include @{of_board}"
    assert script[5:7] == ["sysbus Tag", "start"]
    command = renode.command_line("/opt/renode", tmp_path / "run.resc", tmp_path)
    assert f"TMPDIR={tmp_path}/renode" in command
    assert command[-1] == str(tmp_path / "run.resc")


@pytest.mark.parametrize(
    ("board_id", "platform"),
    [
        ("stm32f4_discovery", "stm32f4_discovery/stm32f4_discovery.repl"),
        ("nucleo_f446re", "nucleo_f446re/nucleo_f446re.repl"),
        ("nrf52840dk", "nrf52840dk/nrf52840dk.repl"),
    ],
)
def test_renodes_platforms_have_memory_for_the_firmware_and_flash_for_the_rest(board_id: str, platform: str) -> None:
    """Code runs from plain memory, which is not kept in the flash file."""
    folder = renode.script_of(board_id).parent
    text = (folder.parent / platform).read_text(encoding="utf-8")
    told = json.loads((folder / "board.json").read_text(encoding="utf-8"))
    base = int(told["flash"]["base"], 16)
    plain = _hex(r"MappedMemory @ sysbus (0x\w+)\n    size: (0x\w+)", text)
    for code in (told[part] for part in ("boot", "program") if part in told):
        assert (int(code["base"], 16), int(code["bytes"], 16)) in plain
    windows = _hex(r"address: (0x\w+); size: (0x\w+); offset: (0x\w+)", text)
    assert all(address - offset == base for address, _, offset in windows)
    cells = {a for address, size, _ in windows for a in range(address, address + size, 4096)}
    everything = {base + a for a in range(0, int(told["flash"]["bytes"], 16), 4096)}
    firmware_at = {a for address, size in plain for a in range(address, address + size, 4096)}
    assert everything <= cells | firmware_at
    assert not cells & firmware_at


def test_renodes_sensor_gets_a_recording_and_its_script(tmp_path: Path) -> None:
    feed = parse_target("renode:nrf52840dk,lis2dw12=synthetic:healthy,seconds=1").feed
    assert feed is not None
    resd = feed.resd(tmp_path, 1600.0)
    assert resd.stat().st_size == 8 + 37 + 1600 * 12
    of_board = renode.script_of("nrf52840dk", feed.chip)
    lines = renode.script_for(of_board, tmp_path / "a.elf", tmp_path / "f.bin", 4711, resd=resd).splitlines()
    assert lines[4] == f"$resd=@{resd}"
    assert lines[5].endswith("/nrf52840dk_lis2dw12.resc")
    assert "\ninclude $ORIGIN/nrf52840dk.resc\n" in of_board.read_text(encoding="utf-8")


def _hex(pattern: str, text: str) -> list[tuple[int, ...]]:
    return [tuple(int(number, 16) for number in found) for found in re.findall(pattern, text)]
