"""The command line where things go wrong: outputs, inputs and signals that nobody meant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import pytest
import rich_click as click
from kilotune.cli.command import Ended
from kilotune.cli.main import main
from kilotune.common.files import keep_apart, require_writable, write_atomically
from kilotune.device import recorder
from kilotune.errors import EXIT_USAGE, KilotuneError, exit_code
from kilotune.image import metadata
from kilotune.sources import ReadOptions, read
from kilotune.sources.arrays import load_array
from kilotune.targets import connect as connection
from kilotune.targets import ports
from scipy.io import savemat

from tests.support import small_models
from tests.support.command_line import commands, features
from tests.support.paths import ROOT

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
ENVIRONMENT.pop("PYTHONUNBUFFERED", None)  # it hides what is written when the interpreter ends


def ended(*arguments: object) -> int:
    """Exit code of a command in this process."""
    with pytest.raises(SystemExit) as leaving:
        main([str(a) for a in arguments])
    return int(leaving.value.code or 0)


def failed(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    """The error that a command with --json prints: one JSON document, with the exit code that it ends with."""
    code = ended(*arguments, "--json")
    error: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
    assert error["exit_code"] == code
    return error


@pytest.fixture
def tflite(tmp_path: Path) -> Path:
    path = tmp_path / "ae.tflite"
    path.write_bytes(small_models.chain(12, 8, 12, seed=3))
    return path


# --- outputs -------------------------------------------------------------------------------------


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        require_writable(pipe)
        write_atomically(pipe, b"through")
        assert os.read(reader, 100) == b"through"
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_folders_of_outputs_are_made_and_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b", b"x")
    require_writable(tmp_path / "c" / "d")
    for write in (require_writable, lambda path: write_atomically(path, b"x")):
        with pytest.raises(KilotuneError) as error:
            write(tmp_path / "a" / "b" / "below-a-file")
        assert error.value.code == "cannot_write"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "c"]  # nothing was left behind


def test_an_output_is_kept_apart_from_inputs_and_from_other_outputs(tmp_path: Path) -> None:
    model = tmp_path / "m"
    model.write_bytes(b"")
    (tmp_path / "link").symlink_to("m")
    keep_apart({"--out": tmp_path / "new", "--plot": None}, {"the model": model})
    keep_apart({"--out": Path(os.devnull), "--plot": Path(os.devnull)}, {"the model": model})
    for outputs in ({"--out": tmp_path / "link"}, {"--out": tmp_path / "new", "--plot": tmp_path / "x" / ".." / "new"}):
        with pytest.raises(KilotuneError, match="would overwrite"):
            keep_apart(dict(outputs), {"the model": model})


def test_no_command_replaces_its_own_input(tflite: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, rows, table = tmp_path / "ae.ktm", tmp_path / "x.npy", tmp_path / "x.csv"
    kilotune.compile(tflite, method="bias").save(image)
    np.save(rows, np.zeros((4, 12), np.int8))
    table.write_text("x\n1\n2\n")
    adapter = tmp_path / "adapter"
    assert ended("train", image, "-t", "twin", "-i", rows, "--steps", 1, "--lr", 0.1, "--seed", 1, "-o", adapter) == 0
    before = {path: path.read_bytes() for path in (tflite, image, rows, table)}
    for command in (
        ("compile", tflite, "-o", tflite),
        ("compile", tflite, "-o", tmp_path / "n", "--c-array", tmp_path / "n"),
        ("inspect", image, "--plan", image),
        ("merge", tflite, adapter, "-o", tflite),
        ("quantize", tflite, "--samples", rows, "-o", rows),
        ("infer", image, "-t", "twin", "-i", rows, "-o", rows),
        ("record-to-resd", table, "--rate", 100, "-o", table),
        ("report", "--image", image, "--healthy", table, "--fault", "synthetic:inner", "-t", "twin", "-o", table),
    ):
        capsys.readouterr()
        error = failed(capsys, *command)
        assert error["exit_code"] == EXIT_USAGE, command
        assert "would overwrite" in error["message"]
    assert {path: path.read_bytes() for path in before} == before


# --- options -------------------------------------------------------------------------------------


def test_no_option_takes_a_number_that_is_none() -> None:
    found = 0
    for name, command in commands().items():
        for p in command.params:
            if isinstance(p.type, (click.FloatRange, click.types.FloatParamType)):
                found += 1
                for text in ("nan", "inf", "-inf"):
                    with pytest.raises(click.BadParameter):
                        print(name, p.opts, p.type.convert(text, p, None))
    assert found > 20


@pytest.mark.parametrize(
    "options",
    [
        ("--passes", "3"),
        ("--resume",),
        ("--learn", "--recalibrate"),
        ("--learn", "--guard", "none"),
        ("--learn", "--detect", "--learn-files", "1", "--learn-seconds", "1"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    error = failed(capsys, "stream", "synthetic:healthy", "-t", "twin", *options)
    assert (error["code"], error["exit_code"]) == ("usage", EXIT_USAGE)


def test_an_empty_target_is_not_the_one_board_that_is_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ports, "list_ports", lambda: [ports.Port("/dev/board", "", "0d28:0204", "")])
    assert failed(capsys, "rollback", "-t", "")["code"] == "usage"


def test_digits_that_are_no_numbers_and_boards_that_are_none_are_wrong_usage(
    tflite: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compile", tflite, "-o", tflite.with_suffix(".ktm"), "--method", "channels")
    for channels in ("²", "0:²"):
        assert failed(capsys, *arguments, "--channels", channels)["code"] == "usage"
    assert failed(capsys, "info", "-t", "socket://localhost:²")["code"] == "usage"
    assert failed(capsys, "info", "-t", "qemu:nowhere")["exit_code"] == EXIT_USAGE == exit_code("no_emulator")


# --- inputs --------------------------------------------------------------------------------------


def damaged(folder: Path) -> dict[str, Path]:
    """Recordings that their readers trip over in ways of their own."""
    made = {name: folder / name for name in ("zip.npy", "flipped.mat", "header.wav", "endless.csv", "huge.npz")}
    made["zip.npy"].write_bytes(b"PK\x03\x04" + bytes(200))
    noise = np.random.default_rng(0).normal(size=(3000, 3))
    savemat(made["flipped.mat"], {"x": noise, "fs": 100.0}, do_compression=True)
    content = bytearray(made["flipped.mat"].read_bytes())
    content[1000:1200] = bytes(200)
    made["flipped.mat"].write_bytes(content)
    made["header.wav"].write_bytes(b"RIFF" + bytes([36, 0, 0, 0]) + b"WAVEfmt " + bytes([16, 0, 0, 0, 1, 0]))
    made["endless.csv"].write_text("x" * 300_000 + "\n1,2,3\n")
    shape = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 3), }".ljust(117) + b"\n"
    with zipfile.ZipFile(made["huge.npz"], "w") as archive:
        archive.writestr("samples.npy", b"\x93NUMPY\x01\x00\x76\x00" + shape)
    return made


@pytest.mark.parametrize("name", ["zip.npy", "flipped.mat", "header.wav", "endless.csv", "huge.npz"])
def test_a_damaged_recording_is_an_error_with_its_name(name: str, tmp_path: Path) -> None:
    path = damaged(tmp_path)[name]
    with pytest.raises(KilotuneError, match=name) as error:
        read(path, ReadOptions(rate_hz=100.0))
    assert error.value.code == "bad_file"
    assert len(error.value.message) < 500
    if path.suffix == ".npy":
        with pytest.raises(KilotuneError):
            load_array(path)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0, 1e308])
def test_a_start_that_is_no_place_in_a_recording_is_refused(wrong: float, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100, 3), np.float32))
    with pytest.raises(KilotuneError) as error:
        read(tmp_path / "x.npy", ReadOptions(rate_hz=100.0, start_s=wrong))
    assert error.value.code == "bad_argument"
    assert len(read(tmp_path / "x.npy", ReadOptions(rate_hz=100.0, seconds=1e308)).samples) == 100


@pytest.mark.parametrize(
    ("spec", "code"),
    [("synthetic:healthy,seed=nan", "bad_argument"), ("synthetic:healthy,seconds=1e12", "too_large")],
)
def test_a_machine_cannot_be_simulated_without_bounds(spec: str, code: str) -> None:
    with pytest.raises(KilotuneError) as error:
        read(spec)
    assert error.value.code == code


# --- how a command ends --------------------------------------------------------------------------


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


def test_names_that_are_no_text_go_in_and_out_as_they_are(tflite: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff.ktm"
    for encoding, shown in (("utf-8:strict", b"\xff.ktm"), ("ascii:strict", rb"\udcff.ktm")):
        done = subprocess.run(
            [os.fsencode(sys.executable), b"-m", b"kilotune", b"compile", os.fsencode(tflite), b"-o", name],
            capture_output=True, timeout=120, check=False, env={**ENVIRONMENT, "PYTHONIOENCODING": encoding},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        assert shown in done.stdout
    assert Path(os.fsdecode(name)).is_file()


def test_a_title_that_is_no_text_does_not_cost_the_report(tflite: Path, tmp_path: Path) -> None:
    about = metadata.ModelMetadata(features=features(), loss="reconstruction")
    tflite.write_bytes(metadata.write(tflite.read_bytes(), about))
    image, page = tmp_path / "ae.ktm", tmp_path / "report.html"
    kilotune.compile(tflite, method="bias").save(image)
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

    def connect(target: str, image: object, state: object, timeout_s: float, key_file: object) -> Line:
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


def test_a_file_that_is_replaced_keeps_who_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_atomically(path, b"1")
    path.chmod(0o600)
    write_atomically(path, b"2")
    assert path.stat().st_mode & 0o777 == 0o600
