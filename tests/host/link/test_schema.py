"""One description of the wire: what is in firmware/schema is in C++ and in Python; errors in it are named."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from kilotune import wire_terms
from kilotune.link import wire
from kilotune.link.wire import REQUESTS

from tests.support.paths import ROOT

SCHEMA = ROOT / "firmware" / "schema"

zcbor = pytest.importorskip("zcbor", reason="the package zcbor is not installed: pip install kilotune[firmware]")


@dataclass
class Made:
    """What generate.py makes of a changed copy of the schema."""

    folder: Path

    @property
    def device_cddl(self) -> Path:
        return self.folder / "device.cddl"

    @property
    def terms(self) -> str:
        return (self.folder / "terms.h").read_text()

    def module(self, name: str = "wire") -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"made_{name}", self.folder / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"made_{name}"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module


class Changed:
    """A copy of the schema with replacements, `file: old -> new`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("messages.cddl", "requests.def"):
            shutil.copy(SCHEMA / name, folder)

    def replace(self, name: str, old: str, new: str) -> Changed:
        text = (self.folder / name).read_text()
        assert text.count(old) == 1
        (self.folder / name).write_text(text.replace(old, new))
        return self

    def run(self) -> subprocess.CompletedProcess[str]:
        out = self.folder
        made = {
            "--zcbor": out / "device.cddl",
            "--cpp": out / "terms.h",
            "--python": out / "wire.py",
            "--python-terms": out / "wire_terms.py",
        }
        command = [sys.executable, SCHEMA / "generate.py", "--schema", self.folder]
        for option, path in made.items():
            command += [option, path]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)

    def made(self) -> Made:
        done = self.run()
        assert done.returncode == 0, done.stderr
        return Made(self.folder)

    def refused(self) -> str:
        done = self.run()
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def schema(tmp_path: Path) -> Changed:
    return Changed(tmp_path)


def c_struct(cddl: Path, rule: str) -> str:
    """The struct that zcbor makes of a request, for the device."""
    program = Path(zcbor.__file__).parent / "zcbor" / "zcbor.py"
    out = cddl.with_name("codec")
    command = [sys.executable, program, "code", "--cddl", cddl, "--decode", "--entry-types", rule,
               "--default-bit-size", "32", "--short-names", "--output-c", f"{out}.c", "--output-h", f"{out}.h",
               "--output-h-types", f"{out}_types.h"]  # fmt: skip
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60)
    return re.sub(r"\s+", " ", Path(f"{out}_types.h").read_text())


def test_the_installed_module_is_made_of_the_present_schema(schema: Changed) -> None:
    made = schema.made().folder
    for module in (wire, wire_terms):
        assert module.__file__ is not None
        installed = Path(module.__file__)
        again = "install the package again: make lint, or pip install -e ."
        assert (made / installed.name).read_text() == installed.read_text(), again


def test_an_added_field_is_in_both_languages_with_its_range_and_its_comment(schema: Changed) -> None:
    schema.replace(
        "messages.cddl",
        "pull-request = [offset: u32, length: u16]",
        "pull-request = [\n  offset: u32,\n  length: u16,\n  every: 3..9, ; so many bytes\n]",
    )
    made = schema.made()
    assert "struct pull_request { uint32_t offset; uint32_t length; uint32_t every; };" in c_struct(
        made.device_cddl, "pull-request"
    )
    module = made.module()
    assert [f.name for f in fields(module.PullRequest)] == ["offset", "length", "every"]
    msgspec.convert({"offset": 0, "length": 0, "every": 9}, module.PullRequest)
    with pytest.raises(msgspec.ValidationError, match="every"):
        msgspec.convert({"offset": 0, "length": 0, "every": 10}, module.PullRequest)
    assert "every: Annotated[int, msgspec.Meta(ge=3, le=9)]  # so many bytes" in Path(module.__file__ or "").read_text()


def test_an_added_name_of_a_number_is_in_both_languages(schema: Changed) -> None:
    schema.replace("messages.cddl", "nearest: 2, combined: 3)", "nearest: 2, combined: 3, best-of-all: 4)")
    schema.replace("messages.cddl", "anomaly: 1, learned: 2)", "anomaly: 1, learned: 2, held: 3)")
    made = schema.made()
    assert "best_of_all = 4," in made.terms
    assert "kHeld = 8," in made.terms
    assert "kWindowFlagCount = 4;" in made.terms
    module = made.module("wire_terms")
    assert module.Scorer.best_of_all == 4
    assert module.WindowFlag.held == 8


