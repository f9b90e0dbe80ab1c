"""The commands as a whole: help, flags, examples, and the errors for mistakes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from kilotune.cli.main import Kilotune

from tests.support.command_line import FAKE, commands, run
from tests.support.paths import ROOT


def test_every_command_loads_and_has_help_an_example_and_json() -> None:
    assert set(commands()) == set(Kilotune.homes)
    assert len(Kilotune.homes) == 32
    for name, command in commands().items():
        assert command.help, name
        assert command.example.startswith(f"kilotune {name}"), name
        assert any("--json" in p.opts for p in command.params), name
        assert all(getattr(p, "help", None) for p in command.params if p.param_type_name == "option"), name


@pytest.mark.parametrize("name", sorted(Kilotune.homes))
def test_no_two_flags_of_a_command_clash(name: str) -> None:
    command = commands()[name]
    flags = [flag for p in command.params if p.param_type_name == "option" for flag in (*p.opts, *p.secondary_opts)]
    flags += ["-h", "--help"]
    assert len(flags) == len(set(flags)), flags
    names = [p.name for p in command.params]
    assert len(names) == len(set(names))


def test_a_flag_means_the_same_in_every_command() -> None:
    short: dict[str, set[str]] = {}
    for command in commands().values():
        for p in command.params:
            long = [o for o in p.opts if o.startswith("--")]
            for flag in p.opts:
                if long and flag.startswith("-") and not flag.startswith("--"):
                    short.setdefault(flag, set()).add(long[0])
    assert {flag: names for flag, names in short.items() if len(names) > 1} == {}


def test_examples_parse() -> None:
    import shlex

    for name, command in commands().items():
        for line in command.example.splitlines():
            words = shlex.split(line)
            assert words[:2] == ["kilotune", name]
            known = {o for p in command.params for o in p.opts}
            assert {w for w in words if w.startswith("-")} <= known, line


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    script = (
        "import sys\nfrom kilotune.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('numpy', 'scipy', 'tensorflow', 'serial', 'safetensors') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    took = []
    for _ in range(3):
        before = os.times()
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
        )
        after = os.times()  # processor time, which a busy machine changes little
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert done.stdout.splitlines()[-1] == "[]"
    assert min(took) < 0.5


def test_unknown_command_is_wrong_usage_with_a_suggestion() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    command = [sys.executable, "-m", "kilotune", "comit"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "commit" in done.stderr
    assert done.stdout == ""


def test_importing_a_submodule_does_not_hide_the_public_function() -> None:
    script = (
        "import kilotune, kilotune.adapters.merge, kilotune.compiler.compile\n"
        "assert callable(kilotune.merge) and callable(kilotune.compile)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)


def test_errors_for_people_say_what_to_do(image: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    command = [sys.executable, str(FAKE), "rollback", "-t", "twin", "--image", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 4
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "what to do: " in done.stderr


def test_usage_errors_of_the_parser_are_json_too(image: Path) -> None:
    error = run("stream", code=2)["error"]
    assert error["exit_code"] == 2
    assert "FILES" in error["message"]
    assert run("bench", image, "--count", "0", code=2)["error"]["code"] == "bad_argument"
