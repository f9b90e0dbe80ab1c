"""Tests the power tests: each of these changes to the record store must fail: python tests/power/mutations.py

Each mutation is made in a copy of the sources; the tests of the store and then the life under power cuts must
fail on it. A mutation whose text is not in the sources any more is an error, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from pathlib import Path

from tests.support.mutation import Mutation, build, copy_sources, mutated

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "mutations"
TESTS = {
    "test_record_store": ["kilotune_tests", "-sf=*test_record_store*"],
    "test_power_cuts": ["kilotune_power"],
}

MUTATIONS = (
    Mutation("no void behind the newest record after a start", "storage/record_space.cpp",
             "if (tail_doubted_) void_tail();", "tail_doubted_ = false;"),
    Mutation("voids that are there are not made sure of", "storage/record_space.cpp",
             "  bool was_void = true;\n", "  constexpr uint8_t kZero[4] = {};\n"
             "  while (erased_end_ - tail_ >= kRecordOverhead && flash_holds(*flash_, tail_, kZero, 4))\n"
             "    tail_ += kRecordOverhead;\n  bool was_void = true;\n"),
    Mutation("what reads blank is taken for erased behind a record that was cut", "storage/record_space.cpp",
             "if (!newest.committed || newest.end() > end) return;", "if (newest.end() > end) return;"),
    Mutation("space is not looked at before it is used", "storage/record_space.cpp",
             "erased_end_ - tail_ < need || !flash_blank(*flash_, tail_, need)", "erased_end_ - tail_ < need"),
    Mutation("the fallback's slot may be erased", "storage/record_space.cpp",
             "within(current_) || within(fallback_record());", "within(current_);"),
    Mutation("the first word of a sector stays before its erase", "storage/record_space.cpp",
             "Status status = flash_program_word(*flash_, erased_end_, 0);", "Status status = Status::ok;"),
    Mutation("a start confirms nothing", "storage/record_recovery.cpp",
             "if (record_confirm(*flash_, current_) != Status::ok) {", "if (false) {"),
    Mutation("a start revokes nothing", "storage/record_recovery.cpp",
             "if (in_doubt(record, sure)) ", "if (false) "),
    Mutation("a record in doubt is written once more, not confirmed", "storage/record_recovery.cpp",
             "if (record_confirm(*flash_, current_) != Status::ok) {", "if (true) {"),
    Mutation("a torn payload may be the current one", "storage/record_recovery.cpp",
             "if (current_.there() && !record_intact(*flash_, current_)) newest_ours = scan(true);", ""),
    Mutation("the commit word comes without a look at the payload", "storage/record_store.cpp",
             "const bool whole = record_at(*flash_, staging_, record) && record_intact(*flash_, record);",
             "const bool whole = record_at(*flash_, staging_, record);"),
    Mutation("no seal word", "storage/record.cpp",
             "return status == Status::ok ? flash_program_word(flash, record.off + kSealAt, kSealed) : status;",
             "return status;"),
    Mutation("the seal word does not outweigh a torn commit word", "storage/record.cpp",
             "commit == kCommitted || (seal == 0 ? commit != 0 : seal != kErased && whole)", "commit == kCommitted"),
    Mutation("a torn seal word outweighs a torn revocation", "storage/record.cpp",
             "seal != kErased && whole", "seal != kErased && (commit != 0 || whole)"),
    Mutation("revoking begins with the seal word", "storage/record.cpp",
             "Status status = flash_program_word(flash, record.off + kCommitAt, 0);\n  return status == Status::ok ? "
             "flash_program_word(flash, record.off + kSealAt, 0) : status;",
             "Status status = flash_program_word(flash, record.off + kSealAt, 0);\n  return status == Status::ok ? "
             "flash_program_word(flash, record.off + kCommitAt, 0) : status;"),
    Mutation("a candidate displaces the last stable record", "storage/record_store.cpp",
             "if (!current_.stable && fallback_record().stable) return current_.fallback;", ""),
    Mutation("programs are not read back", "storage/flash_map.cpp",
             "return flash_holds(flash, off, data, n) ? Status::ok : Status::flash_failed;", "return Status::ok;"),
    Mutation("a rollback forgets the note", "storage/record_store.cpp",
             "record.note = current_.note;", "record.note = 0;"),
)  # fmt: skip


def built(source: Path) -> bool:
    return build(source, FOLDER / "build", ["-DKILOTUNE_TESTS=ON"], ["kilotune_tests", "kilotune_power"])


def caught_by(commits: int) -> str:
    """The first test that fails, with the failing line; empty: none."""
    environment = {**os.environ, "KILOTUNE_POWER_COMMITS": str(commits)}
    for name, (program, *options) in TESTS.items():
        try:
            done = subprocess.run([FOLDER / "build" / "tests" / program, *options], capture_output=True, text=True,
                                  timeout=3600, env=environment)  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"{name} (does not end)"
        if done.returncode != 0:
            lines = [line for line in done.stdout.splitlines() if "ERROR" in line]
            return f"{name}: {lines[0].partition('ERROR: ')[2] if lines else 'a crash'}"
    return ""


def mutate(source: Path, mutation: Mutation, commits: int) -> str:
    with mutated(source, mutation):
        return caught_by(commits) if built(source) else "no build"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=60, help="length of the life under power cuts")
    parser.add_argument("--only", default="", help="mutations whose description has this in it")
    options = parser.parse_args()
    source = copy_sources(FOLDER)
    found = caught_by(options.commits) if built(source) else "no build"
    if found:
        raise SystemExit(f"the sources fail as they are: {found}")
    missed = 0
    print("| change | caught by |\n|---|---|")
    for mutation in MUTATIONS:
        if options.only in mutation.what:
            begin = time.monotonic()
            found = mutate(source, mutation, options.commits)
            missed += found in ("", "no build")
            print(f"| {mutation.what} | {found or '**nothing**'} | {time.monotonic() - begin:.0f} s", flush=True)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
