"""The kernel as a library: every layout is checked by its ecosystem's rules, compiled, and run where that is possible.

The rules' sources stand at each test. Where an ecosystem's own tool is installed, it judges too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kilotune
import pytest
from kilotune.errors import KilotuneError
from kilotune.export.c_array import to_c_array
from kilotune.export.kernel_package import ECOSYSTEMS, PROJECT, Ecosystem, Publisher, lay_out, metadata

from tests.support import small_models
from tests.support.paths import ROOT

KERNEL = ROOT / "firmware" / "kernel"
EXAMPLE = KERNEL / "examples" / "learn_from_an_array"
VERSION = re.findall(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)[0]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Werror"]
CORES = {"cortex-m0": "-mcpu=cortex-m0", "cortex-m4": "-mcpu=cortex-m4"}

needs_cmake = pytest.mark.skipif(not shutil.which("cmake") or not shutil.which("ninja"), reason="needs cmake, ninja")
needs_arm = pytest.mark.skipif(not shutil.which("arm-none-eabi-g++"), reason="needs arm-none-eabi-g++")


def tool(name: str) -> str | None:
    return shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def run(*command: object, cwd: Path | None = None, code: int = 0, **environment: str) -> str:
    result = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=250,
        env=os.environ | environment)  # fmt: skip
    assert result.returncode == code, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


def command(*arguments: object, code: int = 0) -> Any:
    told = run(sys.executable, "-m", "kilotune", *arguments, "--json", code=code)
    return json.loads(told)


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every layout, made by the command as a user runs it."""
    base = tmp_path_factory.mktemp("layouts")
    for ecosystem in ECOSYSTEMS:
        told = command("library", "--for", ecosystem, "-o", base / ecosystem / "kilotune")
        files = [p for p in Path(told["path"]).rglob("*") if p.is_file()]
        assert told["files"] == len(files)
        assert told["version"] == VERSION
    return {ecosystem: base / ecosystem / "kilotune" for ecosystem in ECOSYSTEMS}


def sources(folder: Path) -> list[Path]:
    return sorted(p for pattern in ("*.cpp", "*.h", "*.def") for p in folder.rglob(pattern))


# --- the kernel alone ----------------------------------------------------------------------------


def test_the_kernel_includes_nothing_outside_itself() -> None:
    standard = {"cstdint", "cstring", "arm_acle.h"}
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


# --- the example ---------------------------------------------------------------------------------


def test_c_array_is_what_the_example_holds(tmp_path: Path) -> None:
    told = command(
        "compile", EXAMPLE / "model.tflite", "-o", tmp_path / "m.ktm", "--c-array", tmp_path / "model.h")  # fmt: skip
    written = (tmp_path / "model.h").read_text()
    assert told["c_array"] == str(tmp_path / "model.h")
    assert written == to_c_array(kilotune.Image.load(tmp_path / "m.ktm"))
    rows = written[written.index("= {") :]
    assert bytes(int(n, 16) for n in re.findall(r"0x(\w\w)", rows)) == (tmp_path / "m.ktm").read_bytes()
    assert f"kModelArenaBytes = {told['arena_bytes']};" in written
    # If not: kilotune compile $EXAMPLE/model.tflite -o build/model.ktm --c-array $EXAMPLE/model.h
    assert written == (EXAMPLE / "model.h").read_text(), "the example's model.h is of another compiler: make it again"


def test_the_example_is_short() -> None:
    lines = (EXAMPLE / "learn.h").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 42


def test_the_example_learns_on_this_computer(tmp_path: Path) -> None:
    cpp = [*KERNEL.glob("*.cpp"), *KERNEL.glob("ops/*.cpp"), EXAMPLE / "main.cpp"]
    run("g++", "-std=c++17", "-O1", *WARNINGS, "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
        "-I", KERNEL.parent, "-I", KERNEL / "include", *cpp, "-o", tmp_path / "learn")  # fmt: skip
    _assert_learned(run(tmp_path / "learn"))


