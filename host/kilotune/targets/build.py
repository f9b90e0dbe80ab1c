"""Builds the firmware with CMake and reads its sizes."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kilotune.common.files import lock_file
from kilotune.errors import KilotuneError
from kilotune.targets.boards import Board, board, source_root
from kilotune.targets.elf import section_sizes
from kilotune.targets.sensors import AS_THE_BOARD, SensorChoice

_BUNDLED = Path(__file__).parent / "bin" / "kilotune-native"
_BUILD_S = 600.0


@dataclass(frozen=True, slots=True)
class FirmwareBuild:
    """A built firmware; sizes in bytes."""

    board: str
    firmware: str  # path of the ELF file, or of the native program
    text: int  # code and constants
    data: int
    bss: int
    stack: int
    engine: int  # the engine's block: what the model needs or, without a model, everything that is left
    flash_bytes: int
    flash_left: int
    ram_bytes: int
    ram_left: int
    sensors: tuple[str, ...]  # in the order in which they are tried
    sensor_bus: str  # "": none
    sensor_pins: str


@dataclass(frozen=True, slots=True)
class Counting:
    """`cpu_flags`: what the compiler makes code for, where it is not for the board's own core."""

    cpu_flags: str = ""


def build(
    board_id: str,
    image: Path | None = None,
    out: Path | None = None,
    source: Path | None = None,
    sensors: SensorChoice = AS_THE_BOARD,
    counting: Counting | None = None,
) -> FirmwareBuild:
    """Builds a board's firmware, or rebuilds it if sources changed; with `image`, with exactly the RAM of the model.

    `counting`: instead of the firmware, the program that counts instructions by stage.
    Raises KilotuneError: `unknown_board`, `unknown_sensor`, `no_sensor_bus`, `missing_tool`, `no_source`,
    `build_failed`.
    """
    chosen = board(board_id)
    sensors.require(chosen)
    root = source if source is not None else source_root()
    if root is None or not (root / "CMakeLists.txt").is_file():
        raise KilotuneError(
            "no_source",
            "the firmware's source was not found",
            "run this in the project's folder, or give that folder with --source or in KILOTUNE_SOURCE",
        )
    if image is not None:
        from kilotune.image.image import Image
        from kilotune.targets.fit import require_fit

        require_fit(Image.load(image), board_id)  # says what is wrong with it, better than a build could
    compiler = "g++" if chosen.core == "host" else "arm-none-eabi-g++"
    for tool, package in (("cmake", "cmake"), ("ninja", "ninja-build"), (compiler, _PACKAGE[compiler])):
        _need(tool, package, board_id)
    folder = out if out is not None else root / "build" / "firmware" / _variant(board_id, image, sensors, counting)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder) as lock:
        _cmake(root, folder, board_id, image, [*sensors.cmake_options(), *_counting(counting)], lock=lock)
    elf = folder / ("kilotune-native" if chosen.core == "host" else "kilotune.elf")
    return _sized(chosen, elf, sensors)


def native_program() -> Path:
    """The program of the target `native`: from the source tree if there is one, else the installed one."""
    in_source = source_root() is not None and source_root() in Path(__file__).resolve().parents
    if _BUNDLED.is_file() and not in_source:
        return _BUNDLED
    return Path(build("native").firmware)


_PACKAGE = {"g++": "g++", "arm-none-eabi-g++": "gcc-arm-none-eabi libstdc++-arm-none-eabi-newlib"}


def _need(tool: str, package: str, board_id: str) -> None:
    if _find(tool) is None:
        raise KilotuneError(
            "missing_tool",
            f"{tool} is not installed; firmware for {board_id} needs it",
            f"apt-get install {package}",
        )


def _find(tool: str) -> str | None:
    """On PATH, or next to this interpreter (cmake and ninja also come as Python packages)."""
    return shutil.which(tool) or shutil.which(tool, path=str(Path(sys.executable).parent))


def _variant(board_id: str, image: Path | None, sensors: SensorChoice, counting: Counting | None) -> str:
    name = board_id + sensors.variant() + ("" if counting is None else f"-counting{counting.cpu_flags}")
    if image is None:
        return name
    return f"{name}-{hashlib.sha256(image.read_bytes()).hexdigest()[:12]}"


