"""Converters that cannot live beside this package's own TensorFlow: each in an environment of its own, made once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kilotune.errors import KilotuneError

INSTALL_S = 1800.0
RUN_S = 900.0
END_S = 10.0
COMPLETE = "complete"  # the file that an environment ends with


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment in the user's cache; `requirements` as pip takes them."""

    name: str
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        cache = os.environ.get("XDG_CACHE_HOME")
        base = Path(cache) if cache else Path.home() / ".cache"
        python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        wanted = hashlib.sha256("\n".join(self.requirements).encode()).hexdigest()[:8]
        return base / "kilotune" / "converters" / f"{self.name}-{python}-{wanted}"

    def python(self) -> Path:
        """Its interpreter; makes the environment first, if it may. Raises KilotuneError `no_converter`."""
        if not _complete(self.folder):
            if os.environ.get("KILOTUNE_NO_INSTALL"):
                raise KilotuneError(
                    "no_converter",
                    f"{self.name} is not installed, and KILOTUNE_NO_INSTALL forbids to install it",
                    self._by_hand(),
                )
            self._install()
        return _python(self.folder)

    def _steps(self, folder: Path) -> tuple[list[str], ...]:
        pip = [str(_python(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        return [sys.executable, "-m", "venv", str(folder)], [*pip, *self.requirements]

    def _by_hand(self) -> str:
        """What to type instead."""
        steps = (*self._steps(self.folder), ["touch", str(self.folder / COMPLETE)])
        return " && ".join(shlex.join(step) for step in steps)

    def _install(self) -> None:
        """In a folder of its own, which gets its name once it is complete: others may install at the same time."""
        hint = f"try it by hand: {self._by_hand()}"
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                prefix=f".{self.folder.name}-", dir=self.folder.parent, ignore_cleanup_errors=True
            ) as around:
                made = Path(around) / "new"
                for step in self._steps(made):
                    run(step, INSTALL_S, f"cannot install {self.name} in {self.folder}", hint)
                (made / COMPLETE).touch()
                self._put(made, Path(around) / "old")
        except OSError as error:
            what = f"cannot install {self.name} in {self.folder}: {error.strerror}"
            raise KilotuneError("no_converter", what, hint) from error

    def _put(self, made: Path, aside: Path) -> None:
        """Gives an environment its name; one that another process has completed meanwhile is as good."""
        for last in (False, True):
            try:
                made.rename(self.folder)
                return
            except OSError:
                if _complete(self.folder):
                    return
                if last:
                    raise
            with contextlib.suppress(OSError):  # another process may have done the same
                self.folder.rename(aside)  # what an interrupted installation left behind


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _complete(folder: Path) -> bool:
    return (folder / COMPLETE).exists()


def run(command: list[str], patience_s: float, what: str, hint: str, *, folder: Path | None = None) -> None:
    """Runs a command to its end. Raises KilotuneError `no_converter` with the last line that it printed."""
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise KilotuneError("no_converter", f"{what}: {error.strerror}", hint) from error
    try:
        printed, told = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired as error:
        raise KilotuneError("no_converter", f"{what}: not done after {patience_s:g} s", hint) from error
    finally:
        _end(process)
    if process.returncode != 0:
        said = [line.strip() for line in (told + printed).splitlines() if line.strip()]
        reason = next((line for line in reversed(said) if "rror" in line), said[-1] if said else "no reason given")
        raise KilotuneError("no_converter", f"{what}: {reason[:300]}", hint)


def _end(process: subprocess.Popen[str]) -> None:
    """Ends a command that still runs, with all that it has started."""
    if process.poll() is None:
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)  # the leader is alive, so the group is ours
        process.wait(END_S)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
