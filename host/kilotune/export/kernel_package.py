"""The kernel alone, packaged as an embedded ecosystem expects.

Every package has the same tree, `src/kilotune.h` and `src/kernel/`, and the metadata of its ecosystem. The project's
own root has the same metadata with its own paths. docs/LIBRARY.md says whose rules apply.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from kilotune.errors import KilotuneError
from kilotune.version import __version__

Ecosystem = Literal["cmake", "arduino", "platformio", "zephyr", "esp-idf"]
ECOSYSTEMS: Final[tuple[Ecosystem, ...]] = get_args(Ecosystem)

_SENTENCE = "Trains int8 TensorFlow Lite models on the microcontroller itself, in integers and kilobytes."
_PARAGRAPH = "Bit-exact inference and on-device fine-tuning without heap, floating point or operating system."
_EXAMPLE = "learn_from_an_array"
_SOURCES = ("*.cpp", "*.h", "*.def")
_INSTALLED = Path(__file__).parent / "packaged" / "kernel"


@dataclass(frozen=True, slots=True)
class Paths:
    """Where a package keeps the kernel, relative to its root."""

    kernel: str  # folder of the sources
    above: str  # include path of kernel/...
    header: str  # include path of kilotune.h
    examples: str


PACKAGE: Final = Paths("src/kernel", "src", "src", "examples")
PROJECT: Final = Paths("firmware/kernel", "firmware", "firmware/kernel/include", "firmware/kernel/examples")


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes the package; library indexes require both."""

    maintainer: str = "Kilotune maintainers"
    url: str = ""


