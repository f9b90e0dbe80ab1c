"""Damages recordings of every format and reads them: a recording or a `KilotuneError`, within memory and time.

    python tests/fuzz/recordings.py [--count 20000] [--format NAME] [--seed 1] [--keep DIR]

Each format's example (tests/support/recording_examples.py) is damaged `count` times. A child process reads, which may
grow by 256 MB and take 10 s for each; it is started anew when it dies. Exit code 1: something else than a recording or
an error with a code came of one; --keep stores what did it.

The process that reads a .mat file is a fork of the child here, which has SciPy loaded: starting it 20,000 times would
take hours.
"""

from __future__ import annotations

import argparse
import gzip
import io
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from tests.support.recording_examples import EXAMPLES, Example

MEMORY_BYTES, SECONDS = 256 << 20, 10
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
_TEXTS = (b"nan", b"inf", b",", b";", b"\t", b"\n", b"\r\n", b"\x00", b"-", b"1e999", b'"', b"\xff\xfe", b"9" * 400)
_ZIPPED = (".npz", ".xlsx")


@dataclass(frozen=True, slots=True)
class Fault:
    """What came of one damaged file that should not have."""

    what: str
    seed: int
    told: str


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A few damages of the kinds that transfers, programs and attackers make."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        # Headers decide most: half of all damages lie in the first bytes.
        at = rng.randrange(min(len(out), 512) if rng.random() < 0.5 else len(out)) if out else 0
        kind = rng.randrange(8)
        if kind == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at] = rng.randrange(256)
        elif kind == 2:
            del out[at : len(out) if rng.random() < 0.5 else at + rng.randrange(1, 64)]
        elif kind == 3:
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice(_INTERESTING) & ((1 << 8 * size) - 1)
            out[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
        elif kind == 4:
            out[at:at] = rng.choice(_TEXTS)
        elif kind == 5:
            part = out[at : at + rng.randrange(1, 200)]
            out[at:at] = part * rng.choice((1, 1, 2, 50))
        elif kind == 6:
            out[at : at + rng.randrange(1, 64)] = bytes(rng.randrange(1, 64))
        else:
            other = rng.randrange(len(out)) if out else 0
            out[at : at + 32] = out[other : other + 32]
    return bytes(out)


def damaged_file(name: str, content: bytes, rng: random.Random) -> bytes:
    """Of packed files, every other time the damage is inside, and packed again."""
    if rng.random() < 0.5:
        return damaged(content, rng)
    if name.endswith(".gz"):
        return gzip.compress(damaged(gzip.decompress(content), rng), 1)
    if not name.endswith(_ZIPPED):
        return damaged(content, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = rng.choice(names)
        for member in names:
            inner = old.read(member)
            new.writestr(member, damaged(inner, rng) if member == chosen else inner)
    return out.getvalue()


def write_damaged(example: Example, whole: Path, folder: Path, seed: int) -> Path:
    """The example, written whole at `whole`, damaged by `seed`."""
    rng = random.Random(f"{example.what} {seed}")
    path = folder / example.name
    if whole.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(whole, path)
        victim = rng.choice(sorted(path.iterdir()))
    else:
        victim = path
        victim.write_bytes(whole.read_bytes())
    victim.write_bytes(damaged_file(victim.name, victim.read_bytes(), rng))
    return path


class _TooLong(BaseException):
    """Not an `Exception`: no reader takes it for a library's."""


def _ring(number: int, frame: FrameType | None) -> None:
    raise _TooLong


def _grown() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _forked(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
    """Instead of `subprocess.run` in the reader of .mat files: the same program in a fork."""
    from kilotune.recordings.formats import matlab_child

    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(SECONDS)  # a fork has no alarm
            sys.argv = command[2:]
            matlab_child.main()
            code = 0
        except BaseException:  # as `python -m` would end it
            code = 1
        finally:
            os._exit(code)
    try:
        ended = os.waitpid(child, 0)[1]
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(ended), b"", b"damaged")


def _work(index: int, whole: str, first: int, end: int, pipe: Any) -> None:
    """In the child: reads the damaged files `first` to `end`, and tells each fault and how far it came."""
    from kilotune.errors import KilotuneError
    from kilotune.recordings import read
    from kilotune.recordings.formats import matlab

    example = EXAMPLES[index]
    if example.name.endswith(".mat"):
        import scipy.io  # noqa: F401  # for all forks

        matlab.subprocess.run = _forked  # type: ignore[attr-defined]
    read(whole, example.options)  # what the libraries need is loaded
    limit = _grown() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    read(whole, example.options)  # within the limit too, or every damaged file would be refused for that
    signal.signal(signal.SIGALRM, _ring)
    with tempfile.TemporaryDirectory(prefix="kilotune-fuzz-") as folder:
        for seed in range(first, end):
            path = write_damaged(example, Path(whole), Path(folder), seed)
            options = example.options if seed % 3 else replace(example.options, seconds=0.05)
            pipe.send(("at", seed, ""))
            signal.alarm(SECONDS)
            try:
                read(path, options)
            except KilotuneError as error:
                if error.code in ("no_memory", "internal") or len(error.message) > 2000:
                    pipe.send(("fault", seed, f"{error.code}: {error.message[:200]}"))
            except _TooLong:
                pipe.send(("fault", seed, f"took longer than {SECONDS} s"))
            except BaseException as error:
                pipe.send(("fault", seed, f"{type(error).__name__}: {str(error)[:200]}"))
            finally:
                signal.alarm(0)
    pipe.send(("end", end, ""))


def faults(index: int, count: int, *, seed: int = 0) -> Iterator[Fault]:
    """Of one format, by its place in EXAMPLES."""
    example = EXAMPLES[index]
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="kilotune-fuzz-") as folder:
        whole = Path(folder) / example.name
        example.write(whole)
        at = seed
        while at < seed + count:
            ours, theirs = context.Pipe(duplex=False)
            child = context.Process(target=_work, args=(index, str(whole), at, seed + count, theirs))
            child.start()
            theirs.close()
            last = at
            try:
                while True:
                    if not ours.poll(SECONDS * 6):
                        yield Fault(example.what, last, "the reader hangs")
                        break
                    kind, last, told = ours.recv()
                    if kind == "fault":
                        yield Fault(example.what, last, told)
                    elif kind == "end":
                        return
            except EOFError:
                yield Fault(example.what, last, "the reader's process died")
            finally:
                child.kill()
                child.join(10)
            at = last + 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--format", help="one example's name, as in the table of docs/RECORDINGS.md")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    found = 0
    for index, example in enumerate(EXAMPLES):
        if asked.format not in (None, example.what):
            continue
        if example.package and find_spec(example.package) is None:
            print(f"{example.what}: {example.package} is not installed")
            continue
        several = list(faults(index, asked.count, seed=asked.seed))
        print(f"{example.what}: {asked.count:,} damaged files, {len(several)} faults", flush=True)
        for fault in several[:20]:
            print(f"  seed {fault.seed}: {fault.told}")
            if asked.keep is not None:
                asked.keep.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory() as folder:
                    whole = Path(folder) / ("whole-" + example.name)
                    example.write(whole)
                    made = write_damaged(example, whole, Path(folder), fault.seed)
                    made.rename(asked.keep / f"{fault.seed}-{made.name}")
        found += len(several)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
