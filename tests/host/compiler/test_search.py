"""`compile --ram`: what is chosen fits, is the best that fits, and beats its alternatives."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from kilotune import _native
from kilotune.adapters.adapter import Adapter
from kilotune.compiler.compile import compile, compile_within
from kilotune.compiler.search import TIE, Budget, Samples
from kilotune.errors import KilotuneError

from tests.support import small_models
from tests.support.arrays import Bytes

CODER = small_models.chain(24, 12, 6, 12, 24, seed=1)
CLASSES = small_models.chain(12, 16, 8, 3, softmax=True, seed=2)


def windows(n: int = 48, width: int = 24, seed: int = 0) -> Bytes:
    """Samples that four factors make, which this network has never seen."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)) @ np.random.default_rng(9).normal(size=(4, width)) * 20 + 15
    return np.asarray(np.clip(np.rint(x), -128, 127), np.int8)


def labelled(n: int = 60) -> Samples:
    rng = np.random.default_rng(3)
    labels = np.arange(n) % 3
    x = rng.normal(0, 12, (n, 12)) + 60 * np.eye(3).repeat(4, 1)[labels]
    return Samples(np.clip(np.rint(x), -128, 127).astype(np.int8), labels.astype(np.uint16))


@pytest.mark.parametrize("ram", [300, 700, 1500])
def test_the_choice_fits_and_nothing_measured_that_fits_is_better(ram: int) -> None:
    image, found = compile_within(CODER, Budget(ram), Samples(windows()), steps=60)
    assert image.arena_bytes + image.adapter_bytes + image.state_bytes == found.best.ram_bytes <= ram
    assert image.method == "chosen"
    fitting = [p for p in found.points if p.ram_bytes <= ram]
    assert [p for p in found.points if p.fits] == fitting
    assert found.best.gain >= max(p.gain for p in fitting) - TIE
    assert found.best.gain > 0


def test_more_memory_never_buys_less() -> None:
    gains = [compile_within(CODER, Budget(ram), Samples(windows()), steps=60)[1].best.gain for ram in (260, 600, 2000)]
    assert gains[0] < gains[2]
    assert all(later >= earlier - TIE for earlier, later in itertools.pairwise(gains))


def test_a_limit_on_instructions_is_kept() -> None:
    free = compile_within(CODER, Budget(2000), Samples(windows()), steps=60)[1]
    limit = min(p.instructions for p in free.points) + 500
    bound = compile_within(CODER, Budget(2000, limit), Samples(windows()), steps=60)[1]
    assert bound.best.instructions <= limit


def test_a_classifier_is_measured_on_held_back_samples_of_every_class() -> None:
    image, found = compile_within(CLASSES, Budget(1200), labelled(), steps=120)
    assert found.held == 15
    kernel = _native.Kernel(image.content)
    assert bytes(kernel.adapter) == Adapter.base(image).blob  # the search leaves no trace in the image
    assert found.best.gain > 0.3


def test_contributions_are_of_single_layers() -> None:
    _, found = compile_within(CODER, Budget(1500), Samples(windows()), steps=40)
    assert {p.op for p in found.parts} == {0, 1, 2, 3}
    assert all(0.0 <= p.contribution <= 1.0 for p in found.parts)
    assert all(list(c) == sorted(c) for c in (p.choice.channels for p in found.parts))


def test_too_small_a_budget_says_what_is_needed() -> None:
    with pytest.raises(KilotuneError, match="at least") as caught:
        compile_within(CODER, Budget(50), Samples(windows()), steps=10)
    assert caught.value.code == "too_large"
    cheapest = int(caught.value.message.split(" bytes")[0].split()[-1].replace(",", ""))
    compile_within(CODER, Budget(cheapest), Samples(windows()), steps=10)
    with pytest.raises(KilotuneError, match="at least"):
        compile_within(CODER, Budget(cheapest - 4), Samples(windows()), steps=10)


def test_too_little_data_is_refused() -> None:
    with pytest.raises(KilotuneError) as caught:
        compile_within(CODER, Budget(1000), Samples(windows(3)), steps=10)
    assert caught.value.code == "too_little_data"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kilotune", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def test_the_command_prints_the_trade_off_and_draws_it(tmp_path: Path) -> None:
    model, data, image = tmp_path / "m.tflite", tmp_path / "x.npy", tmp_path / "m.ktm"
    model.write_bytes(CODER)
    scale, zero = compile(CODER).input_quantisation
    np.save(data, ((windows().astype(np.float32) - zero) * scale))  # floats in real units
    options = ("--calibration", data, "--search-steps", 40, "--plot", tmp_path / "t.svg")
    done = run("compile", model, "-o", image, "--ram", "0.6k", *options, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["search"]["best"]["ram_bytes"] <= 600
    assert told["arena_bytes"] + told["adapter_bytes"] == told["search"]["best"]["ram_bytes"]
    assert {p["name"] for p in told["search"]["sets"]} >= {"bias", "head", "bias+head"}
    picture = ElementTree.parse(tmp_path / "t.svg").getroot()
    texts = [e.text for e in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "budget 600" in texts
    assert "bias+head" in texts
    text = run("compile", model, "-o", image, "--ram", "600", *options).stdout
    assert "> " in text
    assert "Each layer alone" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ram", "1k"), "--calibration"),
        (("--ram", "lots", "--calibration", "x.npy"), "not understood"),
        (("--instructions", "1000"), "--ram"),
        (("--ram", "1k", "--calibration", "x.npy", "--rank", "2"), "chooses the layers itself"),
        (("--ram", "1k", "--calibration", "x.npy", "--labels", "y.npy"), "reconstruction"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    (tmp_path / "m.tflite").write_bytes(CODER)
    np.save(tmp_path / "x.npy", windows())
    np.save(tmp_path / "y.npy", np.zeros(48, np.uint8))
    given = [str(tmp_path / a) if a.endswith(".npy") else a for a in arguments]
    done = run("compile", tmp_path / "m.tflite", "-o", tmp_path / "m.ktm", *given)
    assert done.returncode != 0
    assert message in done.stderr
