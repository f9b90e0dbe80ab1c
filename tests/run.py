"""Runs all checks; `make lint`, `make check` and `make test` call it.  python tests/run.py [stage ...]

Stages: style, layers, types, quick, cpp, fuzz, tidy, boards, python, coverage. Groups of them: lint, check, test. Each
prints what it runs, and at the end how long it took, also in seconds of processors; the first failure ends the run. If
something is missing on a machine (clang tools, a cross compiler, an emulator), that is named, and what needs it is
skipped.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
PYTHON = sys.executable
TOOLS = Path(PYTHON).parent
CORES = os.cpu_count() or 1
BOARDS = sorted(p.parent.name for p in (ROOT / "firmware" / "boards").glob("*/board.json"))
PYTHON_TREES = ("docs", "firmware", "host/kilotune", "models", "tests")
CPP_TREES = ("firmware", "host/native", "tests")
TIDY_TREES = ("kernel", "runtime", "sensors", "app")  # in firmware
HOST_TESTS = ("tests/host", "tests/project", "tests/support")
# What `make check` runs of the tests: the host's own that build nothing, and one emulated board.
QUICK = (*HOST_TESTS, "tests/device/test_learn_and_keep.py")
QUICK_WITHOUT = (
    "tests/host/cli/test_cli_build.py",
    "tests/host/cli/test_cli_flash_model.py",
    "tests/host/cli/test_cli_provision.py",
    "tests/host/export",
    "tests/host/link/test_locked.py",
    "tests/host/link/test_locked_cuts.py",
    "tests/host/targets",
    "tests/host/tflite/test_quantize.py",
    "tests/project/test_tidy.py",
)
QUICK_TARGETS = ("native", "qemu:mps2-an386")


def run(*command: str | Path, timeout_s: float = 3600, quiet: bool = False, **environment: str) -> None:
    """`quiet`: show the output only if it fails."""
    words = [str(word) for word in command]
    line = " ".join(words)
    print("+", line if len(line) < 200 else f"{line[:160]} ... ({len(words)} words)", flush=True)
    env = (
        _shared_objects()
        | os.environ
        | {"PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}", "KILOTUNE_PYTHON": PYTHON}
        | environment
    )
    output = subprocess.PIPE if quiet else None
    result = subprocess.run(words, cwd=ROOT, env=env, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
                            stdout=output, stderr=subprocess.STDOUT if quiet else None, text=True)  # fmt: skip
    if result.returncode != 0:
        raise SystemExit(f"{result.stdout or ''}failed: {line[:400]}")


@functools.cache
def _shared_objects() -> dict[str, str]:
    """To ccache, folders of the same depth below the project are alike: what boards share is compiled once."""
    configured = shutil.which("ccache") and subprocess.run(
        ["ccache", "--get-config", "base_dir"], capture_output=True, text=True, timeout=60, check=False
    )
    return {} if configured and configured.stdout.strip() else {"CCACHE_BASEDIR": str(ROOT)}


def have(*programs: str) -> bool:
    missing = [p for p in programs if shutil.which(p) is None and not (TOOLS / p).exists()]
    if missing:
        print(f"skipped: {', '.join(missing)} not installed (`kilotune doctor` says how to get it)", flush=True)
    return not missing


def sources(trees: Iterable[str], *endings: str) -> list[Path]:
    return sorted(p for tree in trees for ending in endings for p in (ROOT / tree).rglob(f"*{ending}"))


def style() -> None:
    run("ruff", "format", "--check", *PYTHON_TREES)
    run("ruff", "check", *PYTHON_TREES)
    if have("clang-format"):
        run("clang-format", "--dry-run", "--Werror", *sources(CPP_TREES, ".h", ".cpp"))


def reformat() -> None:
    run("ruff", "format", *PYTHON_TREES)
    run("ruff", "check", "--fix", *PYTHON_TREES)
    if have("clang-format"):
        run("clang-format", "-i", *sources(CPP_TREES, ".h", ".cpp"))


def layers() -> None:
    """Nothing imports or includes upwards, or in a circle; the contracts are in pyproject.toml and layers.py."""
    run("lint-imports", "--no-cache", "--no-logo")
    run(PYTHON, "tests/support/layers.py")


def types() -> None:
    made = {"--python": "host/kilotune/link/wire.py", "--python-terms": "host/kilotune/wire_terms.py"}
    run(PYTHON, "firmware/schema/generate.py", *(word for pair in made.items() for word in pair))
    run("mypy")  # strict; pyproject.toml says for which files


def cpp() -> None:
    """C++ tests with the address and undefined-behaviour sanitizers."""
    run("cmake", "--preset", "tests", quiet=True)
    run("cmake", "--build", "--preset", "tests", quiet=True)
    run("ctest", "--preset", "tests", "-j", str(CORES))


def fuzz() -> None:
    """Each fuzz target for a short time, continuing the last run; `make fuzz` runs longer."""
    seconds = os.environ.get("FUZZ_SECONDS", "15")
    run(PYTHON, "tests/fuzz/run.py", "--seconds", seconds, "--jobs", str(CORES))


def tidy() -> None:
    """clang-tidy on kernel, runtime, sensors and app, over the compile commands of the native firmware."""
    if have("clang-tidy", "clang++"):
        database = BUILD / "tidy-commands"
        run("cmake", "--preset", "native", "-B", database, "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", quiet=True)
        run("cmake", "--build", database, "--target", "kilotune_schema_headers", quiet=True)
        found = sources([f"firmware/{tree}" for tree in TIDY_TREES], ".cpp")
        # Its assembly is of a Cortex-M, and these are the compile commands of this computer.
        run(PYTHON, "tests/tidy.py", database, *(p for p in found if p.parent.name != "window_costs"))


def boards() -> None:
    """Every board builds without a warning and within its budgets, with its sensors on each of its buses."""
    if not have("arm-none-eabi-g++"):
        return
    built = BUILD / "firmware"  # where `kilotune build` finds them, and so do the tests that run them
    variants: list[tuple[str, Path, str]] = []
    for board in BOARDS:
        described = json.loads((ROOT / "firmware" / "boards" / board / "board.json").read_text(encoding="utf-8"))
        variants.append((board, built / board, "i2c"))
        if "spi" in described.get("sensor", {}):
            variants.append((board, built / f"{board}-spi", "spi"))
    # Configuring uses one thread. Builds use all cores, one after the other: what boards share is compiled once.
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(_configure, variants))
    for _, folder, _ in variants:
        run("cmake", "--build", folder)


def _configure(variant: tuple[str, Path, str]) -> None:
    board, folder, bus = variant
    run(
        "cmake",
        "--preset",
        board,
        "-B",
        folder,
        f"-DKILOTUNE_SENSOR_BUS={bus}",
        f"-DKILOTUNE_PYTHON={PYTHON}",
        quiet=True,
    )


def python() -> None:
    """One worker more than cores: tests that wait, such as those of a silent line, leave theirs to others."""
    _pytest(CORES + 1, "tests")


def quick() -> None:
    targets = (f"--target={target}" for target in QUICK_TARGETS)
    _pytest(CORES, "-m", "not slow", *targets, *(f"--ignore={path}" for path in QUICK_WITHOUT), *QUICK)


def coverage() -> None:
    """Which lines the host's own tests run: it slows them down and finds no fault, so `make test` leaves it out."""
    # From 3.12 on, Python itself reports which lines run, at almost no cost.
    os.environ["COVERAGE_CORE"] = "sysmon" if sys.version_info >= (3, 12) else "ctrace"
    _pytest(CORES, "--cov", "--cov-report=", *HOST_TESTS)
    run("coverage", "report", "--skip-covered", "--skip-empty", "--sort=cover")