def _assert_learned(told: str) -> None:
    found = re.fullmatch(r"status 0: loss before (\d+), after 200 steps (\d+)\n", told)
    assert found, told
    before, after = map(int, found.groups())
    assert 0 < after < before // 4


@needs_arm
@pytest.mark.parametrize("core", CORES)
def test_the_example_links_for_a_microcontroller(tmp_path: Path, core: str) -> None:
    cpp = [*KERNEL.glob("*.cpp"), *KERNEL.glob("ops/*.cpp"), EXAMPLE / "main.cpp"]
    run("arm-none-eabi-g++", "-std=c++17", "-Os", CORES[core], "-mthumb", "--specs=nano.specs", "--specs=nosys.specs",
        "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-ffunction-sections", *WARNINGS,
        "-Wl,--gc-sections", "-I", KERNEL.parent, "-I", KERNEL / "include", *cpp,
        "-o", tmp_path / "learn.elf")  # fmt: skip
    symbols = run("arm-none-eabi-nm", "-C", tmp_path / "learn.elf")
    assert "kilotune::kFullyConnected" in symbols
    assert "kilotune::kSoftmax" not in symbols, "an operator that the example does not name is linked"


def smaller(folder: Path) -> Path:
    """The example with what biases of an autoencoder need and no more; its main.cpp."""
    shutil.copytree(EXAMPLE, folder)
    text = (folder / "learn.h").read_text()
    plain = "adapter, nullptr, kilotune::kPlainSquaredError)"
    for full, less in (("kFullyConnected", "kDenseBiases"), ("adapter, nullptr)", plain)):
        assert text.count(full) == 1
        text = text.replace(full, less)
    (folder / "learn.h").write_text(text)
    return folder / "main.cpp"


# Says what a smaller program makes of a model: the status of Model::open, Trainer::open and Trainer::begin.
STATUSES = """\
#include <cstdio>
#include <kilotune.h>
#include "model.h"
alignas(4) static uint8_t arena[kModelArenaBytes], adapter[kModelAdapterBytes], state[kModelStateBytes + 4];
static const kilotune::OpKernel* const kOps[] = {&kilotune::kDenseBiases, &kilotune::kSoftmax, nullptr};
int main() {
  static kilotune::Model model;
  static kilotune::Trainer trainer;
  kilotune::TrainConfig config;
  config.rate = kilotune::make_real(1, -3);
  kilotune::Status status = model.open(kModel, sizeof kModel, kOps);
  std::printf("%d", static_cast<int>(status));
  if (status != kilotune::Status::ok) return 0;
  status = trainer.open(model, arena, adapter, kModelStateBytes ? state : nullptr, kilotune::kPlainSquaredError);
  std::printf(" %d", static_cast<int>(status));
  if (status == kilotune::Status::ok) std::printf(" %d", static_cast<int>(trainer.begin(config)));
}
"""
OK, BAD_ARGUMENT, UNSUPPORTED = 0, 10, 6


@pytest.mark.parametrize(
    ("model", "options", "statuses"),
    [
        (small_models.chain(12, 6, 12), {"method": "bias"}, (OK, OK, OK)),
        (small_models.chain(12, 6, 12), {"method": "bias+head"}, (UNSUPPORTED,)),
        (small_models.chain(12, 6, 4, softmax=True), {"method": "bias"}, (OK, UNSUPPORTED)),
        (small_models.chain(12, 6, 12), {"method": "bias", "momentum": True}, (OK, OK, BAD_ARGUMENT)),
    ],
)
def test_a_smaller_program_refuses_what_it_leaves_out(
    tmp_path: Path, model: bytes, options: Any, statuses: tuple[int, ...]
) -> None:
    (tmp_path / "model.h").write_text(to_c_array(kilotune.compile(model, **options)))
    (tmp_path / "main.cpp").write_text(STATUSES)
    cpp = [*KERNEL.glob("*.cpp"), *KERNEL.glob("ops/*.cpp"), tmp_path / "main.cpp"]
    run("g++", "-std=c++17", *WARNINGS, "-I", KERNEL.parent, "-I", KERNEL / "include", *cpp, "-o", tmp_path / "say")
    assert run(tmp_path / "say") == " ".join(map(str, statuses))


