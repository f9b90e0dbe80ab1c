"""Does the session's fuzz target have teeth? It must break on each of these changes: python tests/fuzz/mutations.py

Each is made in a copy of the sources. The target then runs on the corpus of build/fuzz, which a run of it without
changes has grown, or from the seeds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from tests.support.mutation import Mutation, build, copy_sources, mutated

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "fuzz-mutations"
FUZZ = ROOT / "build" / "fuzz"
OPTIONS = ("-DKILOTUNE_FUZZ=ON", "-DKILOTUNE_SANITIZE=ON", "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++")

REQUESTS = "../schema/requests.def"
MUTATIONS = (
    Mutation("anyone may roll back", REQUESTS,
             "rollback, none, checkpoint_answer, owner", "rollback, none, checkpoint_answer, anyone"),
    Mutation("readers may commit", REQUESTS,
             "commit, none, checkpoint_answer, owner", "commit, none, checkpoint_answer, reader"),
    Mutation("anyone may change the key", REQUESTS, "key_answer, owner", "key_answer, anyone"),
    Mutation("anyone may replace the model", REQUESTS,
             "model_begin_request, push_answer, owner", "model_begin_request, push_answer, anyone"),
    Mutation("an opening ends what the owner has begun to learn", "link/session.cpp",
             "if (auth_.lock() == Lock::none) succeed_session();", "succeed_session();"),
    Mutation("a repeated request is carried out again", "link/session.cpp",
             "if (!opens && ahead == 0) {", "if (!opens && ahead == 0 && !tagged_) {"),
    Mutation("any tag is right", "link/auth.cpp",
             "same_bytes(right, frame + n, kTagBytes)", "same_bytes(right, frame + n, 0)"),
    Mutation("a transfer outlives a question for the former model", "storage/model_store.cpp",
             "  drop();  // mount resolves what is not sealed\n", ""),
)  # fmt: skip


def built(source: Path) -> bool:
    return build(source, FOLDER / "build", OPTIONS, ["fuzz_session"])


def caught(seconds: int) -> str:
    """What the target required when it broke; empty: it did not."""
    corpus = FOLDER / "corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    shutil.copytree(FUZZ / "corpus" / "session", corpus)
    done = subprocess.run(
        [FOLDER / "build" / "tests" / "fuzz" / "fuzz_session", f"-max_total_time={seconds}", "-max_len=400",
         "-entropic=0", f"-artifact_prefix={FOLDER}/", corpus],
        capture_output=True, text=True, errors="replace", timeout=seconds + 600,
        env=os.environ | {"KILOTUNE_FUZZ_IMAGES": str(FUZZ / "images")},
    )  # fmt: skip
    if done.returncode == 0:
        return ""
    told = re.search(r"not so: (.*)|ERROR: (.*)", done.stderr)
    return (told[1] or told[2]) if told else "a crash"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="for each change")
    parser.add_argument("--only", default="", help="changes whose description has this in it")
    options = parser.parse_args()
    if not (FUZZ / "images").is_dir():
        raise SystemExit("run tests/fuzz/run.py first: its images and corpus are used")
    source = copy_sources(FOLDER)
    found = caught(min(30, options.seconds)) if built(source) else "no build"
    if found:
        raise SystemExit(f"the sources fail as they are: {found}")
    missed = 0
    print("| change | what was not so any more | seconds |\n|---|---|---|")
    for mutation in (m for m in MUTATIONS if options.only in m.what):
        with mutated(source, mutation):
            begin = time.monotonic()
            found = caught(options.seconds) if built(source) else "no build"
        missed += found in ("", "no build")
        print(f"| {mutation.what} | {found or '**nothing**'} | {time.monotonic() - begin:.0f} |", flush=True)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
