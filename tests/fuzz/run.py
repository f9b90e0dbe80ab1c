"""Builds the fuzz targets and runs each for a set time, or a number of executions.

    python tests/fuzz/run.py [--seconds N | --executions N] [--jobs N] [--coverage] [target ...]

What was found stays in build/fuzz/corpus and is where the next run starts; an input that breaks a target
stays in build/fuzz/crashes, what a run printed in build/fuzz/<target>.log. `--coverage` then counts, over
that corpus, what of each parser has run.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "fuzz"
COVERAGE = ROOT / "build" / "fuzz-coverage"
TARGETS = ("session", "model", "checkpoint", "adapter")
LONGEST_INPUT = {"session": 400, "model": 6144, "checkpoint": 400, "adapter": 400}
# A report then lacks the stack of the allocation: run the input once more without these.
QUICK_ALLOCATOR = "malloc_context_size=0:quarantine_size_mb=8:max_malloc_fill_size=0"
OPERATORS = ("fully_connected", "softmax", "conv", "depthwise", "window", "pool", "mean", "lookup",
             "elementwise", "concatenation", "gather", "reshape", "transpose_conv", "lstm", "adapted",
             "adapted_weights", "adapted_update", "adam")  # fmt: skip
# What reads bytes from outside, and the target that answers for it.
PARSERS = {
    "session": ("runtime/link/frame.cpp", "runtime/link/session.cpp", "runtime/link/session_adapter.cpp",
                "runtime/link/session_input.cpp", "runtime/link/session_stream.cpp", "runtime/engine/engine.cpp",
                "runtime/link/session_model.cpp", "runtime/storage/model_store.cpp", "runtime/link/session_auth.cpp",
                "runtime/link/auth.cpp", "runtime/keys/key_store.cpp", "runtime/link/session_sensor.cpp"),
    "model": ("kernel/model.cpp", *(f"kernel/ops/{op}.cpp" for op in OPERATORS), "kernel/loss.cpp",
              "kernel/trainer.cpp", "runtime/signal/features.cpp", "runtime/learn/profile.cpp"),
    "checkpoint": ("runtime/storage/flash_map.cpp", "runtime/storage/record.cpp", "runtime/storage/record_recovery.cpp",
                   "runtime/storage/record_space.cpp", "runtime/storage/record_store.cpp"),
    "adapter": ("runtime/learn/adapter_view.cpp", "runtime/learn/learner.cpp", "runtime/learn/learner_measure.cpp",
                "runtime/learn/learner_apart.cpp", "runtime/learn/learner_train.cpp",
                "runtime/learn/learner_windows.cpp", "runtime/learn/reservoir.cpp", "runtime/learn/score.cpp",
                "runtime/learn/guard.cpp", "runtime/learn/learner_guard.cpp"),
}  # fmt: skip


def missing() -> str:
    """Why there can be no fuzzing on this machine; empty where there can."""
    if shutil.which("clang++") is None:
        return "clang is not installed"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.cpp"
        source.write_text('extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }\n')
        built = subprocess.run(
            ["clang++", "-fsanitize=fuzzer,address", source, "-o", Path(folder) / "empty"],
            capture_output=True, check=False,
        )  # fmt: skip
    return "" if built.returncode == 0 else "clang has no fuzzer runtime (Debian: libclang-rt-dev)"


def build(preset: str) -> None:
    for command in (["cmake", "--preset", preset], ["cmake", "--build", "--preset", preset]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{done.stdout}{done.stderr}failed: {' '.join(command)}")


def fuzz(target: str, limit: str, timeout_s: float | None) -> str:
    """Runs `target` up to `limit`, libFuzzer's; one line of figures. Raises SystemExit when it breaks."""
    crashes = BUILD / "crashes"
    crashes.mkdir(exist_ok=True)
    log = BUILD / f"{target}.log"
    program: str | Path = BUILD / "tests" / "fuzz" / f"fuzz_{target}"
    command = [program, limit, "-timeout=20", "-rss_limit_mb=1024",
               f"-max_len={LONGEST_INPUT[target]}", "-entropic=0", f"-artifact_prefix={crashes}/{target}-",
               "-print_final_stats=1", BUILD / "corpus" / target]  # fmt: skip
    with log.open("w") as out:
        done = subprocess.run(command, stdout=out, stderr=out, timeout=timeout_s, check=False,
                              env=os.environ | {"ASAN_OPTIONS": QUICK_ALLOCATOR})  # fmt: skip
    printed = log.read_text(errors="replace")
    if done.returncode != 0:
        raise SystemExit(f"{printed[-6000:]}\nfailed: fuzz target {target}")
    stat = dict(re.findall(r"stat::(\w+):\s+(\d+)", printed))
    covered = re.findall(r"cov: (\d+)", printed)
    return (
        f"{target}: {stat['number_of_executed_units']} executions, {stat['average_exec_per_sec']} a second, "
        f"{covered[-1] if covered else 0} edges, {stat['peak_rss_mb']} MB, no crash"
    )


def coverage(target: str) -> str:
    """The lines and branches of the target's parsers that its corpus runs, as llvm-cov counts them."""
    binary = COVERAGE / "tests" / "fuzz" / f"fuzz_{target}"
    raw, data = COVERAGE / f"{target}.profraw", COVERAGE / f"{target}.profdata"
    env = os.environ | {"LLVM_PROFILE_FILE": str(raw), "KILOTUNE_FUZZ_IMAGES": str(BUILD / "images")}
    subprocess.run([binary, "-runs=0", BUILD / "corpus" / target], env=env, capture_output=True, check=True)
    subprocess.run([_llvm("llvm-profdata"), "merge", "-sparse", raw, "-o", data], check=True)
    report = subprocess.run(
        [_llvm("llvm-cov"), "report", binary, f"-instr-profile={data}",
         *(ROOT / "firmware" / path for path in PARSERS[target])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return report.stdout


def _llvm(tool: str) -> str:
    for name in (tool, *(f"{tool}-{version}" for version in range(20, 12, -1))):
        if shutil.which(name):
            return name
    raise SystemExit(f"{tool} is not installed (Debian: llvm)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--executions", type=int, help="of each target, however long they take; 0: just the corpus")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("targets", nargs="*", default=TARGETS)
    options = parser.parse_args()
    reason = missing()
    if reason:
        print(f"skipped: {reason}")
        return
    os.environ["KILOTUNE_PYTHON"] = sys.executable
    build("fuzz")
    subprocess.run([sys.executable, Path(__file__).parent / "seeds.py", BUILD], check=True)
    seconds, executions = options.seconds, options.executions
    limit = f"-max_total_time={seconds}" if executions is None else f"-runs={executions}"
    timeout_s = seconds + 300.0 if executions is None else None
    with ThreadPoolExecutor(options.jobs) as pool:
        for figures in pool.map(lambda target: fuzz(target, limit, timeout_s), options.targets):
            print(figures, flush=True)
    if options.coverage:
        build("fuzz-coverage")
        for target in options.targets:
            print(coverage(target), flush=True)


if __name__ == "__main__":
    main()
