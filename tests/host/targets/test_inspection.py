"""What `inspect` says about memory: the plan as a picture, and what each optimiser costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import kilotune
import pytest
from kilotune.report.memoryplan import alive_bytes, memory_plan
from kilotune.targets.fit import optimisers

from tests.support import small_models

MODEL = small_models.chain(24, 12, 6, 24, seed=3)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("method", ["bias", "bias+head", "lora", "channels"])
def test_the_state_of_an_optimiser_is_what_the_compiler_reserves(method: str) -> None:
    plain = kilotune.compile(MODEL, method=method)
    wide = kilotune.compile(MODEL, method=method, momentum=True)
    told = {o.name: o for o in optimisers(plain)}
    assert told["sgd"].state_bytes == 0
    assert told["sgd"].available
    assert told["momentum"].state_bytes == wide.state_bytes
    assert not told["momentum"].available
    assert {o.name for o in optimisers(wide) if o.available} == {"sgd", "momentum", "accumulation"}
    if method == "lora":
        assert "adam" not in told
        return
    adam = kilotune.compile(MODEL, method=method, adam=True)
    assert told["adam"].state_bytes == adam.state_bytes
    assert [o.name for o in optimisers(adam) if o.available] == ["adam"]


@pytest.mark.parametrize("method", ["none", "bias", "lora"])
def test_the_picture_has_a_box_for_every_buffer_at_its_place(method: str) -> None:
    image = kilotune.compile(MODEL, method=method)
    root = ElementTree.fromstring(memory_plan(image))
    boxes = {title.text: rect for rect in root.iter(f"{SVG}rect") for title in rect.iter(f"{SVG}title")}
    assert len(boxes) == len(image.memory)
    lowest = max(float(r.get("y", 0)) + float(r.get("height", 0)) for r in boxes.values())
    scale = (lowest - 44.0) / image.arena_bytes
    for piece in image.memory:
        title = f"{piece.key}: {piece.size:,} bytes from {piece.offset:,}, steps {piece.first} to {piece.last}"
        rect = boxes[title]
        assert float(rect.get("height", 0)) == pytest.approx(piece.size * scale, abs=0.2)
        bottom = float(rect.get("y", 0)) + float(rect.get("height", 0))
        assert lowest - bottom == pytest.approx(piece.offset * scale, abs=0.2)


def test_no_step_needs_more_than_the_arena_and_one_needs_nearly_all() -> None:
    image = kilotune.compile(MODEL, method="bias+head")
    used = alive_bytes(image.memory)
    assert image.arena_bytes - 16 <= max(used.values()) <= image.arena_bytes


def test_the_command_draws_the_plan_and_tells_the_optimisers(tmp_path: Path) -> None:
    kilotune.compile(MODEL, method="bias").save(tmp_path / "m.ktm")
    command = ("-m", "kilotune", "inspect", tmp_path / "m.ktm", "--plan", tmp_path / "p.svg", "--json")
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(done.stdout)
    assert [o["name"] for o in told["optimisers"]][:2] == ["sgd", "momentum"]
    assert told["optimisers"][1]["bytes_per_bias"] == 4
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag == f"{SVG}svg"
