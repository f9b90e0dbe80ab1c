"""Changes to the sources that tests must notice: made in a copy, one at a time, and undone."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT


@dataclass(frozen=True, slots=True)
class Mutation:
    what: str
    file: str  # in firmware/runtime
    before: str  # occurs once in the file
    after: str


def copy_sources(folder: Path) -> Path:
    """The C++ sources and tests, in folder/source."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in ("firmware", "tests"):  # with new times: an object may come from a mutation of the same file
        shutil.copytree(ROOT / name, source / name, copy_function=shutil.copy)
    for name in ("CMakeLists.txt", "host/kilotune/version.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    return source


def build(source: Path, folder: Path, options: Sequence[str], targets: Sequence[str]) -> bool:
    """Builds the CMake targets in `folder`, configured with `options` the first time; prints why it cannot."""
    if not (folder / "build.ninja").is_file():
        subprocess.run(["cmake", "-S", source, "-B", folder, "-G", "Ninja", *options], check=True,
                       capture_output=True, timeout=600)  # fmt: skip
    done = subprocess.run(["cmake", "--build", folder, "--target", *targets],
                          capture_output=True, text=True, timeout=1800)  # fmt: skip
    if done.returncode != 0:
        print(done.stdout[-2000:])
    return done.returncode == 0


@contextmanager
def mutated(source: Path, mutation: Mutation) -> Iterator[None]:
    """Raises SystemExit if the text is no longer in the sources."""
    path = source / "firmware" / "runtime" / mutation.file
    text = path.read_text(encoding="utf-8")
    if text.count(mutation.before) != 1:
        raise SystemExit(f"'{mutation.what}' is not in {mutation.file} once: change the list with the code")
    path.write_text(text.replace(mutation.before, mutation.after), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(text, encoding="utf-8")