def test_an_added_request_is_a_kind_with_its_own_words(schema: Changed) -> None:
    row = '\nKILOTUNE_REQUEST(50, dance, pull_request, none, owner, model, kHolds | kSteers, "dance")\n'
    with (schema.folder / "requests.def").open("a") as file:
        file.write(row)
    module = schema.made().module()
    request = module.REQUESTS[module.Kind.dance]
    assert module.Kind.dance == 50
    assert (request.fields, request.answer, request.doing) == (module.PullRequest, None, "dance")
    assert (request.access, request.needs_model) == (module.Access.owner, True)
    assert (request.holds, request.steers) == (True, True)


def test_a_number_with_names_is_any_byte_to_the_device(schema: Changed) -> None:
    """So that a value without a name is refused as `bad_argument`, not as a message that cannot be decoded."""
    cddl = schema.made().device_cddl.read_text()
    assert "scorer: scorer-code" in cddl
    assert "scorer-code = 0..255" in cddl
    assert "reasons: 0..255" in cddl


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("(35, pull, pull_request,", "(35, pull, pull_requst,", "pull: there is no request 'pull_requst'"),
        ("(35, pull, pull_request,", "(35, pull, pull_answer,", "pull: there is no request 'pull_answer'"),
        ("(35, pull, ", "(36, pull, ", "push_begin: 'pull' has its number or name already"),
        ("(35, pull, ", "(35, restore, ", "restore: 'restore' has its number or name already"),
        ("(35, pull, ", "(64, pull, ", "pull: the number is 64, not 1 to 63"),
        ("(35, pull, pull_request, pull_answer, owner,", "(35, pull, pull_request, pull_answer, guest,",
         "pull: access is 'guest', not anyone or reader or owner"),
        ("owner, nothing, 0, \"test its sensor\"", "owner, sensor, 0, \"test its sensor\"",
         "sensor_test: needs is 'sensor', not model or nothing"),
        ("owner, model, kSteers, \"roll back\"", "owner, model, kStares, \"roll back\"",
         "rollback: effects are kHolds | kSteers or 0, not 'kStares'"),
        (", \"roll back\")", ", roll back)", "this is no KILOTUNE_REQUEST(...)"),
        ("KILOTUNE_REQUEST(35, pull, pull_request, pull_answer, owner, model, 0, \"send its adapter\")\n", "",
         "no request is about 'pull-request' of messages.cddl"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_by_name(schema: Changed, old: str, new: str, said: str) -> None:
    assert said in schema.replace("requests.def", old, new).refused()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("length: u16]", "length: u17]", "u17"),
        ("length: u16]", "? length: u16]", "pull-request: a field may neither be left out nor repeated"),
        ("length: u16]", "float]", "pull-request: a field has no name"),
        ("length: u16]", "length: float]", "pull-request: length: messages are made of integers"),
        ("length: u16]", "while: u16]", "pull-request: no field can be called 'while' in Python"),
        ("length: u16]", "length: uint .bits reasn]", "there are no flags 'reasn'"),
    ],
)
def test_a_bad_message_is_refused_by_name(schema: Changed, old: str, new: str, said: str) -> None:
    refused = schema.replace("messages.cddl", f"[offset: u32, {old}", f"[offset: u32, {new}").refused()
    assert said in refused
    assert "messages.cddl" in refused


def test_the_specification_lists_every_request() -> None:
    spec = (ROOT / "docs" / "SPEC.md").read_text()
    section = spec[spec.index("### 3.3") : spec.index("### 3.4")]
    listed = {int(kind): (request, answer) for kind, request, answer in re.findall(
        r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|", section, re.MULTILINE)}  # fmt: skip
    table = (SCHEMA / "requests.def").read_text()
    for number, *row in re.findall(r"^KILOTUNE_REQUEST\((\d+), (\w+), (\w+), (\w+),", table, re.MULTILINE):
        name, request, answer = (word.replace("_", "-") for word in row)
        assert listed[int(number)][0] == (f"`{name}`: none" if request == "none" else f"`{request}`")
        assert listed[int(number)][1] == ("none" if answer == "none" else f"`{answer}`")
    assert sorted(listed) == sorted(REQUESTS)
