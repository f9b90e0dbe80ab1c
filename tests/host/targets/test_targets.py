"""Targets, flash files, processes and builds: what they refuse, and that they leave nothing behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.targets import build as firmware
from kilotune.targets import flashfile, native, qemu, renode
from kilotune.targets import target as registry
from kilotune.targets.boards import board, boards, source_root
from kilotune.targets.process import DeviceProcess
from kilotune.targets.twin import Twin

from tests.support import small_models


@pytest.fixture(scope="module")
def image() -> Image:
    return kilotune.compile(small_models.chain(10, 6, 10, seed=1), method="bias")


def code_of(error: pytest.ExceptionInfo[KilotuneError]) -> str:
    assert error.value.hint
    return error.value.code


@pytest.mark.parametrize(
    ("name", "kind", "board_id"),
    [
        ("twin", "twin", "native"),
        ("native", "native", "native"),
        ("qemu:mps2-an386", "qemu", "mps2-an386"),
        ("renode:stm32f4_discovery", "renode", "stm32f4_discovery"),
        ("renode:nrf52840dk,lis2dw12=synthetic:healthy", "renode", "nrf52840dk"),
        ("/dev/ttyACM0", "port", ""),
        ("socket://127.0.0.1:4000", "port", ""),
        ("COM3", "port", ""),
    ],
)
def test_names_of_targets(name: str, kind: str, board_id: str) -> None:
    target = registry.parse_target(name)
    assert (target.kind, target.board) == (kind, board_id)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "usage"),
        ("twins", "usage"),
        ("qemu:", "usage"),
        ("qemu:mps3", "unknown_board"),
        ("qemu:native", "no_emulator"),
        ("renode:microbit", "no_emulator"),
        ("renode:stm32f4_discovery,lis2dw12=a.npz", "no_emulator"),
        ("renode:nrf52840dk,lis2dw12", "usage"),
        ("renode:nrf52840dk,virtual,lis2dw12=a.npz", "usage"),
        ("renode:nrf52840dk,spi,lis2dw12=a.npz", "usage"),
        ("native:slow,lis2dw12=a.npz", "usage"),
        ("native:spi,", "usage"),
        ("rp2040js:microbit", "no_emulator"),
    ],
)
def test_names_that_mean_nothing_are_refused(name: str, code: str) -> None:
    with pytest.raises(KilotuneError) as error:
        registry.parse_target(name)
    assert code_of(error) == code


def test_without_renode_its_targets_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("RENODE", raising=False)
    with pytest.raises(KilotuneError) as error:
        registry.open("renode:stm32f4_discovery", state=tmp_path)
    assert code_of(error) == "missing_tool"


def test_renode_gets_firmware_model_and_a_folder_of_its_own(tmp_path: Path, image: Image) -> None:
    chosen = board("nrf52840dk")
    script = renode.script_for(chosen, tmp_path / "a b.elf", tmp_path / "f.bin", 4711, ["sysbus Tag"]).splitlines()
    assert script[0] == f'logFile "{tmp_path}/machine.log" true'
    assert script[1] == f"$elf=@{tmp_path}/a\\ b.elf"
    assert script[2] == "$port=4711"
    assert script[3] == f'$flash="{tmp_path}/f.bin"'
    assert script[4] == f"include @{renode.script_of('nrf52840dk')}"
    assert script[5:7] == ["sysbus Tag", "start"]
    command = renode.command_line("/opt/renode", tmp_path / "run.resc", tmp_path)
    assert f"TMPDIR={tmp_path}/renode" in command
    assert command[-1] == str(tmp_path / "run.resc")


@pytest.mark.parametrize(
    ("board_id", "platform"),
    [
        ("stm32f4_discovery", "stm32f4/renode.repl"),
        ("nucleo_f446re", "stm32f4/renode.repl"),
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


@pytest.mark.parametrize("words", ["", "virtual,", "spi,", "virtual,spi,", "spi,virtual,"])
def test_the_sensor_of_a_target_is_told_in_words(words: str) -> None:
    feed = registry.parse_target(f"native:{words}adxl345=synthetic:healthy,seconds=1").feed
    assert feed is not None
    assert (feed.chip, feed.source) == ("adxl345", "synthetic:healthy,seconds=1")
    assert (feed.virtual, feed.spi) == ("virtual" in words, "spi" in words)


def test_renodes_sensor_gets_a_recording_and_its_script(tmp_path: Path) -> None:
    feed = registry.parse_target("renode:nrf52840dk,lis2dw12=synthetic:healthy,seconds=1").feed
    assert feed is not None
    resd = feed.resd(tmp_path, 1600.0)
    assert resd.stat().st_size == 8 + 37 + 1600 * 12
    elf, flash = tmp_path / "a.elf", tmp_path / "f.bin"
    lines = renode.script_for(board("nrf52840dk"), elf, flash, 4711, chip=feed.chip, resd=resd).splitlines()
    assert lines[4] == f"$resd=@{resd}"
    assert lines[5].endswith("/nrf52840dk_lis2dw12.resc")
    assert "\ninclude $ORIGIN/nrf52840dk.resc\n" in Path(lines[5].removeprefix("include @")).read_text(encoding="utf-8")


def _hex(pattern: str, text: str) -> list[tuple[int, ...]]:
    return [tuple(int(number, 16) for number in found) for found in re.findall(pattern, text)]


_FAKE_RENODE = """#!/bin/sh
echo "There was an error executing command 'include @x.repl': Error E02: could not find type"
exec sleep 60
"""


def test_an_error_in_renodes_script_is_told_at_once(
    tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renode itself goes on as if nothing were wrong."""
    program = tmp_path / "renode"
    program.write_text(_FAKE_RENODE)
    program.chmod(0o755)
    monkeypatch.setenv("RENODE", str(program))
    elf = tmp_path / "firmware.elf"
    elf.write_bytes(b"")
    state = tmp_path / "state"
    with pytest.raises(KilotuneError) as error, renode.run("nrf52840dk", state, image.content, firmware=elf):
        pass
    assert code_of(error) == "cannot_start"
    assert "could not find type" in str(error.value.message)


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
        assert f.sector_bytes % 16 == 0
        assert f.word_bytes in (1, 2, 4, 8, 16)
        assert f.sector_count >= 3


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
    flashfile.prepare(path, layout, erase_checkpoints=True)
    assert path.read_bytes()[layout.checkpoint_offset] == 0xFF


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path, image: Image) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KilotuneError) as error:
        registry.open("twin", image, tmp_path / "file")
    assert code_of(error) == "bad_state"


