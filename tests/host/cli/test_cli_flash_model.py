"""`kilotune flash-model` as a process, and what `kilotune flash` does with a device that has accepted a model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from kilotune.targets import flashfile, partition
from kilotune.targets.boards import board

from tests.support import small_models
from tests.support.paths import ROOT

LAYOUT = board("native").flash

if find_spec("kilotune._native") is None:
    pytest.skip("the twin is not built: pip install .", allow_module_level=True)


class Desk:
    """Two models and a native device."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.models: dict[str, Path] = {}
        for seed, name in enumerate("ab", start=5):
            (folder / f"{name}.tflite").write_bytes(small_models.chain(24, 10, 24, seed=seed))
            self.models[name] = folder / f"{name}.ktm"
            self.run("compile", folder / f"{name}.tflite", "-o", self.models[name], "--method", "bias+head")
        self.run("flash", "--board", "native", "--model", self.models["a"], "--state", self.state)

    def run(self, *arguments: object, code: int = 0, user: str = "owner") -> Any:
        home = {"XDG_CONFIG_HOME": str(self.folder / user), "PYTHONPATH": str(ROOT / "host")}
        command = [sys.executable, "-m", "kilotune", *map(str, arguments), "--json"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **home}
        )
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def ask(self, command: str, *arguments: object, code: int = 0, user: str = "owner") -> Any:
        return self.run(command, *arguments, "-t", "native", "--state", self.state, code=code, user=user)

    def hash(self, name: str) -> str:
        return self.models[name].read_bytes()[16:48].hex()

    def runs(self, name: str) -> bool:
        """Asked of the device, and read from its flash as the other tools do."""
        told: bool = self.ask("info")["image_hash"] == self.hash(name)
        content = flashfile.model_in((self.state / "native" / "flash.bin").read_bytes(), LAYOUT)
        assert (content == self.models[name].read_bytes()) == told
        return told


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"))


def test_a_model_is_replaced_and_returned_to_and_flashing_wins(desk: Desk) -> None:
    assert desk.runs("a")
    committed = desk.ask("commit")["status"]["checkpoint"]
    done = desk.ask("flash-model", desk.models["b"])
    assert (done["done"], done["image_hash"], done["former_image_hash"]) == ("replaced", desk.hash("b"), desk.hash("a"))
    assert done["checkpoint"]["sequence"] == 0
    assert desk.runs("b")
    assert desk.ask("flash-model", desk.models["b"])["done"] == "unchanged"
    back = desk.ask("flash-model", "--rollback")
    assert (back["done"], back["image_hash"]) == ("rollback", desk.hash("a"))
    assert back["checkpoint"] == committed
    assert desk.runs("a")
    refused = desk.ask("flash-model", "--rollback", code=4)["error"]
    assert refused["code"] == "no_former"
    assert refused["hint"]
    desk.ask("flash-model", desk.models["b"])
    desk.run("flash", "--board", "native", "--model", desk.models["a"], "--state", desk.state)
    assert desk.runs("a")
    desk.ask("flash-model", desk.models["b"])
    assert desk.runs("b")
    # A command that is given a model runs that one, as always.
    assert desk.ask("info", "--image", desk.models["a"])["image_hash"] == desk.hash("a")
    assert desk.runs("a")


def test_what_is_no_model_is_refused_before_the_device_is_asked(desk: Desk) -> None:
    damaged = bytearray(desk.models["b"].read_bytes())
    damaged[400] ^= 1
    file = desk.folder / "damaged.ktm"
    file.write_bytes(damaged)
    assert desk.ask("flash-model", file, code=1)["error"]["hint"]
    for wrong in ((), (desk.models["b"], "--rollback")):
        assert desk.ask("flash-model", *wrong, code=2)["error"]["code"] == "bad_argument"


def test_a_target_that_has_no_flash_for_it_says_so(desk: Desk) -> None:
    where = ("-t", "twin", "--state", desk.state)
    desk.run("info", "--image", desk.models["a"], *where)
    assert desk.run("flash-model", desk.models["b"], *where, code=4)["error"]["code"] == "unavailable"


def test_a_locked_device_takes_a_model_from_its_owner_alone(desk: Desk) -> None:
    before = "a" if desk.runs("a") else "b"
    other = "b" if before == "a" else "a"
    desk.ask("provision")
    for arguments in ((desk.models[other],), ("--rollback",)):
        refused = desk.ask("flash-model", *arguments, code=4, user="stranger")["error"]
        assert refused["code"] == "locked"
    assert desk.runs(before)
    desk.ask("flash-model", desk.models[other])
    assert desk.runs(other)
    desk.ask("provision", "--remove")


def test_the_partition_is_read_as_the_device_reads_it(desk: Desk) -> None:
    """If the valid image is damaged, the one before is used; an image at the start comes before all records."""
    desk.run("flash", "--board", "native", "--model", desk.models["a"], "--state", desk.state)
    desk.ask("flash-model", desk.models["b"])
    a, b = (desk.models[name].read_bytes() for name in "ab")
    content = bytearray((desk.state / "native" / "flash.bin").read_bytes()[: LAYOUT.model_bytes])
    sector = LAYOUT.model_sector_bytes

    def model() -> bytes | None:
        return partition.model_in(bytes(content), sector)

    assert model() == b
    content[content.index(b) + 200] ^= 1
    assert model() == a
    assert content[:4] == bytes(4)  # of the image that was flashed: it is a record now
    content[:4] = b"KTM1"
    assert model() == a
    content[: len(b)] = b
    assert model() == b
    assert partition.model_in(bytes([0xFF]) * 8192, sector) is None
    assert partition.model_in(b"", sector) is None
