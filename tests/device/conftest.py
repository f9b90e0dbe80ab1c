"""One suite for every target: `pytest tests/device --target native --target qemu:mps2-an386`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))

import kilotune
from kilotune.image import Image
from kilotune.link.device import Device
from kilotune.targets import registry
from kilotune.targets.boards import boards

import models


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--target", action="append", metavar="TARGET", help="native, qemu:BOARD or a port; may be repeated"
    )


def _default_targets() -> list[str]:
    return ["native", *(f"qemu:{b.id}" for b in boards() if b.emulator.kind == "qemu")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        metafunc.parametrize(
            "target", metafunc.config.getoption("--target") or _default_targets(), scope="session"
        )


@pytest.fixture(autouse=True)
def _skip_what_is_not_here(request: pytest.FixtureRequest) -> None:
    if "target" not in request.fixturenames:
        return
    target = str(request.getfixturevalue("target"))
    for tool in ("qemu-system-arm", "arm-none-eabi-g++") if target.startswith("qemu:") else ():
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")


@pytest.fixture(scope="session")
def image() -> Image:
    """A reconstruction network of three layers, bias and last layer trained."""
    return kilotune.compile(models.chain(24, 12, 24, seed=3), method="bias+head")


@pytest.fixture(scope="session")
def other_image() -> Image:
    return kilotune.compile(models.chain(24, 12, 24, seed=4), method="bias+head")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def device(target: str, image: Image, state: Path) -> Iterator[Device]:
    with registry.open(target, image, state, timeout_s=20) as opened:
        yield opened