def test_the_twin_keeps_its_flash_in_the_state_folder(tmp_path: Path, image: Image) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (8, 10)).astype(np.int8)
    with registry.open("twin", image, tmp_path) as twin:
        twin.train(x, steps=20, lr=0.01)
        committed = twin.commit()
        output = twin.infer(x)
    with registry.open("twin", None, tmp_path) as twin:  # the model is in the flash file
        assert twin.status().checkpoint == committed
        np.testing.assert_array_equal(twin.infer(x), output)
    with registry.open("twin", image, fresh=True) as twin:
        assert twin.status().checkpoint.sequence == 0
    with Twin(image) as twin:
        assert twin.status().checkpoint.sequence == 0


def test_a_twin_without_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(KilotuneError) as error:
        registry.open("twin", state=tmp_path)
    assert code_of(error) == "no_model"
    with flashfile.locked(registry.state_folder(registry.parse_target("twin"), tmp_path) / "flash.bin"):
        pass  # the failed open let go of it


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


def test_a_build_waits_for_another_within_bounds(tmp_path: Path) -> None:
    with firmware._lock(tmp_path):
        with pytest.raises(KilotuneError) as error, firmware._lock(tmp_path, patience_s=0.1):
            pass
        assert code_of(error) == "build_failed"
    with firmware._lock(tmp_path, patience_s=0.0):
        pass


def test_a_device_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    flash = tmp_path / "flash.bin"
    with flashfile.locked(flash) as lock:
        process = DeviceProcess(["sleep", "0.3"], tmp_path / "log", "the chip", holds=lock)
    with process, flashfile.locked(flash, patience_s=30.0):
        pass


