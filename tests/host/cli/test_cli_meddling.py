"""Every command that speaks to a device, as a process, with somebody on the line of a locked one.

The commands are those that there are: one that is new fails here until it is said how to call it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.adapters.adapter import Adapter
from kilotune.cli.main import main
from kilotune.image.image import Image
from kilotune.link import keys as keys_module
from kilotune.link.auth import Lock

from tests.support import locked, meddler
from tests.support.locked import KEY, LAYOUT, NativeLine, TwinLine
from tests.support.meddler import Meddler, Meddling
from tests.support.paths import ROOT
from tests.support.small_models import chain

STREAM = ("stream", "samples.npy", "--rate", "1600", "--image", "m.ktm")

# How to call each, in a folder with what it needs.
CALLS: dict[str, list[tuple[str, ...]]] = {
    "info": [("info",)],
    "commit": [("commit",), ("commit", "--candidate")],
    "mark-stable": [("mark-stable",)],
    "rollback": [("rollback",)],
    "reset": [("reset",)],
    "provision": [("provision", "--change"), ("provision", "--remove")],
    "pull": [("pull", "--image", "m.ktm", "-o", "pulled")],
    "push": [("push", "adapter")],
    "stream": [STREAM, (*STREAM, "--learn", "--commit")],
    "infer": [("infer", "m.ktm", "-i", "rows.npy", "-o", "out.npy")],
    "train": [("train", "m.ktm", "-i", "rows.npy", "--steps", "2", "--lr", "0.1", "--seed", "1", "-o", "trained")],
    "bench": [("bench", "m.ktm")],
    "status": [("status",), ("status", "--image", "m.ktm")],
    "acknowledge": [("acknowledge", "--normal"), ("acknowledge", "--fault")],
    "alarm-rule": [("alarm-rule", "--alarm", "2/3")],
    "record": [("record", "-o", "recorded.npz", "--seconds", "1")],
    "flash-model": [("flash-model", "other.ktm"), ("flash-model", "--rollback")],
    "report": [
        ("report", "--image", "m.ktm", "--healthy", "samples.npy", "--fault", "fault.npy", "--rate", "1600",
         "-o", "report.html"),
    ],
}  # fmt: skip
EACH = [call for calls in CALLS.values() for call in calls]


def device_commands() -> set[str]:
    context = main.make_context("kilotune", ["info"], resilient_parsing=True)
    found = {name: main.get_command(context, name) for name in main.list_commands(context)}
    return {name for name, command in found.items() if command and "insecure" in {p.name for p in command.params}}


def test_every_command_is_tried() -> None:
    assert set(CALLS) == device_commands()


@pytest.fixture(scope="module")
def image() -> Image:
    return locked.make_image()


@pytest.fixture(scope="module")
def flash(image: Image, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return locked.prepared_flash(image, Lock.writes, tmp_path_factory.mktemp("keys"))


class Desk:
    """A locked native device, somebody on its line, and its owner's folder."""

    def __init__(self, image: Image, flash: bytes, folder: Path) -> None:
        self.folder, self.image = folder, image
        self.line = NativeLine(image, flash, folder)
        self.meddler = Meddler(self.line)
        image.save(folder / "m.ktm")
        kilotune.compile(chain(24, 12, 24, seed=9), method="bias+head").save(folder / "other.ktm")
        Adapter.base(image).save(folder / "adapter")
        rng = np.random.default_rng(4)
        for name in ("samples", "fault"):
            np.save(folder / f"{name}.npy", rng.normal(size=(3000, 3)).astype(np.float32))
        np.save(folder / "rows.npy", np.zeros((2, 24), np.int8))
        keys_module.write(folder / "config" / "kilotune" / "keys" / self.key_name(), KEY)

    def key_name(self) -> str:
        hello = locked.Victim(self.line).hello(0x3FFF)
        return f"{hello.unique_id.hex()}.key"

    def run(self, *call: str, meddling: Meddling = Meddler.device, user: str = "config", code: int) -> Any:
        self.meddler.answers = meddling
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "host"),
            "XDG_CONFIG_HOME": str(self.folder / user),
        }
        with meddler.listening(self.meddler) as port:
            command = [sys.executable, "-m", "kilotune", *call, "--json", "--timeout", "1", "-p", port]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60, check=False, env=environment, cwd=self.folder
            )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def flash(self) -> bytes:
        return (self.folder / "flash.bin").read_bytes()