@contextlib.contextmanager
def _lock(folder: Path, *, patience_s: float = _BUILD_S) -> Iterator[int]:
    """Allows one build at a time per folder. The build inherits the lock, so it is held even if the command dies."""
    busy = KilotuneError(
        "build_failed",
        f"another build in {folder} did not end within {patience_s:g} s",
        f"end it (`fuser {folder / '.lock'}` shows its process id), or build in another folder",
    )
    with lock_file(folder / ".lock", patience_s, busy) as handle:
        yield handle


def _counting(counting: Counting | None) -> list[str]:
    """The CMake options; an earlier configuration of the folder had the same."""
    return [] if counting is None else ["-DKILOTUNE_STAGES=ON", f"-DKILOTUNE_CPU_FLAGS={counting.cpu_flags}"]


def _cmake(root: Path, folder: Path, board_id: str, image: Path | None, options: list[str], *, lock: int) -> None:
    cmake, ninja = _find("cmake") or "cmake", _find("ninja") or "ninja"
    configure = [
        cmake, "-S", str(root), "-B", str(folder), "-G", "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
        f"-DKILOTUNE_BOARD={board_id}",
        f"-DKILOTUNE_PYTHON={sys.executable}",
        f"-DKILOTUNE_MODEL={image.resolve() if image is not None else ''}",
        *options,
    ]  # fmt: skip
    # Ninja runs CMake itself where a file that describes the build has changed: a tenth of a second instead of two.
    stamp, log = folder / ".configured", folder / "build.log"
    build = [ninja, "-C", str(folder), "firmware"]
    commands = [build] if _kept(stamp) == _configured(folder, configure, image) else [configure, build]
    stamp.unlink(missing_ok=True)  # after a failure, everything is done anew
    with log.open("w", encoding="utf-8") as output:
        for command in commands:
            try:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=_BUILD_S,
                    pass_fds=(lock,),
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise KilotuneError(
                    "build_failed",
                    f"the build of {board_id} took more than {_BUILD_S:g} s",
                    f"see its log: {log}",
                ) from error
            if done.returncode != 0:
                raise KilotuneError(
                    "build_failed",
                    f"the firmware of {board_id} does not build: {_reason(log)}",
                    f"see the whole log: {log}",
                )
    stamp.write_text(_configured(folder, configure, image), encoding="ascii")


def _configured(folder: Path, command: list[str], image: Path | None) -> str:
    """Differs where CMake was told something else: by this module, by somebody's own command, or by another model."""
    cache = folder / "CMakeCache.txt"
    parts = ["\0".join(command).encode(), *(f.read_bytes() for f in (cache, image) if f is not None and f.is_file())]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _kept(stamp: Path) -> str:
    return stamp.read_text(encoding="ascii", errors="replace") if stamp.is_file() else ""


def _reason(log: Path) -> str:
    """The lines of a build log that say what went wrong."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for i, line in enumerate(lines):
        if line.startswith("CMake Error"):
            return " ".join(lines[i + 1 : i + 3])
    full = [line.rpartition("ld: ")[2] for line in lines if "overflowed by" in line]
    telling = full or [line for line in lines if "error:" in line or "undefined reference" in line]
    return " | ".join((telling or lines)[:3]) or "no output"


def _sized(chosen: Board, elf: Path, choice: SensorChoice) -> FirmwareBuild:
    sizes = section_sizes(elf)
    text = sum(sizes.get(n, 0) for n in (".boot", ".text", ".rodata", ".ARM.exidx"))
    data, bss = sizes.get(".data", 0), sizes.get(".bss", 0) + sizes.get(".noinit", 0)
    stack, engine = sizes.get(".stack", 0), sizes.get(".engine", 0)
    flash_bytes, ram_bytes = text + data, data + bss + stack + engine
    bus = choice.bus_on(chosen)
    return FirmwareBuild(
        board=chosen.id, firmware=str(elf), text=text, data=data, bss=bss, stack=stack, engine=engine,
        flash_bytes=flash_bytes, flash_left=max(0, chosen.program_bytes - flash_bytes),
        ram_bytes=ram_bytes, ram_left=max(0, chosen.ram_bytes - ram_bytes),
        sensors=choice.drivers_on(chosen), sensor_bus=bus, sensor_pins=chosen.sensors.pins.get(bus, ""),
    )  # fmt: skip
