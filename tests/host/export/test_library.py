"""The kernel as a library: it needs nothing else, and a package contains all of it and nothing else.

What each ecosystem asks of its layout is tested beside; where its own tool is installed, that judges too.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import kilotune
import pytest
from kilotune.errors import KilotuneError
from kilotune.export.kernel_package import ECOSYSTEMS, PROJECT, Ecosystem, Publisher, lay_out, metadata

from tests.support.kernel_library import KERNEL, VERSION, command, sources
from tests.support.paths import ROOT


def test_the_kernel_includes_nothing_outside_itself() -> None:
    # The sanitizer's header is included only where the sanitizer watches (pool.h).
    standard = {"cstdint", "cstring", "arm_acle.h", "sanitizer/asan_interface.h"}
    for path in (p for p in sources(KERNEL) if "examples" not in p.parts):
        for bracket, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)', path.read_text(encoding="utf-8"), re.M):
            if bracket == "<":
                assert name in standard, f"{path.name} includes <{name}>"
            else:
                assert name.startswith("kernel/"), f"{path.name} includes {name}"
                assert (KERNEL.parent / name).is_file()


def test_one_version_everywhere() -> None:
    header = (KERNEL / "include" / "kilotune.h").read_text(encoding="utf-8")
    assert f'#define KILOTUNE_KERNEL_VERSION "{VERSION}"' in header
    assert kilotune.__version__ == VERSION


@pytest.mark.parametrize("ecosystem", ["platformio", "zephyr", "esp-idf"])
def test_the_metadata_at_the_root_is_what_the_library_module_writes(ecosystem: Ecosystem) -> None:
    for name, text in metadata(ecosystem, PROJECT, Publisher()).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("ecosystem", ECOSYSTEMS)
def test_a_layout_holds_the_whole_kernel_and_only_it(layouts: dict[str, Path], ecosystem: str) -> None:
    folder = layouts[ecosystem] / ("kernel" if ecosystem == "cmake" else "src/kernel")
    wanted = [p for p in sources(KERNEL) if not {"examples", "include"} & set(p.relative_to(KERNEL).parts)]
    held = [p for p in sources(folder) if not {"examples", "include"} & set(p.relative_to(folder).parts)]
    assert [p.relative_to(folder) for p in held] == [p.relative_to(KERNEL) for p in wanted]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(held, wanted, strict=True))
    assert (layouts[ecosystem] / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_a_folder_with_files_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    told = command("library", "--for", "arduino", "-o", tmp_path, code=1)
    assert told["error"]["code"] == "not_empty"
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_without_any_source_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kilotune.targets.boards.source_root", lambda: None)
    monkeypatch.setattr("kilotune.export.kernel_package._INSTALLED", tmp_path / "kernel")
    with pytest.raises(KilotuneError) as told:
        lay_out("zephyr", tmp_path / "new")
    assert told.value.code == "no_source"
    assert not (tmp_path / "new").exists()


def test_an_installed_package_lays_out_its_own_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(KERNEL, tmp_path / "packaged" / "kernel")
    shutil.copyfile(ROOT / "LICENSE", tmp_path / "packaged" / "LICENSE")
    monkeypatch.setattr("kilotune.targets.boards.source_root", lambda: None)
    monkeypatch.setattr("kilotune.export.kernel_package._INSTALLED", tmp_path / "packaged" / "kernel")
    made = lay_out("zephyr", tmp_path / "new")
    assert made.files == len([p for p in (tmp_path / "new").rglob("*") if p.is_file()])
    assert (tmp_path / "new" / "LICENSE").is_file()


def test_an_archive_holds_one_folder(tmp_path: Path) -> None:
    command("library", "--for", "arduino", "-o", tmp_path / "new" / "k.zip")
    with zipfile.ZipFile(tmp_path / "new" / "k.zip") as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {"kilotune"}
    assert "kilotune/library.properties" in names