def _pytest(workers: int, *arguments: str) -> None:
    """Each process takes tests from the others when it has none left."""
    run("pytest", "-n", str(workers), "--dist", "worksteal", *arguments)


STAGES: dict[str, Callable[[], None]] = {
    "style": style, "layers": layers, "types": types, "quick": quick, "cpp": cpp, "fuzz": fuzz, "tidy": tidy,
    "boards": boards, "python": python, "coverage": coverage, "format": reformat,
}  # fmt: skip
LINT = ("style", "layers", "types")
GROUPS = {
    "lint": LINT,
    "check": (*LINT, "quick"),
    "test": (*LINT, "cpp", "fuzz", "tidy", "boards", "python"),
}


def main() -> None:
    wanted = [stage for name in sys.argv[1:] or ["test"] for stage in GROUPS.get(name, (name,))]
    unknown = set(wanted) - set(STAGES)
    if unknown:
        raise SystemExit(f"no stage {', '.join(sorted(unknown))}; there are {', '.join([*STAGES, *GROUPS])}")
    BUILD.mkdir(exist_ok=True)
    took: list[str] = []
    for name in wanted:
        start, used = time.monotonic(), _processor_s()
        print(f"=== {name}", flush=True)
        STAGES[name]()
        took.append(f"{name} {time.monotonic() - start:.0f} s ({_processor_s() - used:.0f} s of processors)")
        print(f"=== {took[-1]}", flush=True)
    print(f"=== {', '.join(took)}")


def _processor_s() -> float:
    """Of all processes that have ended: a figure that changes little with what else this computer does."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
