"""Converters that cannot live beside this package's own TensorFlow: each in an environment of its own, made once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from kilotune.errors import KilotuneError

INSTALL_S = 1800.0
RUN_S = 900.0


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment in the user's cache; `requirements` as pip takes them."""

    name: str
    requirements: tuple[str, ...]

    @property
    def folder(self) -> Path:
        cache = os.environ.get("XDG_CACHE_HOME")
        base = Path(cache) if cache else Path.home() / ".cache"
        return base / "kilotune" / "converters" / f"{self.name}-python{sys.version_info[0]}.{sys.version_info[1]}"

    def python(self) -> Path:
        """Its interpreter; makes the environment first, if it may. Raises KilotuneError `no_converter`."""
        python = self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        complete = self.folder / "complete"
        if complete.exists():
            return python
        by_hand = f"python -m venv {self.folder} && {python} -m pip install {' '.join(self.requirements)}"
        if os.environ.get("KILOTUNE_NO_INSTALL"):
            raise KilotuneError(
                "no_converter",
                f"{self.name} is not installed, and KILOTUNE_NO_INSTALL forbids to install it",
                f"{by_hand} && touch {complete}",
            )
        shutil.rmtree(self.folder, ignore_errors=True)
        steps = (
            [sys.executable, "-m", "venv", str(self.folder)],
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *self.requirements],
        )
        for step in steps:
            run(step, INSTALL_S, f"cannot install {self.name} in {self.folder}", f"try it by hand: {by_hand}")
        complete.touch()
        return python


def run(command: list[str], patience_s: float, what: str, hint: str, *, folder: Path | None = None) -> None:
    """Runs a command to its end. Raises KilotuneError `no_converter` with the last line that it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise KilotuneError("no_converter", f"{what}: not done after {patience_s:g} s", hint) from error
    except OSError as error:
        raise KilotuneError("no_converter", f"{what}: {error.strerror}", hint) from error
    if done.returncode != 0:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in reversed(said) if "rror" in line), said[-1] if said else "no reason given")
        raise KilotuneError("no_converter", f"{what}: {reason[:300]}", hint)
