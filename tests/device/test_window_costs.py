"""`kilotune bench --window`: the counted stages of a window on an emulated Cortex-M4F."""

from __future__ import annotations

from pathlib import Path

import kilotune
import pytest
from kilotune.studies.base_models import base_model
from kilotune.targets.build import Counting, build

from tests.support import small_models
from tests.support.command_line import run

TARGET = "qemu:mps2-an386"
SCORING = {"normalise", "network", "scorers"}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("window") / "m.ktm"
    path.write_bytes(kilotune.compile(base_model("vibration_ae_1k6"), method="bias+head").content)
    build("mps2-an386", counting=Counting())  # a build takes longer than a command may
    return path


def test_every_stage_is_counted_and_two_runs_agree(image: Path) -> None:
    first, second = (run("bench", image, "--target", TARGET, "--window", fake=False) for _ in range(2))
    counted = first["instructions"]
    assert counted == second["instructions"]
    assert counted["window_total"] == sum(counted["window"].values())
    assert counted["learned_window_total"] == sum(counted["learned_window"].values())
    idle = {name for name, n in counted["window"].items() if n == 0}
    assert idle <= {"statistics", "reservoir"}
    assert {name for name in SCORING if counted["learned_window"][name] != 0} == set()
    assert counted["learned_window"]["reservoir"] > 0


def test_a_windows_network_costs_what_an_inference_does(image: Path) -> None:
    """The stages' count and that of the bench request, which has a counter of its own, name the same work."""
    counted = run("bench", image, "--target", TARGET, "--window", fake=False)["instructions"]
    assert counted["window"]["network"] == pytest.approx(counted["inference"], rel=0.05)


def test_a_target_that_does_not_count_and_a_model_without_features_are_refused(image: Path, tmp_path: Path) -> None:
    assert run("bench", image, "--target", "twin", "--window", fake=False, code=1)["error"]["code"] == "unavailable"
    plain = tmp_path / "plain.ktm"
    plain.write_bytes(kilotune.compile(small_models.chain(16, 8, 16), method="bias").content)
    told = run("bench", plain, "--target", TARGET, "--window", fake=False, code=4)
    assert told["error"]["code"] == "no_features"
