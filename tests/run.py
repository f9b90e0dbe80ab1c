"""Everything that is checked, in order; `make test` calls it.  python tests/run.py [stage ...]

Stages: style, layers, types, cpp, fuzz, tidy, boards, python. Each prints what it runs; the first failure ends the run.
What a machine lacks (clang tools, a cross compiler, an emulator) is named and skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
PYTHON = sys.executable
TOOLS = Path(PYTHON).parent
BOARDS = sorted(p.parent.name for p in (ROOT / "firmware" / "boards").glob("*/board.json"))
PYTHON_TREES = ("docs", "firmware/schema", "host/kilotune", "models", "tests")


def run(*command: str | Path, timeout_s: float = 3600, **environment: str) -> None:
    words = [str(word) for word in command]
    line = " ".join(words)
    print("+", line if len(line) < 200 else f"{line[:160]} ... ({len(words)} words)", flush=True)
    env = os.environ | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "KILOTUNE_PYTHON": PYTHON} | environment
    result = subprocess.run(words, cwd=ROOT, env=env, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise SystemExit(f"failed: {line[:400]}")


def have(*programs: str) -> bool:
    missing = [p for p in programs if shutil.which(p) is None and not (TOOLS / p).exists()]
    if missing:
        print(f"skipped: {', '.join(missing)} not installed (`kilotune doctor` says how to get it)", flush=True)
    return not missing


def sources(*patterns: str) -> list[Path]:
    return sorted(p for pattern in patterns for p in ROOT.glob(pattern))


def style() -> None:
    run("ruff", "format", "--check", *PYTHON_TREES)
    run("ruff", "check", *PYTHON_TREES)
    if have("clang-format"):
        files = sources("firmware/**/*.h", "firmware/**/*.cpp", "host/native/*.h", "host/native/*.cpp",
                        "tests/**/*.h", "tests/**/*.cpp")  # fmt: skip
        run("clang-format", "--dry-run", "--Werror", *files)


def layers() -> None:
    """Nothing imports or includes upwards, or in a circle; the contracts are in pyproject.toml and layers.py."""
    run("lint-imports", "--no-cache", "--no-logo")
    run(PYTHON, "tests/support/layers.py")


def types() -> None:
    made = {"--python": "host/kilotune/link/wire.py", "--python-terms": "host/kilotune/wire_terms.py"}
    run(PYTHON, "firmware/schema/generate.py", *(word for pair in made.items() for word in pair))
    run("mypy")


def cpp() -> None:
    """C++ tests with the address and undefined-behaviour sanitizers."""
    run("cmake", "--preset", "tests")
    run("cmake", "--build", "--preset", "tests")
    run("ctest", "--preset", "tests", "-j", str(os.cpu_count() or 1))


def fuzz() -> None:
    """Each fuzz target for a moment, on from where the last run stopped; `make fuzz` takes its time."""
    seconds, jobs = os.environ.get("FUZZ_SECONDS", "15"), str(os.cpu_count() or 1)
    run(PYTHON, "tests/fuzz/run.py", "--seconds", seconds, "--jobs", jobs)


def tidy() -> None:
    """clang-tidy on kernel, runtime, sensors and app, over the compile commands of the native firmware."""
    if have("clang-tidy"):
        run("cmake", "--preset", "native", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
        run("cmake", "--build", "--preset", "native")
        files = sources(
            "firmware/kernel/**/*.cpp", "firmware/runtime/**/*.cpp", "firmware/sensors/*.cpp", "firmware/app/*.cpp"
        )
        processes = os.cpu_count() or 1
        run("xargs", "-a", _listed(files), "-P", str(processes), "-n", "4", "clang-tidy", "--quiet",
            "--warnings-as-errors=*", "-p", BUILD / "native")  # fmt: skip


def _listed(files: list[Path]) -> Path:
    path = BUILD / "tidy-files.txt"
    path.write_text("".join(f"{f}\n" for f in files))
    return path


def boards() -> None:
    """Every board builds without a warning and within its budgets, with its sensors on each of its buses."""
    for board in BOARDS:
        if board != "native" and not have("arm-none-eabi-g++"):
            continue
        run("cmake", "--preset", board)
        run("cmake", "--build", "--preset", board)
        if "spi" in json.loads((ROOT / "firmware" / "boards" / board / "board.json").read_text()).get("sensor", {}):
            folder = BUILD / f"{board}-spi"
            run("cmake", "--preset", board, "-B", folder, "-DKILOTUNE_SENSOR_BUS=spi")
            run("cmake", "--build", folder)


def python() -> None:
    run("pytest", "-n", str(os.cpu_count() or 1), "--dist", "loadfile", "tests")


STAGES: dict[str, Callable[[], None]] = {
    "style": style, "layers": layers, "types": types, "cpp": cpp,
    "fuzz": fuzz, "tidy": tidy, "boards": boards, "python": python,
}  # fmt: skip


def main() -> None:
    wanted = sys.argv[1:] or list(STAGES)
    unknown = set(wanted) - set(STAGES)
    if unknown:
        raise SystemExit(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    BUILD.mkdir(exist_ok=True)
    for name in wanted:
        start = time.monotonic()
        print(f"=== {name}", flush=True)
        STAGES[name]()
        print(f"=== {name} took {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
