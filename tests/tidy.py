"""clang-tidy over files of a compile database; a verdict of "clean" is kept until something that it depends on changes.

    python tests/tidy.py BUILD_FOLDER [FILE ...]

A verdict depends on the file and every header that it includes, also the system's, on the compile command, on
.clang-tidy and on clang-tidy's version. Findings are never kept: a file with findings is checked again in each run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_LONGEST_S = 900.0


@dataclass(frozen=True, slots=True)
class Unit:
    """One file of the compile database."""

    path: Path
    folder: Path  # where its command is run
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    path: Path
    kept: bool  # clean in a run before this, and nothing has changed
    findings: str  # empty: clean


def units(database: Path, files: Iterable[Path]) -> list[Unit]:
    """The files with their commands, largest first; a file that no build compiles gets its nearest neighbour's."""
    entries = json.loads((database / "compile_commands.json").read_text(encoding="utf-8"))
    compiled = {
        Path(entry["file"]): Unit(Path(entry["file"]), Path(entry["directory"]), tuple(shlex.split(entry["command"])))
        for entry in entries
    }
    found = []
    for path in sorted({Path(file).absolute() for file in files}):
        nearest = max(sorted(compiled), key=lambda other: len(os.path.commonpath([path, other])))
        unit = compiled.get(path, compiled[nearest])
        command = (str(path) if word == str(unit.path) else word for word in unit.command)
        found.append(Unit(path, unit.folder, tuple(command)))
    return sorted(found, key=lambda unit: -unit.path.stat().st_size)


def included(unit: Unit) -> list[Path]:
    """The file and all that it includes, as clang sees them."""
    # A launcher (ccache) and the name of the output do not matter to the preprocessor.
    words, skip = [], False
    for word in unit.command[next(i for i, w in enumerate(unit.command) if w.startswith("-")) :]:
        if not skip and word not in ("-c", "-MD"):
            skip = word in ("-o", "-MF", "-MT")
            if not skip:
                words.append(word)
            continue
        skip = False
    done = subprocess.run(
        ["clang++", "-w", *words, "-M", "-MT", "it"],
        cwd=unit.folder, capture_output=True, text=True, timeout=_LONGEST_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"clang-tidy: the headers of {unit.path} cannot be found:\n{done.stderr}")
    names = shlex.split(done.stdout.replace("\\\n", " "))[1:]
    return sorted({(unit.folder / name).resolve() for name in names})


def key(unit: Unit, version: str) -> str:
    """A key that is equal only if clang-tidy would say the same again."""
    seen = hashlib.sha256(f"{version}\0{unit.folder}\0{unit.command}".encode())
    settings = [folder / ".clang-tidy" for folder in unit.path.resolve().parents]
    for path in [*included(unit), *(path for path in settings if path.is_file())]:
        seen.update(f"\0{path}\0".encode())
        seen.update(hashlib.sha256(path.read_bytes()).digest())
    return seen.hexdigest()


def look(unit: Unit, cache: Path, version: str) -> Verdict:
    kept = cache / key(unit, version)
    if kept.is_file():
        return Verdict(unit.path, kept=True, findings="")
    done = subprocess.run(
        ["clang-tidy", "--quiet", "--warnings-as-errors=*", "-p", cache, unit.path],
        capture_output=True, text=True, timeout=_LONGEST_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        ended = f"{unit.path}: clang-tidy ended with {done.returncode}\n"
        return Verdict(unit.path, kept=False, findings=done.stdout + done.stderr + ended)
    kept.write_text(f"{unit.path}\n", encoding="utf-8")
    return Verdict(unit.path, kept=False, findings="")


def tidy(database: Path, files: Iterable[Path], cache: Path, jobs: int) -> str:
    """One line on what clang-tidy did. Raises SystemExit with all findings if there are any."""
    cache.mkdir(parents=True, exist_ok=True)
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
    wanted = units(database, files)
    commands = [{"directory": str(u.folder), "file": str(u.path), "arguments": u.command} for u in wanted]
    (cache / "compile_commands.json").write_text(json.dumps(commands), encoding="utf-8")
    with ThreadPoolExecutor(jobs) as pool:
        verdicts = list(pool.map(lambda unit: look(unit, cache, version), wanted))
    bad = [verdict for verdict in verdicts if verdict.findings]
    if bad:
        raise SystemExit("\n".join([*(v.findings for v in bad), f"failed: clang-tidy, {len(bad)} files"]))
    kept = sum(verdict.kept for verdict in verdicts)
    return (
        f"clang-tidy: {len(verdicts) - kept} files looked at, {kept} skipped: "
        "clean before, and neither they, their headers, their command nor clang-tidy changed"
    )


def main() -> None:
    for tool in ("clang-tidy", "clang++"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed (Debian: {'clang' if tool == 'clang++' else tool})")
    database, *files = map(Path, sys.argv[1:])
    print(tidy(database, files, database.parent / "tidy", os.cpu_count() or 1), flush=True)


if __name__ == "__main__":
    main()
