"""Devices as processes: they end in time, end with the process that started them, and say why they died."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.targets import build as firmware
from kilotune.targets import flashfile, native
from kilotune.targets.boards import board
from kilotune.targets.connect import connect
from kilotune.targets.process import DeviceProcess

from tests.support.errors import code_of
from tests.support.processes import ended, wait_until


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
            with connect(name.read_text().strip(), image, timeout_s=10) as device:
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