# Vector table of a program that lies at the start of the board's 4 MB: stack, and newlib's start.
VECTORS = """\
extern "C" void _start();
using Vector = void (*)();
[[gnu::section(".vectors"), gnu::used]] static const Vector vectors[] = {(Vector)0x200000, _start};
"""


@needs_arm
@pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="needs qemu-system-arm")
@pytest.mark.parametrize(
    ("core", "board"),
    [("cortex-m0", "mps2-an385"), ("cortex-m3", "mps2-an385"), ("cortex-m4", "mps2-an386")],
)
@pytest.mark.parametrize("small", [False, True])
def test_the_example_learns_the_same_on_emulated_cores(tmp_path: Path, core: str, board: str, small: bool) -> None:
    """Code for M0 runs on the board's M3, which executes all of its instructions."""
    (tmp_path / "vectors.cpp").write_text(VECTORS)
    kernel = [*KERNEL.glob("*.cpp"), *KERNEL.glob("ops/*.cpp")]
    include = ("-std=c++17", "-I", KERNEL.parent, "-I", KERNEL / "include")
    run("g++", *include, *kernel, EXAMPLE / "main.cpp", "-o", tmp_path / "learn")
    cpp = [*kernel, smaller(tmp_path / "smaller") if small else EXAMPLE / "main.cpp"]
    run("arm-none-eabi-g++", *include, "-Os", f"-mcpu={core}", "-mthumb", "-fno-exceptions", "--specs=rdimon.specs",
        "-Wl,--section-start=.vectors=0", tmp_path / "vectors.cpp", *cpp, "-o", tmp_path / "learn.elf")  # fmt: skip
    told = run("qemu-system-arm", "-M", board, "-nographic", "-semihosting", "-kernel", tmp_path / "learn.elf")
    _assert_learned(told)
    assert told == run(tmp_path / "learn")


# --- CMake ---------------------------------------------------------------------------------------

CONSUMER = """\
cmake_minimum_required(VERSION 3.20)
project(consumer LANGUAGES CXX)
{how}
add_executable(learn {example}/main.cpp)
target_link_libraries(learn PRIVATE kilotune::kernel)
"""


def _consume(folder: Path, how: str, example: Path, *options: str) -> None:
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(CONSUMER.format(how=how, example=example))
    run("cmake", "-S", folder, "-B", folder / "b", "-G", "Ninja", *options)
    run("cmake", "--build", folder / "b")
    _assert_learned(run(folder / "b" / "learn"))


@needs_cmake
def test_the_installed_cmake_package_serves_a_project_elsewhere(tmp_path: Path) -> None:
    run("cmake", "-S", KERNEL, "-B", tmp_path / "b", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_INSTALL_LIBDIR=lib")  # fmt: skip
    run("cmake", "--build", tmp_path / "b")
    run("cmake", "--install", tmp_path / "b", "--prefix", tmp_path / "there")
    example = shutil.copytree(EXAMPLE, tmp_path / "example")
    minor = ".".join(VERSION.split(".")[:2])
    _consume(tmp_path / "consumer", f"find_package(kilotune {minor} REQUIRED)", example,
             f"-DCMAKE_PREFIX_PATH={tmp_path / 'there'}")  # fmt: skip
    targets = (tmp_path / "there/lib/cmake/kilotune/kilotuneTargets.cmake").read_text()
    assert str(ROOT) not in targets, "the package names the source tree"
    assert not list((tmp_path / "there").rglob("*.cpp"))


@needs_cmake
def test_the_cmake_package_refuses_a_version_that_it_is_not(tmp_path: Path) -> None:
    run("cmake", "-S", KERNEL, "-B", tmp_path / "b", "-G", "Ninja", "-DCMAKE_INSTALL_LIBDIR=lib")
    run("cmake", "--build", tmp_path / "b")
    run("cmake", "--install", tmp_path / "b", "--prefix", tmp_path / "there")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/CMakeLists.txt").write_text(
        CONSUMER.format(how="find_package(kilotune 99.0 REQUIRED)", example=EXAMPLE))  # fmt: skip
    run("cmake", "-S", tmp_path / "c", "-B", tmp_path / "cb", f"-DCMAKE_PREFIX_PATH={tmp_path / 'there'}", code=1)