# Which of its fields each ecosystem's files contain.
PUBLISHED: Final[dict[Ecosystem, frozenset[str]]] = {
    "cmake": frozenset(),
    "arduino": frozenset(("maintainer", "url")),
    "platformio": frozenset(("maintainer", "url")),
    "zephyr": frozenset(),
    "esp-idf": frozenset(("url",)),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """What `lay_out` wrote."""

    ecosystem: str
    path: str
    version: str
    files: int
    bytes: int


def metadata(ecosystem: Ecosystem, paths: Paths, publisher: Publisher) -> dict[str, str]:
    """The ecosystem's own files: path in the package -> text."""
    if ecosystem == "arduino":
        return {"library.properties": _library_properties(publisher)}
    if ecosystem == "platformio":
        return {"library.json": _library_json(paths, publisher)}
    if ecosystem == "zephyr":
        return {
            "zephyr/module.yml": "# The kernel as a Zephyr module.\nname: kilotune\nbuild:\n  cmake: zephyr\n"
            "  kconfig: zephyr/Kconfig\n",
            "zephyr/CMakeLists.txt": _zephyr_cmake(paths),
            "zephyr/Kconfig": _ZEPHYR_KCONFIG,
        }
    if ecosystem == "esp-idf":
        files = {"idf_component.yml": _idf_manifest(paths, publisher)}
        # The project's root has a CMakeLists.txt of its own, which registers the component.
        return files if paths == PROJECT else {**files, "CMakeLists.txt": _idf_cmake(paths)}
    return {
        "CMakeLists.txt": "# The kernel as target kilotune::kernel.\ncmake_minimum_required(VERSION 3.20)\n"
        "project(kilotune LANGUAGES CXX)\nadd_subdirectory(kernel)\n"
    }


def lay_out(ecosystem: Ecosystem, target: Path, publisher: Publisher | None = None) -> Layout:
    """Writes the package as a new folder, or as an archive if `target` ends in .zip.

    Raises KilotuneError: `no_source`, `not_empty`.
    """
    if target.suffix == ".zip":
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "kilotune"
            made = lay_out(ecosystem, folder, publisher)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.make_archive(str(target.with_suffix("")), "zip", temporary, "kilotune")
        return Layout(made.ecosystem, str(target), made.version, made.files, target.stat().st_size)
    kernel = kernel_source()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise KilotuneError(
            "not_empty", f"{target} exists and is not an empty folder", "name a new folder, or remove it"
        )
    if ecosystem == "cmake":
        shutil.copytree(kernel, target / "kernel")
    else:
        for path in _kernel_files(kernel):
            _copy(path, target / PACKAGE.kernel / path.relative_to(kernel))
        _copy(kernel / "include" / "kilotune.h", target / PACKAGE.header / "kilotune.h")
        for path in _example_files(kernel, ecosystem):
            _copy(path, target / PACKAGE.examples / _EXAMPLE / path.name)
    licence = next(f for f in (kernel.parents[1] / "LICENSE", kernel.parent / "LICENSE") if f.is_file())
    _copy(licence, target / "LICENSE")
    for name, text in metadata(ecosystem, PACKAGE, publisher or Publisher()).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text(text, encoding="utf-8")
    files = [p for p in target.rglob("*") if p.is_file()]
    return Layout(ecosystem, str(target), __version__, len(files), sum(p.stat().st_size for p in files))


def kernel_source() -> Path:
    """The kernel's folder: in the source tree if there is one, else the installed copy."""
    from kilotune.targets.boards import source_root

    root = source_root()
    for folder in ([root / PROJECT.kernel] if root is not None else []) + [_INSTALLED]:
        if (folder / "model.h").is_file():
            return folder
    raise KilotuneError(
        "no_source",
        "the kernel's source was not found",
        "install kilotune again, or set KILOTUNE_SOURCE to the project's folder",
    )


def _kernel_files(kernel: Path) -> Iterator[Path]:
    for folder in (kernel, kernel / "ops"):
        for pattern in _SOURCES:
            yield from sorted(folder.glob(pattern))


def _example_files(kernel: Path, ecosystem: Ecosystem) -> Iterator[Path]:
    # A sketch folder compiles every source in it, so it may have only one of the two mains.
    unwanted = "main.cpp" if ecosystem == "arduino" else f"{_EXAMPLE}.ino"
    for path in sorted((kernel / "examples" / _EXAMPLE).iterdir()):
        if path.name != unwanted:
            yield path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _library_properties(publisher: Publisher) -> str:
    fields = {
        "name": "Kilotune",
        "version": __version__,
        "author": publisher.maintainer,
        "maintainer": publisher.maintainer,
        "sentence": _SENTENCE,
        "paragraph": _PARAGRAPH,
        "category": "Data Processing",
        "url": publisher.url,
        "architectures": "*",
        "includes": "kilotune.h",
        "dot_a_linkage": "true",  # the linker then takes only what the sketch uses
    }
    return "".join(f"{name}={value}\n" for name, value in fields.items())


def _library_json(paths: Paths, publisher: Publisher) -> str:
    example = f"{paths.examples}/{_EXAMPLE}"
    data: dict[str, object] = {
        "name": "kilotune",
        "version": __version__,
        "description": _SENTENCE,
        "keywords": ["machine learning", "training", "tensorflow lite", "tinyml", "int8"],
        "authors": [{"name": publisher.maintainer, "maintainer": True}],
        "license": "Apache-2.0",
        "frameworks": "*",
        "platforms": "*",
        "headers": "kilotune.h",
        "examples": [{"name": _EXAMPLE, "base": example, "files": ["main.cpp", "learn.h", "model.h"]}],
        "export": {"include": _without_nested(["library.json", "LICENSE", paths.kernel, paths.header, paths.examples])},
        "build": {
            "srcDir": paths.kernel,
            "srcFilter": ["+<*.cpp>", "+<ops/*.cpp>"],
            "includeDir": paths.header,
            "flags": [f"-I{paths.above}"],
        },
    }
    if publisher.url:
        data["homepage"] = publisher.url
    return json.dumps(data, indent=2) + "\n"


def _without_nested(paths: list[str]) -> list[str]:
    return [p for p in dict.fromkeys(paths) if not any(p.startswith(f"{other}/") for other in paths)]


def _zephyr_cmake(paths: Paths) -> str:
    return f"""\
# The kernel as a Zephyr library; CONFIG_KILOTUNE turns it on.
if(CONFIG_KILOTUNE)
  set(package ${{CMAKE_CURRENT_LIST_DIR}}/..)
  file(GLOB sources CONFIGURE_DEPENDS ${{package}}/{paths.kernel}/*.cpp
       ${{package}}/{paths.kernel}/ops/*.cpp)
  zephyr_library_named(kilotune)
  zephyr_library_sources(${{sources}})
  zephyr_include_directories({" ".join(f"${{package}}/{p}" for p in sorted({paths.above, paths.header}))})
endif()
"""


_ZEPHYR_KCONFIG = (
    "config KILOTUNE\n"
    '\tbool "Kilotune: training of int8 models on the device"\n'
    "\tdepends on CPP && !STD_CPP98 && !STD_CPP11\n"
    "\tselect REQUIRES_FULL_LIBCPP\n"
    "\thelp\n"
    "\t  Adds the training kernel and <kilotune.h>. It needs C++14 or later\n"
    "\t  (CONFIG_STD_CPP17=y) and uses no heap, threads or interrupts.\n"
)


def _idf_manifest(paths: Paths, publisher: Publisher) -> str:
    url = f'url: "{publisher.url}"\n' if publisher.url else ""
    only = (
        'files:\n  exclude:\n    - "**/*"\n  include:\n    - "CMakeLists.txt"\n    - "LICENSE"\n'
        f'    - "{paths.kernel}/**/*"\n'
    )
    return (
        f'# The kernel as an ESP-IDF component.\nversion: "{__version__}"\ndescription: "{_SENTENCE}"\n'
        f'license: "Apache-2.0"\n{url}dependencies:\n  idf: ">=5.0"\n' + (only if paths == PROJECT else "")
    )


def _idf_cmake(paths: Paths) -> str:
    includes = " ".join(sorted({paths.above, paths.header}))
    return (
        "# The kernel as an ESP-IDF component.\n"
        f"idf_component_register(SRC_DIRS {paths.kernel} {paths.kernel}/ops INCLUDE_DIRS {includes})\n"
    )