@pytest.fixture(scope="module")
def desk(image: Image, flash: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One for all: nothing that is tried here changes it."""
    desk = Desk(image, flash, tmp_path_factory.mktemp("desk"))
    yield desk
    desk.line.close()


def stored(content: bytes) -> bytes:
    """Checkpoints and model: attempts and successes are written beside the key."""
    return content[: LAYOUT.key_offset] + content[LAYOUT.key_offset + LAYOUT.key_bytes :]


@pytest.mark.parametrize("call", EACH, ids=" ".join)
def test_another_device_that_answers_for_it_is_not_believed(desk: Desk, image: Image, call: tuple[str, ...]) -> None:
    """It would do all of it: it has no lock."""
    before = desk.flash()
    double = TwinLine(image, b"\xff" * LAYOUT.used_bytes)
    error = desk.run(*call, meddling=meddler.impersonated(double), code=1)["error"]
    assert error["code"] == "timeout"
    assert stored(desk.flash()) == stored(before)


@pytest.mark.parametrize("call", EACH, ids=" ".join)
def test_a_device_that_claims_to_have_no_key_is_refused(desk: Desk, call: tuple[str, ...]) -> None:
    before = desk.flash()
    error = desk.run(*call, meddling=meddler.greeted(lock=Lock.none, key_id=b""), code=5)["error"]
    assert error["code"] == "lock_lost"
    assert "--insecure" in error["hint"]
    assert desk.flash() == before


@pytest.mark.parametrize("call", [call for call in EACH if call[0] not in ("info", "status")], ids=" ".join)
def test_without_the_key_no_success_is_believed(desk: Desk, image: Image, call: tuple[str, ...]) -> None:
    before = desk.flash()
    double = TwinLine(image, b"\xff" * LAYOUT.used_bytes)
    error = desk.run(*call, meddling=meddler.impersonated(double), user="elsewhere", code=4)["error"]
    assert error["code"] == "locked"
    assert desk.flash() == before


def test_with_leave_it_goes_on(desk: Desk) -> None:
    """Who erased the device knows better; what it tells is what any device without a key tells."""
    unlocked = meddler.greeted(lock=Lock.none, key_id=b"")
    assert desk.run("info", "--insecure", meddling=unlocked, code=0)["lock"] == "none"
    assert desk.run("commit", "--insecure", meddling=unlocked, code=4)["error"]["code"] == "locked"


def test_a_stranger_reads_what_the_table_of_requests_says(desk: Desk) -> None:
    assert desk.run("info", user="elsewhere", code=0)["lock"] == "writes"


def test_a_key_file_that_is_not_there_is_no_key(desk: Desk) -> None:
    error = desk.run("commit", "--key-file", "wrong-name.key", code=1)["error"]
    assert error["code"] == "bad_key_file"


def test_an_existing_key_is_not_given_away(desk: Desk) -> None:
    heard: list[bytes] = []
    claim = meddler.greeted(lock=Lock.none, key_id=b"")

    def answers(self: Meddler, request: bytes) -> list[bytes]:
        heard.append(request)
        return claim(self, request)

    keys_module.write(desk.folder / "team.key", KEY)
    error = desk.run("provision", "--key-file", "team.key", meddling=answers, user="elsewhere", code=5)["error"]
    assert error["code"] == "lock_lost"
    assert not any(KEY.secret in request for request in heard)
