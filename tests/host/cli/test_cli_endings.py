"""How a command ends: by signals, bugs, readers that go away, and names that are not text."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.cli.command import Ended
from kilotune.device import recorder
from kilotune.errors import EXIT_USAGE
from kilotune.image import metadata
from kilotune.link import keys
from kilotune.link.auth import Key
from kilotune.recordings import read
from kilotune.targets import connect as connection
from kilotune.targets import ports
from kilotune.terms import Loss

from tests.support.command_line import ended, features
from tests.support.paths import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # it hides what is written when the interpreter ends


@pytest.mark.parametrize(
    ("fault", "code", "exits"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (Ended(signal.SIGTERM), "interrupted", 143),
        (MemoryError("too much"), "no_memory", 1),
        (ZeroDivisionError("a bug"), "internal", 1),
    ],
)
def test_whatever_ends_a_command_is_one_json_document(
    fault: BaseException, code: str, exits: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise fault

    monkeypatch.setattr(ports, "list_ports", fail)
    assert ended("ports", "--json") == exits
    told = capsys.readouterr()
    assert json.loads(told.out)["error"]["code"] == code
    assert ("Traceback" in told.err) == (code == "internal")  # a bug is told with where it is


def test_a_program_that_is_told_to_end_ends_its_device_first(tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import signal, sys, time
        from pathlib import Path
        from kilotune.cli.command import command
        from kilotune.targets.process import DeviceProcess

        @command("hold", example="kilotune hold")
        def hold(out):
            "Holds a device that does not watch its input, as QEMU does not."
            with DeviceProcess(["sleep", "60"], Path({str(tmp_path / "log")!r}), "the device") as process:
                print(process.pid, flush=True)
                time.sleep(60)

        for number in (signal.SIGTERM, signal.SIGHUP):  # `nohup` leaves them ignored
            signal.signal(number, signal.SIG_DFL)
        hold()
        """
    )
    for number in (signal.SIGTERM, signal.SIGHUP):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=ENVIRONMENT) as held:
            assert held.stdout is not None
            device = int(held.stdout.readline())
            held.send_signal(number)
            assert held.wait(30) == 128 + number
        end = time.monotonic() + 10
        while Path(f"/proc/{device}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not Path(f"/proc/{device}").exists()


@pytest.mark.parametrize(("arguments", "code"), [(("ports",), 0), (("info", "-t", "nowhere"), EXIT_USAGE)])
def test_a_reader_that_goes_away_is_no_error_and_hides_none(arguments: tuple[str, ...], code: int) -> None:
    command = [sys.executable, "-m", "kilotune", *arguments, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read()
        assert (process.wait(60), told) == (code, b"")


def test_names_that_are_no_text_go_in_and_out_as_they_are(own_tflite: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.ktm"
    for encoding, shown in (("utf-8:strict", b"\xff.ktm"), ("ascii:strict", rb"\udcff.ktm")):
        done = subprocess.run(
            [os.fsencode(sys.executable), b"-m", b"kilotune", b"compile", os.fsencode(own_tflite), b"-o", name],
            capture_output=True, timeout=120, check=False, env={**ENVIRONMENT, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert shown in done.stdout
    assert Path(os.fsdecode(name)).is_file()


def test_a_title_that_is_no_text_does_not_cost_the_report(own_tflite: Path, tmp_path: Path) -> None:
    about = metadata.ModelMetadata(features=features(), loss=Loss.reconstruction)
    own_tflite.write_bytes(metadata.write(own_tflite.read_bytes(), about))
    image, page = tmp_path / "ae.ktm", tmp_path / "report.html"
    kilotune.compile(own_tflite, method="bias").save(image)
    recordings = ("--healthy", "synthetic:healthy,seconds=8", "--fault", "synthetic:inner,seconds=2", "--passes", 1)
    assert ended("report", "-t", "twin", "--image", image, *recordings, "--title", "\udcff", "-o", page) == 0
    assert page.read_text(encoding="utf-8").startswith("<!")


def test_record_uses_the_key_that_is_named_and_writes_what_it_has_when_it_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []

    class Line:
        def __enter__(self) -> Line:
            return self

        def __exit__(self, *error: object) -> None:
            asked.append("closed")

    def connect(
        target: str, image: object, state: object, timeout_s: float, key_file: object, *, fresh: bool, insecure: bool
    ) -> Line:
        asked.append(key_file)
        return Line()

    def stopped(device: object, *, seconds: float, progress: object, rescue: Any) -> None:
        part = recorder.LiveRecording(
            np.ones((50, 3), np.int16), np.arange(50) / 100, 100.0, 8.0, "lis2dw12", (0,), 0, 0
        )
        rescue(part)
        raise KeyboardInterrupt

    monkeypatch.setattr(connection, "connect", connect)
    monkeypatch.setattr(recorder, "record", stopped)
    key, file = tmp_path / "key", tmp_path / "new" / "r.npz"
    keys.write(key, Key.new())
    assert ended("record", "-t", "native", "--key-file", key, "-o", file, "--seconds", 10, "--json") == 130
    assert asked == [key, "closed"]
    assert len(read(file).samples) == 50
    told = capsys.readouterr()
    assert "0.5 s" in told.err
    assert json.loads(told.out)["error"]["code"] == "interrupted"


@pytest.mark.parametrize(("fault", "code"), [("", 0), ("1 / 0", 1)])
def test_notes_that_nobody_reads_do_not_end_the_work(fault: str, code: int, tmp_path: Path) -> None:
    done = tmp_path / "done"
    program = textwrap.dedent(
        f"""
        from pathlib import Path
        from kilotune.cli.command import command

        @command("work", example="kilotune work")
        def work(out):
            "Notes, then works."
            for _ in range(3):
                out.note("x" * 100000)
            Path({str(done)!r}).touch()
            {fault}

        work()
        """
    )
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen([sys.executable, "-c", program], stderr=write, env=ENVIRONMENT) as process:
        os.close(write)
        assert process.wait(30) == code
    assert done.exists()
