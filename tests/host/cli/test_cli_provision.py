"""`kilotune provision`, and every other command with a locked device, as processes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support import small_models
from tests.support.paths import ROOT

if find_spec("kilotune._native") is None:
    pytest.skip("the twin is not built: pip install .", allow_module_level=True)


class Shell:
    """Commands of one user, on one device."""

    def __init__(self, folder: Path, target: str) -> None:
        self.folder, self.target = folder, target
        self.config = folder / "config"
        self.texts: list[str] = []

    def run(self, *arguments: object, code: int = 0, as_json: bool = True) -> Any:
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "host"), "XDG_CONFIG_HOME": str(self.config)}
        command = [sys.executable, "-m", "kilotune", *map(str, arguments), *(["--json"] if as_json else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
        assert done.returncode == code, done.stdout + done.stderr
        self.texts += [done.stdout, done.stderr, *map(str, command)]
        return json.loads(done.stdout) if as_json else done.stdout + done.stderr

    def ask(self, command: str, *arguments: object, code: int = 0) -> Any:
        return self.run(command, *arguments, *self.where(), code=code)

    def where(self) -> list[object]:
        return ["-t", self.target, "--image", self.folder / "m.ktm", "--state", self.folder / "state"]

    def key_files(self) -> list[Path]:
        return sorted((self.config / "kilotune" / "keys").iterdir())

    def told_no_secret(self) -> bool:
        secrets = [p.read_text().strip() for p in self.config.rglob("*.key*")]
        assert secrets
        return not any(s in text for s in secrets for text in self.texts)


@pytest.fixture
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    shell = Shell(tmp_path, getattr(request, "param", "twin"))
    (tmp_path / "m.tflite").write_bytes(small_models.chain(24, 10, 24, seed=5))
    shell.run("compile", tmp_path / "m.tflite", "-o", tmp_path / "m.ktm", "--method", "bias+head")
    return shell


@pytest.mark.parametrize("shell", ["twin", "native"], indirect=True)
def test_a_device_is_locked_used_changed_and_unlocked(shell: Shell) -> None:
    told = shell.ask("provision")
    assert told["lock"] == "writes"
    (file,) = shell.key_files()
    assert str(file) == told["key_file"]
    assert file.name == told["unique_id"] + ".key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shell.ask("commit")
    assert shell.ask("info")["lock"] == "writes"
    assert shell.ask("provision", code=1)["error"]["code"] == "already_locked"
    changed = shell.ask("provision", "--change", "--reading", "closed")
    assert changed["lock"] == "all"
    assert changed["key_id"] != told["key_id"]
    assert shell.ask("info")["key_id"] == changed["key_id"]
    shell.ask("pull", "-o", shell.folder / "adapter")
    assert json.loads((shell.folder / "adapter" / "adapter_config.json").read_text())["key_id"] == changed["key_id"]
    shell.ask("push", shell.folder / "adapter", "--require-tag")

    elsewhere = Shell(shell.folder, shell.target)  # the same device, from a computer without its key
    elsewhere.config = shell.folder / "elsewhere"
    for command in ("info", "commit", "rollback", "reset"):
        error = elsewhere.ask(command, code=4)["error"]
        assert error["code"] == "locked"
        assert "--key-file" in error["hint"]
    (shell.folder / "wrong.key").write_text("12" * 32)
    (shell.folder / "wrong.key").chmod(0o600)
    wrong = elsewhere.ask("commit", "--key-file", shell.folder / "wrong.key", code=4)["error"]
    assert wrong["code"] == "wrong_key"
    assert "1212" not in json.dumps(wrong)
    elsewhere.ask("commit", "--key-file", changed["key_file"])

    removed = shell.ask("provision", "--remove")
    assert (removed["lock"], removed["key_file"]) == ("none", None)
    elsewhere.ask("commit")
    assert shell.told_no_secret()


def test_a_device_whose_flash_was_erased(shell: Shell) -> None:
    """Its owner is told what to do, and it works: a new key, or none any more."""
    shell.ask("provision")
    (file,) = shell.key_files()
    for flash in shell.folder.rglob("flash.bin"):
        flash.unlink()
    refused = shell.ask("commit", code=5)["error"]
    assert refused["code"] == "lock_lost"
    assert str(file) in refused["message"]
    assert "`kilotune provision --insecure`" in refused["hint"]
    assert shell.ask("provision", code=5)["error"]["code"] == "lock_lost"
    shell.ask("commit", "--insecure")
    old = file.read_text()
    shell.ask("provision", "--insecure")
    assert file.read_text() != old
    assert old in [p.read_text() for p in shell.key_files()]
    shell.ask("commit")
    assert shell.told_no_secret()


def test_merge_verifies_the_tag(shell: Shell) -> None:
    model, adapter, out = shell.folder / "m.tflite", shell.folder / "a", shell.folder / "merged.tflite"
    shell.ask("provision")
    shell.ask("pull", "-o", adapter)
    assert shell.run("merge", model, adapter, "-o", out, "--require-tag")["tag"] == "verified"
    elsewhere = Shell(shell.folder, shell.target)
    elsewhere.config = shell.folder / "elsewhere"
    assert elsewhere.run("merge", model, adapter, "-o", out)["tag"] == "unknown_key"
    assert "not on this computer" in elsewhere.run("merge", model, adapter, "-o", out, as_json=False)
    refused = elsewhere.run("merge", model, adapter, "-o", out, "--require-tag", code=5)["error"]
    assert refused["code"] == "not_verified"
    config = adapter / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"steps": content["steps"] + 1}))
    for more in ([], ["--require-tag"]):
        assert shell.run("merge", model, adapter, "-o", out, *more, code=5)["error"]["code"] == "bad_tag"
    assert shell.ask("push", adapter, code=5)["error"]["code"] == "bad_tag"
    assert shell.told_no_secret()


def test_a_given_key_file_is_made_or_used(shell: Shell) -> None:
    file = shell.folder / "my.key"
    told = shell.ask("provision", "--key-file", file)
    assert told["key_file"] == str(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert shell.ask("commit", code=4)["error"]["code"] == "locked"
    shell.ask("commit", "--key-file", file)
    content = file.read_text()
    shell.ask("provision", "--remove", "--key-file", file)
    file.write_text(content)
    file.chmod(0o644)
    assert shell.ask("provision", "--key-file", file, code=1)["error"]["code"] == "bad_key_file"
    file.chmod(0o600)
    refused = shell.ask("provision", "--key-file", file, code=5)["error"]
    assert refused["code"] == "lock_lost"
    assert str(file) in refused["message"]
    assert shell.ask("provision", "--key-file", file, "--insecure")["key_id"] == told["key_id"]
    assert shell.ask("provision", "--change", "--remove", code=2)["error"]["code"] == "bad_argument"
