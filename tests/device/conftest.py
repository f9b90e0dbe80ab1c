"""The same suite for every target: `pytest tests/device --target native --target qemu:mps2-an386`.

For a board on a desk, `--target /dev/ttyACM0`: the suite says which model it wants to be flashed first.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import kilotune
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.features import FeatureConfig
from kilotune.image.image import Image
from kilotune.targets import renode_program, rp2040js
from kilotune.targets.boards import board, boards
from kilotune.targets.connect import connect
from kilotune.targets.target import parse_target
from kilotune.targets.twin import Twin

from tests.support import small_models

# Renode runs where it is asked for: it takes minutes.
_DEFAULT_EMULATORS = ("qemu", "rp2040js")
# A limit for a test of several starts on a busy computer; each wait inside has its own.
_RENODE_TEST_S = 1200
_NO_MODEL = ("no_model", "bad_magic", "bad_crc", "bad_version", "bad_image")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--target", action="append", metavar="TARGET", help="native, qemu:BOARD or a port; may be repeated"
    )


def _default_targets() -> list[str]:
    return ["native", *(f"{b.emulator.kind}:{b.id}" for b in boards() if b.emulator.kind in _DEFAULT_EMULATORS)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", metafunc.config.getoption("--target") or _default_targets(), scope="session")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and str(callspec.params.get("target", "")).startswith("renode:"):
            item.add_marker(pytest.mark.timeout(_RENODE_TEST_S))


@pytest.fixture(autouse=True)
def _skip_what_is_not_here(request: pytest.FixtureRequest) -> None:
    if "target" not in request.fixturenames:
        return
    target = str(request.getfixturevalue("target"))
    finder = {"renode": renode_program.require, "rp2040js": rp2040js.find_node}.get(target.partition(":")[0])
    if finder is not None:
        try:
            finder()
        except KilotuneError as error:
            pytest.skip(f"{error.message}: {error.hint}")
    for tool in ("qemu-system-arm", "arm-none-eabi-g++") if target.startswith("qemu:") else ():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.fixture(scope="session")
def image() -> Image:
    """A reconstruction network of three layers on windows of 64 samples, bias and last layer trained."""
    return _image(seed=3)


@pytest.fixture(scope="session")
def other_image() -> Image:
    return _image(seed=4)


def _image(seed: int) -> Image:
    features = FeatureConfig(rate_hz=1600.0, window=64, hop=40, fft_points=64, axes=3, bands=8)
    return kilotune.compile(small_models.chain(24, 12, 24, seed=seed), method="bias+head", features=features)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def device(target: str, image: Image, state: Path) -> Iterator[Device]:
    """A device that has learned nothing."""
    try:
        opened = connect(target, image, state, timeout_s=60)
    except KilotuneError as error:
        if error.code != "other_image" and error.code not in _NO_MODEL:
            raise
        file = Path(__file__).parents[2] / "build" / "device-suite.ktm"
        file.parent.mkdir(exist_ok=True)
        image.save(file)
        pytest.skip(f"{target} runs another model: kilotune flash --board ID --model {file}")
    with opened:
        if parse_target(target).kind == "port":
            with Twin(image) as twin:
                opened.push(twin.pull())
        yield opened


@pytest.fixture
def flash(target: str) -> str:
    """What happens to a commit: "file" and "chip" keep it, "memory" until the end, "read-only" never."""
    parsed = parse_target(target)
    if parsed.kind == "port":
        return "chip"
    return "file" if parsed.kind in ("native", "renode") else board(parsed.board).emulator.flash


@pytest.fixture
def needs_flash(flash: str, target: str) -> None:
    if flash == "read-only":
        pytest.skip(f"{target} models no flash controller")


@pytest.fixture
def needs_file(flash: str, target: str) -> None:
    if flash != "file":
        pytest.skip(f"the flash of {target} is no file")
