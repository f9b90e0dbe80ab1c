"""How Renode is found, judged and started, with a program in its place that says what Renode would say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.targets import doctor, plain_paths, renode, renode_program

from tests.support.errors import code_of

# Says its version, then what the script `run.resc` lets it say; where all is well it listens as the serial port does.
_FAKE = """#!{python}
import re, socket, sys, time
if sys.argv[1:] == ["--version"]:
    print("Renode v{version}.4567 (build: abc)")
    raise SystemExit
print("Renode, version {version}.4567 (abc-202501010000)", flush=True)
script = open(sys.argv[-1]).read()
open("{seen}", "w").write(sys.argv[-1] + chr(10) + script)
for path in re.findall(r'@([^ \\n]+)|[\\x22](/[^\\x22]*)[\\x22]', script):
    name = "".join(path)
    if not name.endswith("machine.log"):
        open(name, "rb").read(1)
print({says!r}, flush=True)
line = socket.create_server(('127.0.0.1', int(re.search('port=([0-9]+)', script)[1])))
time.sleep(60)
"""


def fake(folder: Path, *, version: str = "1.16.1", says: str = "the firmware runs") -> Path:
    program = folder / "renode"
    text = _FAKE.format(python=sys.executable, version=version, says=says, seen=folder / "seen")
    program.write_text(text, encoding="utf-8")
    program.chmod(0o755)
    return program


@pytest.fixture
def elf(tmp_path: Path) -> Path:
    path = tmp_path / "firmware.elf"
    path.write_bytes(b"")
    return path


def refused(state: Path, elf: Path, image: Image) -> KilotuneError:
    begun = time.monotonic()
    with pytest.raises(KilotuneError) as error, renode.run("nrf52840dk", state, image.content, firmware=elf):
        pass
    assert time.monotonic() - begun < 20  # not the four minutes that a start may take
    return error.value


def test_it_starts_where_it_is_the_right_version(
    tmp_path: Path, elf: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENODE", str(fake(tmp_path)))
    with renode.run("nrf52840dk", tmp_path / "state", image.content, firmware=elf) as (port, process):
        assert port.startswith("socket://127.0.0.1:")
        assert process.pid > 0


@pytest.mark.parametrize("version", ["1.16.0", "1.15.3", "1.17.0"])
def test_another_version_is_refused_at_once(
    version: str, tmp_path: Path, elf: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENODE", str(fake(tmp_path, version=version)))
    error = refused(tmp_path / "state", elf, image)
    assert error.code == "wrong_version"
    assert version in error.message
    assert "1.16.1" in error.hint


@pytest.mark.parametrize(
    "says",
    [
        "There was an error executing command 'include @x.repl'\nError E02: could not find type",
        "Could not tokenize here:\ninclude @/x y\n           ^",
        "No such command or device: sysbus.usart9",
        "No such variable: $elf",
        "Bad parameters for command logFile",
        "Parameters did not match the signature",
        "sysbus does not provide a field, method or property LoadSVD",
        "Fatal error: Cannot load library",
        "Unhandled exception. System.DllNotFoundException: libllvm-disas",
    ],
)
def test_whatever_way_renode_says_that_something_is_wrong_ends_the_wait_with_its_text(
    says: str, tmp_path: Path, elf: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on itself as if nothing were wrong, and gets to the line that says so."""
    monkeypatch.setenv("RENODE", str(fake(tmp_path, says=says + "\nthe firmware runs")))
    error = refused(tmp_path / "state", elf, image)
    assert error.code == "cannot_start"
    for line in says.splitlines():
        assert line.strip() in error.message


@pytest.mark.parametrize("name", ["Jane Doe", 'a"b', "a;b", "a'b", "a$b", "ü", "a#b", "a\\b", "a`b"])
def test_a_state_folder_of_any_name_is_used(
    name: str, tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENODE", str(fake(tmp_path)))
    state = tmp_path / name / "devices"
    elf = tmp_path / name / f"{name}.elf"
    elf.parent.mkdir()
    elf.write_bytes(b"")
    with renode.run("nrf52840dk", state, image.content, firmware=elf):
        seen = (tmp_path / "seen").read_text(encoding="utf-8")
        links = [word for word in seen.replace('"', " ").replace("@", " ").split() if word.startswith("/")]
        assert links
        assert all(plain_paths.is_plain(Path(word)) for word in links)
        flash = next(Path(word) for word in links if word.endswith("flash.bin"))
        assert flash.samefile(state / "flash.bin")
    assert not flash.exists()  # the link
    assert (state / "flash.bin").stat().st_size > 0


def test_where_no_plain_folder_is_left_the_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_paths, "_FOLDERS", (str(tmp_path / "a b"),))
    with plain_paths.PlainPaths() as plain, pytest.raises(KilotuneError) as error:
        plain.of(tmp_path / "c d")
    assert error.value.code == "bad_state"


def _absent(folder: Path) -> Path:
    return folder / "nothing"


def _folder(folder: Path) -> Path:
    return folder


def _not_executable(folder: Path) -> Path:
    program = fake(folder)
    program.chmod(0o644)
    return program


@pytest.mark.parametrize(
    ("make", "words"),
    [(_absent, "names no file"), (_folder, "is a folder"), (_not_executable, "cannot be executed")],
    ids=["absent", "folder", "not executable"],
)
def test_a_wrong_renode_variable_is_judged_alike_by_doctor_and_commands(
    make: object, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if make is _not_executable and os.access(_not_executable(tmp_path), os.X_OK):
        pytest.skip("this user may execute anything")
    monkeypatch.setenv("RENODE", str(make(tmp_path)))  # type: ignore[operator]
    with pytest.raises(KilotuneError) as error:
        renode_program.require()
    assert code_of(error) == "missing_tool"
    assert words in error.value.message
    (check,) = (c for c in doctor.examine() if c.name == "renode")
    assert not check.ok
    assert words in check.install


@pytest.mark.parametrize(("version", "ok"), [("1.16.1", True), ("1.16.0", False)])
def test_doctor_tells_the_version_and_what_is_wrong_with_it(version: str, ok: bool, tmp_path: Path) -> None:
    environment = {**os.environ, "RENODE": str(fake(tmp_path, version=version))}
    command = [sys.executable, "-m", "kilotune", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    (check,) = (c for c in json.loads(done.stdout)["checks"] if c["name"] == "renode")
    assert check["ok"] is ok
    assert version in (check["found"] if ok else check["install"])