@needs_cmake
@pytest.mark.parametrize("where", ["project", "layout"])
def test_add_subdirectory_serves_a_project_elsewhere(tmp_path: Path, layouts: dict[str, Path], where: str) -> None:
    folder = KERNEL if where == "project" else layouts["cmake"]
    _consume(tmp_path / "consumer", f"add_subdirectory({folder} kilotune)", EXAMPLE)


# --- Arduino: "Library specification" (arduino-cli), and arduino-lint's schema of library.properties ---------------

ARDUINO_CATEGORIES = {
    "Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage",
    "Data Processing", "Other"}  # fmt: skip
ARDUINO_REQUIRED = (
    "name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures")  # fmt: skip


def test_arduino_layout_follows_the_library_specification(tmp_path: Path) -> None:
    folder = tmp_path / "kilotune"
    lay_out("arduino", folder, Publisher("A. Person <a@example.com>", "https://example.com/kilotune"))
    lines = (folder / "library.properties").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split("=", 1) for line in lines)
    assert all(fields.get(name) for name in ARDUINO_REQUIRED)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.\-]{0,62}", fields["name"])
    assert not fields["name"].lower().startswith("arduino")
    assert fields["version"] == VERSION
    assert re.fullmatch(r"\d+\.\d+\.\d+", fields["version"])
    assert fields["category"] in ARDUINO_CATEGORIES
    assert fields["url"] == "https://example.com/kilotune"
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,62}", folder.name)
    # Recursive layout: sources under src/ only; headers at its root are the interface that `includes` names.
    assert [p.name for p in (folder / "src").glob("*.h")] == fields["includes"].split(",")
    assert not [p for p in folder.iterdir() if p.suffix in (".h", ".cpp", ".ino")]
    assert not (folder / "utility").exists()
    for sketch in (folder / "examples").iterdir():
        assert (sketch / f"{sketch.name}.ino").is_file()
        assert not (sketch / "main.cpp").exists()


@needs_arm
@pytest.mark.parametrize("standard", ["gnu++14", "gnu++17"])
@pytest.mark.parametrize("core", CORES)
def test_arduino_sketch_compiles_with_only_src_in_the_path(
    tmp_path: Path, layouts: dict[str, Path], core: str, standard: str
) -> None:
    """As its builder does: all of src/, then the sketch with Arduino.h put in front."""
    folder = layouts["arduino"]
    (tmp_path / "Arduino.h").write_text(
        "#pragma once\n#include <cstdint>\nstruct Port { void begin(long); template <class T> void print(T);\n"
        "template <class T> void println(T); };\nextern Port Serial;\n")  # fmt: skip
    flags = ["-c", f"-std={standard}", "-Os", CORES[core], "-mthumb", "-fno-exceptions", "-fno-rtti", "-Wall",
             "-Werror", "-I", folder / "src"]  # fmt: skip
    for path in (folder / "src").rglob("*.cpp"):
        run("arm-none-eabi-g++", *flags, path, "-o", tmp_path / f"{path.stem}.o")
    sketch = folder / "examples/learn_from_an_array/learn_from_an_array.ino"
    run("arm-none-eabi-g++", *flags, "-I", tmp_path, "-include", "Arduino.h", "-x", "c++", sketch,
        "-o", tmp_path / "sketch.o")  # fmt: skip


