"""Imports that run upwards, sideways or in a circle are found in made-up sources, and do not exist in ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.layers import declared_floors, judge, main, read_firmware, read_package

CONTRACT = """\
[[tool.importlinter.contracts]]
name = "floors"
type = "layers"
layers = ["cli", "device | report", "link", "errors"]
"""


def lay(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def wrong_firmware(folder: Path, **files: str) -> list[str]:
    """What is wrong where these are added to a small sound firmware; `__` in a name is a slash, its end is .h."""
    sound = {
        "kernel/model.h": "#include <cstdint>\n",
        "kernel/model.cpp": '#include "kernel/model.h"\n#include "kernel/loss.h"\n',
        "kernel/loss.h": '#include "model.h"\n',
        "runtime/signal/fft.h": '#include "kernel/model.h"\n',
        "runtime/engine/engine.h": '#include "runtime/signal/fft.h"\n',
        "sensors/spi.h": '#include "kernel/model.h"\n#include "generated_pins.h"\n',
        "boards/board.h": '#include "runtime/engine/engine.h"\n#include "sensors/spi.h"\n',
        "app/main.cpp": '#include "boards/board.h"\n',
    }
    more = {f"{name.replace('__', '/')}.h": text for name, text in files.items()}
    _, wrong = judge(read_firmware(lay(folder / "firmware", sound | more)))
    return [line.replace(str(folder), "") for line in wrong]


def test_a_sound_firmware_has_nothing_wrong(tmp_path: Path) -> None:
    assert wrong_firmware(tmp_path) == []


def test_an_include_upwards_is_found_with_its_line(tmp_path: Path) -> None:
    wrong = wrong_firmware(tmp_path, runtime__signal__window='// A window.\n#include "runtime/engine/engine.h"\n')
    assert wrong == [
        "upwards: /firmware/runtime/signal/window.h:2: runtime/signal/window.h -> runtime/engine/engine.h",
        "circle of rooms: runtime/engine -> runtime/signal -> runtime/engine",
    ]


@pytest.mark.parametrize(
    ("name", "included"),
    [
        ("kernel__random", "runtime/signal/fft.h"),
        ("runtime__engine__more", "boards/board.h"),
        ("boards__chip__pins", "app/panel.h"),
        ("kernel__random", "engine.h"),  # by a folder of includes
    ],
)
def test_no_floor_includes_one_above_it(name: str, included: str, tmp_path: Path) -> None:
    wrong = wrong_firmware(tmp_path, **{name: f'  #  include "{included}"\n', "app__panel": ""})
    (line,) = (line for line in wrong if line.startswith("upwards: "))
    assert line.endswith(included)


def test_rooms_on_one_floor_do_not_know_each_other(tmp_path: Path) -> None:
    (line,) = wrong_firmware(tmp_path, sensors__fifo='#include "runtime/link/frame.h"\n', runtime__link__frame="")
    assert line == "sideways: /firmware/sensors/fifo.h:1: sensors/fifo.h -> runtime/link/frame.h"


def test_a_circle_of_headers_is_found_within_a_room_and_across_rooms(tmp_path: Path) -> None:
    within = wrong_firmware(
        tmp_path / "within",
        kernel__a='#include "kernel/b.h"\n',
        kernel__b='#include "c.h"\n',
        kernel__c='#include "a.h"\n',
    )
    assert within == ["circle: kernel/a.h -> kernel/b.h -> kernel/c.h -> kernel/a.h"]
    back = wrong_firmware(tmp_path / "across", kernel__loop='#include "runtime/signal/loop.h"\n',
                          runtime__signal__loop='#include "kernel/loop.h"\n')  # fmt: skip
    assert back[1:] == [
        "circle: kernel/loop.h -> runtime/signal/loop.h -> kernel/loop.h",
        "circle of rooms: kernel -> runtime/signal -> kernel",
    ]


def test_a_new_folder_needs_a_floor(tmp_path: Path) -> None:
    wrong = wrong_firmware(tmp_path, runtime__cloud__upload='#include "kernel/model.h"\n')
    assert wrong == ["no floor: runtime/cloud is a room that nobody has given one"]


def test_a_runtime_without_folders_is_put_in_order_file_by_file(tmp_path: Path) -> None:
    files = {
        "kernel/model.h": "",
        "runtime/fft.h": '#include "kernel/model.h"\n',
        "runtime/fft.cpp": '#include "runtime/fft.h"\n',
        "runtime/engine.h": '#include "runtime/fft.h"\n',
    }
    floors, wrong = judge(read_firmware(lay(tmp_path, files)))
    assert floors == [["kernel"], ["runtime/fft"], ["runtime/engine"]]
    assert wrong == []


def package(folder: Path, **files: str) -> Path:
    sound = {
        "../pyproject.toml": CONTRACT,
        "kilo/__init__.py": "number = 1\n",
        "kilo/errors.py": "",
        "kilo/link/__init__.py": "",
        "kilo/link/frames.py": "from kilo import _compiled\nfrom .. import errors\n",
        "kilo/device/__init__.py": "from kilo.device.device import Device\n",
        "kilo/device/device.py": "import kilo.link.frames\n",
        "kilo/cli/__init__.py": "",
        "kilo/cli/main.py": "def main():\n    from kilo.device import Device\n",
    }
    more = {f"kilo/{name.replace('__', '/')}.py": text for name, text in files.items()}
    return lay(folder / "host", sound | more) / "kilo"


def wrong_package(folder: Path, **files: str) -> list[str]:
    _, wrong = judge(read_package(package(folder, **files), declared_floors(folder / "pyproject.toml")))
    return [line.replace(str(folder / "host"), "") for line in wrong]


def test_imports_upwards_count_wherever_they_stand(tmp_path: Path) -> None:
    text = """\
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from kilo.device.device import Device
def late():
    from ..cli import main
import kilo
"""
    assert wrong_package(tmp_path, link__client=text) == [
        "upwards: /kilo/link/client.py:3: link.client -> device.device, type-only",
        "upwards: /kilo/link/client.py:5: link.client -> cli.main, in a function",
        "upwards: /kilo/link/client.py:6: link.client -> __init__",
        "circle of rooms: device -> link -> device",
    ]


def test_a_circle_of_modules_is_found_within_a_folder(tmp_path: Path) -> None:
    wrong = wrong_package(tmp_path, report__page="from . import svg\n", report__svg="import kilo.report.page\n")
    assert wrong == ["circle: report.page -> report.svg -> report.page"]


def test_a_package_that_nobody_has_put_in_order_is_put_in_one(tmp_path: Path) -> None:
    folder = package(tmp_path, errors="from kilo.cli import main\n")
    floors, wrong = judge(read_package(folder))
    assert floors == [["__init__", "errors"], ["link"], ["device"], ["cli"]]
    assert [line.rpartition("/")[2] for line in wrong] == [
        "errors.py:1: errors -> cli.main",
        "circle: cli.main -> device -> device.device -> link.frames -> errors -> cli.main",
        "circle of rooms: cli -> device -> link -> errors -> cli",
    ]


def test_the_script_prints_what_is_wrong_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = package(tmp_path, errors="import kilo.cli.main\n")
    assert main(["--host", str(folder)]) == 1
    told = capsys.readouterr().out
    assert "1 upwards, circles: 1 of files, 1 of rooms" in told
    assert "errors.py:1: errors -> cli.main" in told


def test_this_tree_has_nothing_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0, capsys.readouterr().out