def test_a_process_that_dies_at_the_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such chip')"]
    with (
        DeviceProcess(command, tmp_path / "log", "the chip") as process,
        pytest.raises(KilotuneError) as error,
    ):
        process.wait_for(lambda: False, 10)
    assert code_of(error) == "cannot_start"
    assert "no such chip" in error.value.message


def test_a_process_that_is_never_ready_is_ended_in_time(tmp_path: Path) -> None:
    with DeviceProcess(["sleep", "60"], tmp_path / "log", "the chip") as process:
        with pytest.raises(KilotuneError) as error:
            process.wait_for(lambda: False, 0.2)
        assert "0.2 s" in error.value.message
        assert ended(process.pid)


def test_the_native_device_ends_with_its_parent(tmp_path: Path) -> None:
    command = [str(firmware.native_program()), "--flash", str(tmp_path / "flash.bin"), "--tcp", "0"]
    script = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen({[*command, '--exit-with-stdin']!r}, stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE, start_new_session=True)\n"
        "p.stdout.readline()\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    device = int(parent.stdout.readline())
    assert not ended(device)
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    parent.stdout.close()
    assert wait_until(lambda: ended(device))


def test_closing_a_device_ends_its_process(tmp_path: Path, image: Image) -> None:
    with native.run(tmp_path, image.content) as (_, process):
        pid = process.pid
        assert not ended(pid)
    assert ended(pid)


def test_the_native_device_serves_a_pseudo_terminal(tmp_path: Path, image: Image) -> None:
    flash = tmp_path / "flash.bin"
    flashfile.prepare(flash, board("native").flash, image.content)
    name = tmp_path / "pty"
    command = [
        str(firmware.native_program()),
        "--flash",
        str(flash),
        "--pty",
        "--port-file",
        str(name),
        "--exit-with-stdin",
    ]
    with DeviceProcess(command, tmp_path / "log", "native") as process:
        process.wait_for(name.is_file, 10)
        for _ in range(2):  # a second client finds it too
            with registry.open(name.read_text().strip(), image, timeout_s=10) as device:
                device.reset()
                assert device.info().board == "native"


@pytest.mark.parametrize("arguments", [[], ["--flash", "x"], ["--tcp", "99999", "--flash", "x"], ["--nonsense"]])
def test_the_native_device_refuses_a_wrong_command_line(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [str(firmware.native_program()), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_missing_compiler_or_emulator_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KilotuneError) as error:
        firmware.build("mps2-an386", out=tmp_path / "build")
    assert code_of(error) == "missing_tool"
    with pytest.raises(KilotuneError) as error:
        qemu.find_qemu(board("mps2-an386"))
    assert code_of(error) == "missing_tool"


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text('cmake_minimum_required(VERSION 3.20)\nmessage(FATAL_ERROR "no clay")\n')
    with pytest.raises(KilotuneError) as error:
        firmware.build("native", out=tmp_path / "build", source=tmp_path)
    assert code_of(error) == "build_failed"
    assert "no clay" in error.value.message
    assert (tmp_path / "build" / "build.log").is_file()


def test_a_build_for_a_damaged_model_is_refused_before_it_starts(tmp_path: Path) -> None:
    broken = tmp_path / "broken.ktm"
    broken.write_bytes(b"not a model")
    with pytest.raises(KilotuneError) as error:
        firmware.build("native", image=broken, out=tmp_path / "build")
    assert code_of(error) == "bad_image"
    assert not (tmp_path / "build").exists()


@pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")
def test_a_firmware_over_its_budget_is_no_product(tmp_path: Path) -> None:
    """The build fails, and fails again: the ELF file is not left behind."""
    out = tmp_path / "build"
    built = firmware.build("mps2-an386", out=out)
    assert built.flash_bytes == built.text + built.data
    root = source_root()
    configure = ["cmake", "-S", str(root), "-B", str(out), f"-DKILOTUNE_RAM_BUDGET={built.ram_bytes - 1}"]
    subprocess.run(configure, check=True, capture_output=True, timeout=60)
    with pytest.raises(KilotuneError) as error:
        firmware.build("mps2-an386", out=out)
    assert code_of(error) == "build_failed"
    assert f"over the budget of {built.ram_bytes - 1}" in error.value.message
    assert not Path(built.firmware).exists()


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until(condition, seconds: float = 5.0) -> bool:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
