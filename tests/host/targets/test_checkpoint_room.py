"""What a model learns is held against the flash for checkpoints of a board before anything is flashed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import kilotune
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune import _native
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.link.status import RefusedError
from kilotune.link.transport import InProcess
from kilotune.studies.base_models import shipped
from kilotune.targets.boards import boards
from kilotune.targets.fit import fits, require_fit
from kilotune.targets.flash_records import OVERHEAD, capacity

from tests.support import small_models
from tests.support.paths import ROOT

WIDE = small_models.chain(300, 300, seed=1)  # with its head, it fits RAM where it does not fit checkpoints


@pytest.mark.parametrize("method", ["bias", "bias+head", "head", "lora", "channels"])
@pytest.mark.parametrize("model", shipped(), ids=lambda path: path.stem)
def test_a_board_that_runs_a_shipped_model_keeps_what_it_learns(model: Path, method: str) -> None:
    image = kilotune.compile(model, method=method)
    running = [f for f in fits(image) if f.runs]
    assert {f.board for f in running} >= {"stm32f4_discovery", "nucleo_f446re", "nrf52840dk", "rpi_pico"}
    assert [f.board for f in running if not f.keeps] == []


@pytest.fixture(scope="module")
def wide() -> Image:
    return kilotune.compile(WIDE, method="bias+head")


@pytest.fixture
def file(wide: Image, tmp_path: Path) -> Path:
    wide.save(tmp_path / "wide.ktm")
    return tmp_path / "wide.ktm"


def test_an_adapter_that_no_checkpoint_holds_is_refused_with_both_numbers(wide: Image) -> None:
    fit = next(f for f in fits(wide) if f.board == "nrf52840dk")
    assert (fit.runs, fit.keeps, fit.fits) == (True, False, False)
    with pytest.raises(KilotuneError) as error:
        require_fit(wide, "nrf52840dk")
    assert error.value.code == "too_large"
    for number in (wide.adapter_bytes, 10 * 4096 - OVERHEAD):
        assert f"{number:,}" in error.value.message
    require_fit(wide, "nrf52840dk", learns=False)


_SMALL = kilotune.compile(small_models.chain(24, 8, 24, seed=3))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.sampled_from([256, 512, 1024, 2048]))
def test_the_longest_adapter_is_the_devices_own_figure(count: int, sector_bytes: int) -> None:
    """A device without room says how much it has; one with room commits."""
    flash = bytearray(b"\xff" * (sector_bytes * count))
    session = _native.Session(_SMALL.content, flash, sector_bytes, "room")
    longest = capacity([sector_bytes] * count)
    with Device(InProcess(session), image=_SMALL) as device:
        if _SMALL.adapter_bytes <= longest:
            assert device.commit().sequence == 1
            return
        with pytest.raises(RefusedError) as refused:
            device.commit()
    assert refused.value.detail == longest
    if longest:
        assert refused.value.code == "no_checkpoint_room"
        assert f"{_SMALL.adapter_bytes:,} bytes" in refused.value.message
        assert f"takes {longest:,}" in refused.value.message


def test_the_longest_payload_of_uneven_sectors_is_that_of_three_slots() -> None:
    assert capacity([65536, 131072, 131072]) == 65536 - OVERHEAD
    assert capacity([16384, 16384, 16384, 65536, 131072]) == 3 * 16384 - OVERHEAD
    assert capacity([16384] * 3) == 16384 - OVERHEAD
    assert capacity([4096, 4096]) == 0


def run(*args: object, code: int = 0, source: Path = ROOT) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "kilotune", *map(str, args), "--json"]
    environment = {**os.environ, "KILOTUNE_SOURCE": str(source)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refusal(told: dict[str, object]) -> dict[str, object]:
    error = told["error"]
    assert isinstance(error, dict)
    return error


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "{file}", "--board", "nrf52840dk"),
        ("build", "--board", "nrf52840dk", "--image", "{file}", "-o", "{folder}"),
        ("flash", "--board", "nrf52840dk", "--model", "{file}"),
        ("flash", "--board", "renode:nrf52840dk", "--model", "{file}", "--state", "{folder}"),
    ],
    ids=lambda c: " ".join(c[:3]),
)
def test_commands_refuse_it_before_they_begin(command: tuple[str, ...], file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (told,) = run(*(part.format(file=file, folder=folder) for part in command), code=1)
    assert refusal(told)["code"] == "too_large"
    assert "40,848" in str(refusal(told)["message"])
    assert not folder.exists()


def test_compile_refuses_it_for_a_board_and_writes_nothing(tmp_path: Path) -> None:
    model, target = tmp_path / "m.tflite", tmp_path / "m.ktm"
    model.write_bytes(WIDE)
    (told,) = run("compile", model, "-o", target, "--method", "bias+head", "--board", "nrf52840dk", code=1)
    assert "40,848" in str(refusal(told)["message"])
    assert not target.exists()
    run("compile", model, "-o", target, "--method", "bias", "--board", "nrf52840dk")
    assert target.exists()


def test_inspect_shows_what_each_board_takes(file: Path) -> None:
    (told,) = run("inspect", file)
    rows = {row["board"]: row for row in told["boards"]}  # type: ignore[attr-defined]
    assert rows["nrf52840dk"]["checkpoint"] == 40848
    assert not rows["nrf52840dk"]["fits"]
    assert rows["mps2-an386"]["fits"]


def test_the_table_of_boards_has_the_longest_adapter() -> None:
    text = (ROOT / "docs" / "BOARDS.md").read_text(encoding="utf-8")
    for chosen in boards():
        if chosen.usb.method:
            longest = capacity(chosen.flash.checkpoint_sectors)
            assert re.search(rf"^\| `{chosen.id}` \|.*\| {longest:,} bytes \|$", text, re.MULTILINE), chosen.id


@pytest.fixture
def cramped(tmp_path: Path) -> Path:
    """A source tree whose native board has hardly any flash for checkpoints."""
    root = tmp_path / "source"
    folder = root / "firmware" / "boards" / "native"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "firmware" / "boards" / "board.h", folder.parent)
    (root / "CMakeLists.txt").touch()
    described = json.loads((ROOT / "firmware" / "boards" / "native" / "board.json").read_text(encoding="utf-8"))
    described["flash"] |= {"sector_bytes": 512, "sector_count": 3}
    (folder / "board.json").write_text(json.dumps(described), encoding="utf-8")
    return root


@pytest.fixture
def learner(tmp_path: Path) -> Path:
    features = FeatureConfig(rate_hz=800, window=64, hop=64, fft_points=64, axes=3, bands=8, full_scale_g=8.0)
    kilotune.compile(small_models.chain(24, 8, 24, seed=3), features=features).save(tmp_path / "m.ktm")
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", samples=rng.normal(0, 0.5, (3200, 3)).astype(np.float32), rate_hz=800.0)
    return tmp_path


def test_a_refused_commit_comes_after_what_was_learned_which_can_be_fetched(learner: Path, cramped: Path) -> None:
    stream = (
        "stream", learner / "a.npz", learner / "b.npz", "-t", "twin", "--image", learner / "m.ktm",
        "--learn", "--detect", "--commit",
    )  # fmt: skip
    lines = run(*stream, code=4, source=cramped)
    assert lines[-2]["event"] == "summary"
    assert lines[-2]["learned"] is not None
    assert lines[-2]["committed"] is False
    assert lines[-2]["windows"] == len(lines) - 2 > 10
    error = refusal(lines[-1])
    assert (error["code"], error["exit_code"]) == ("no_checkpoint_room", 4)
    assert f"takes {512 - OVERHEAD}" in str(error["message"])
    assert "--pull" in str(error["hint"])

    adapter = learner / "adapter"
    error = refusal(run(*stream, "--pull", adapter, code=4, source=cramped)[-1])
    assert str(adapter) in str(error["hint"])
    assert kilotune.Adapter.load(adapter).config.windows_seen > 0


def test_a_commit_that_is_taken_is_told_in_the_summary(learner: Path, tmp_path: Path) -> None:
    lines = run(
        "stream", learner / "a.npz", "-t", "twin", "--image", learner / "m.ktm", "--learn", "--commit",
        "--state", tmp_path / "state",
    )  # fmt: skip
    assert lines[-1]["committed"] is True