# --- PlatformIO: manifest reference "library.json", and the schema in platformio-core ------------------------------


@pytest.mark.parametrize("where", ["project", "layout"])
def test_library_json_follows_the_manifest_reference(layouts: dict[str, Path], where: str) -> None:
    folder = ROOT if where == "project" else layouts["platformio"]
    data = json.loads((folder / "library.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", data["name"])
    assert data["version"] == VERSION
    assert 0 < len(data["description"]) <= 255
    assert all(re.fullmatch(r"[a-z\d\-_+. ]{1,50}", word) for word in data["keywords"])
    assert data["license"] == "Apache-2.0"
    assert (folder / data["build"]["includeDir"] / data["headers"]).is_file()
    assert (folder / data["build"]["srcDir"] / "trainer.cpp").is_file()
    for path in data["export"]["include"]:
        assert (folder / path).exists()
    for example in data["examples"]:
        assert all((folder / example["base"] / name).is_file() for name in example["files"])


@pytest.mark.parametrize("where", ["project", "layout"])
def test_platformio_packs_a_library_that_compiles(tmp_path: Path, layouts: dict[str, Path], where: str) -> None:
    pio = tool("pio")
    if pio is None:
        pytest.skip("needs platformio")
    folder = tmp_path / "kilotune"
    shutil.copytree(ROOT if where == "project" else layouts["platformio"], folder,
                    ignore=shutil.ignore_patterns("build", ".git", ".venv", ".*_cache", "__pycache__"))  # fmt: skip
    manifest = json.loads((folder / "library.json").read_text(encoding="utf-8"))
    del manifest["license"]  # its check asks a server for the list of licences
    (folder / "library.json").write_text(json.dumps(manifest))
    run(pio, "pkg", "pack", folder, "-o", tmp_path / "k.tar.gz", PLATFORMIO_CORE_DIR=str(tmp_path / "core"))
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(tmp_path / "k.tar.gz", unpacked)
    assert not (unpacked / "pyproject.toml").exists(), "more than the kernel is in the package"
    build = manifest["build"]
    flags = ["-I", unpacked / build["includeDir"], *(f.replace("-I", f"-I{unpacked}/") for f in build["flags"])]
    cpp = [p for rule in build["srcFilter"] for p in (unpacked / build["srcDir"]).glob(rule[2:-1])]
    example = unpacked / manifest["examples"][0]["base"]
    run("g++", "-std=c++17", *flags, *cpp, example / "main.cpp", "-o", tmp_path / "learn")
    _assert_learned(run(tmp_path / "learn"))


# --- Zephyr: "Modules (External projects)", schema in scripts/zephyr_module.py -----------------------------------

# What Zephyr's CMake functions do with the sources, reduced to a plain library.
ZEPHYR = """\
cmake_minimum_required(VERSION 3.20)
project(z LANGUAGES CXX)
set(CONFIG_KILOTUNE {on})
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${{name}})
  add_library(${{name}} STATIC)
endmacro()
macro(zephyr_library_sources)
  target_sources(${{ZEPHYR_CURRENT_LIBRARY}} PRIVATE ${{ARGN}})
endmacro()
macro(zephyr_include_directories)
  include_directories(${{ARGN}})
  set_property(GLOBAL APPEND PROPERTY dirs ${{ARGN}})
endmacro()
add_subdirectory({folder}/zephyr z)
if(TARGET kilotune)
  get_property(dirs GLOBAL PROPERTY dirs)
  target_include_directories(kilotune PUBLIC ${{dirs}})
  add_executable(learn {example}/main.cpp)
  target_link_libraries(learn kilotune)
endif()
"""


def _module_yml(path: Path) -> dict[str, Any]:
    """The flat YAML that the module file is written in."""
    data: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        name, _, value = line.strip().partition(":")
        if line.startswith("  "):
            data["build"][name] = value.strip()
        else:
            data[name] = value.strip() or {}
    return data


@needs_cmake
@pytest.mark.parametrize("where", ["project", "layout"])
def test_zephyr_module_follows_the_schema_and_builds(tmp_path: Path, layouts: dict[str, Path], where: str) -> None:
    folder = ROOT if where == "project" else layouts["zephyr"]
    data = _module_yml(folder / "zephyr" / "module.yml")
    assert data == {"name": "kilotune", "build": {"cmake": "zephyr", "kconfig": "zephyr/Kconfig"}}
    assert (folder / data["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (folder / data["build"]["kconfig"]).is_file()
    for on in ("ON", "OFF"):
        app = tmp_path / on
        app.mkdir()
        (app / "CMakeLists.txt").write_text(ZEPHYR.format(on=on, folder=folder, example=EXAMPLE))
        run("cmake", "-S", app, "-B", app / "b", "-G", "Ninja", "-DCMAKE_CXX_STANDARD=17")
        run("cmake", "--build", app / "b")
    _assert_learned(run(tmp_path / "ON" / "b" / "learn"))
    assert not (tmp_path / "OFF" / "b" / "learn").exists()


@pytest.mark.skipif(find_spec("kconfiglib") is None, reason="needs kconfiglib, Zephyr's parser")
@pytest.mark.parametrize(("cpp", "standard", "offered"), [("y", "17", True), ("y", "11", False), ("n", "17", False)])
def test_zephyr_offers_the_kernel_where_its_language_is_there(
    tmp_path: Path, cpp: str, standard: str, offered: bool
) -> None:
    import kconfiglib

    (tmp_path / "Kconfig").write_text(
        f"config CPP\n\tdef_bool {cpp}\nconfig STD_CPP98\n\tbool\nconfig STD_CPP11\n"
        f"\tdef_bool {'y' if standard == '11' else 'n'}\nconfig REQUIRES_FULL_LIBCPP\n\tbool\n"
        f'source "{ROOT / "zephyr" / "Kconfig"}"\n')  # fmt: skip
    parsed = kconfiglib.Kconfig(str(tmp_path / "Kconfig"), warn_to_stderr=False)
    parsed.syms["KILOTUNE"].set_value("y")
    assert not parsed.warnings
    assert (parsed.syms["KILOTUNE"].str_value == "y") == offered
    assert (parsed.syms["REQUIRES_FULL_LIBCPP"].str_value == "y") == offered


# --- ESP-IDF: "Build system", and the component manager's "idf_component.yml Manifest File" ------------------------

# What idf_component_register does with these arguments, reduced to a plain library.
IDF = """\
cmake_minimum_required(VERSION 3.20)
project(i LANGUAGES CXX)
function(idf_component_register)
  cmake_parse_arguments(A "" "" "SRC_DIRS;INCLUDE_DIRS" ${{ARGN}})
  if(A_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "${{A_UNPARSED_ARGUMENTS}}")
  endif()
  add_library(component STATIC)
  foreach(dir IN LISTS A_SRC_DIRS)
    file(GLOB found ${{CMAKE_CURRENT_SOURCE_DIR}}/${{dir}}/*.c ${{CMAKE_CURRENT_SOURCE_DIR}}/${{dir}}/*.cpp)
    if(NOT found)
      message(FATAL_ERROR "No source files found for SRC_DIRS entry ${{dir}}")
    endif()
    target_sources(component PRIVATE ${{found}})
  endforeach()
  target_include_directories(component PUBLIC ${{A_INCLUDE_DIRS}})
endfunction()
add_subdirectory({folder} component)
add_executable(learn {example}/main.cpp)
target_link_libraries(learn component)
"""


@needs_cmake
@pytest.mark.parametrize("where", ["project", "layout"])
def test_esp_idf_component_builds_and_its_manifest_is_valid(
    tmp_path: Path, layouts: dict[str, Path], where: str
) -> None:
    folder = ROOT if where == "project" else layouts["esp-idf"]
    manifest = (folder / "idf_component.yml").read_text(encoding="utf-8")
    assert f'version: "{VERSION}"\n' in manifest
    assert 'license: "Apache-2.0"\n' in manifest
    assert "description: " in manifest
    (tmp_path / "CMakeLists.txt").write_text(IDF.format(folder=folder, example=EXAMPLE))
    run("cmake", "-S", tmp_path, "-B", tmp_path / "b", "-G", "Ninja", "-DCMAKE_CXX_STANDARD=17")
    run("cmake", "--build", tmp_path / "b")
    _assert_learned(run(tmp_path / "b" / "learn"))


@needs_cmake
@pytest.mark.parametrize("where", ["project", "layout"])
def test_esp_idf_can_expand_the_component_early(tmp_path: Path, layouts: dict[str, Path], where: str) -> None:
    """It first runs every component's CMakeLists.txt as a script, where nothing but the registration may happen."""
    folder = ROOT if where == "project" else layouts["esp-idf"]
    (tmp_path / "early.cmake").write_text(
        "macro(idf_component_register)\n  set(registered 1 PARENT_SCOPE)\n  return()\nendmacro()\n"
        f"function(expand)\n  include({folder}/CMakeLists.txt)\nendfunction()\nexpand()\n"
        'if(NOT registered)\n  message(FATAL_ERROR "not registered")\nendif()\n')  # fmt: skip
    run("cmake", "-P", tmp_path / "early.cmake")


@pytest.mark.parametrize("where", ["project", "layout"])
def test_espressifs_component_manager_accepts_and_packs_it(
    tmp_path: Path, layouts: dict[str, Path], where: str
) -> None:
    compote = tool("compote")
    if compote is None:
        pytest.skip("needs idf-component-manager")
    folder = ROOT if where == "project" else layouts["esp-idf"]
    run(compote, "manifest", "lint", folder / "idf_component.yml")
    run(compote, "component", "pack", "--project-dir", folder, "--name", "kilotune", "--dest-dir", tmp_path / "dist",
        cwd=tmp_path)  # fmt: skip
    (archive,) = (tmp_path / "dist").glob(f"kilotune_{VERSION}.tgz")
    shutil.unpack_archive(archive, tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "CMakeLists.txt").is_file()
    assert list((tmp_path / "unpacked").rglob("kilotune.h"))
    assert not list((tmp_path / "unpacked").rglob("*.py")), "more than the kernel is in the component"


# --- code size -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sizes() -> Any:
    return json.loads(run(sys.executable, ROOT / "tests" / "bench" / "code_size.py", "--json"))


@needs_arm
def test_code_size_has_a_row_for_every_operator(sizes: Any) -> None:
    declared = set(re.findall(r"OpKernel (k\w+);", (KERNEL / "ops" / "op.h").read_text(encoding="utf-8")))
    assert set(sizes["operators"]) == declared
    for core in ("M0", "M4"):
        assert all(by_core[core] > 0 for by_core in sizes["operators"].values()), "an operator costs nothing?"
        assert sizes["frame"][core] + sizes["operators"]["kFullyConnected"][core] == sizes["program"][core]


@needs_arm
def test_a_program_that_trains_biases_of_dense_layers_has_at_most_8_kilobytes(sizes: Any) -> None:
    """Whole, at -Os, with what it takes from libc and libgcc: 7,886 bytes with gcc 12.2."""
    assert sizes["biases"]["M4"] <= 8000
    assert sizes["program"]["M4"] <= 11000  # with trained weights, sums, every loss and rule
