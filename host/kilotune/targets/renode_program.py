"""Renode as it is installed: where it is, whether it can be started, and which version it is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kilotune.errors import KilotuneError

RIGHT = "1.16.1"  # 1.16.0 maps flash elsewhere: every board starts, and finds no model
_BANNER = re.compile(r"Renode,? v(?:ersion )?(\d+(?:\.\d+)+)")
_VERSION_S = 60.0  # it may have to unpack itself first
_INSTALL = f"install Renode {RIGHT} from https://renode.io, put `renode` on PATH or its file in $RENODE"


@dataclass(frozen=True, slots=True)
class Program:
    """What was found. Where `problem` is not empty, it cannot be started."""

    path: str
    problem: str = ""
    hint: str = _INSTALL


def find() -> Program:
    """$RENODE where it is set, else `renode` on PATH; looks, and starts nothing."""
    named = os.environ.get("RENODE")
    if not named:
        found = shutil.which("renode")
        return Program(found) if found else Program("", "Renode is not installed")
    hint = f"let $RENODE name the file `renode` of Renode {RIGHT}, or unset it"
    path = Path(named)
    if path.is_dir():
        return Program(named, f"$RENODE is a folder: {named}", hint)
    if not path.is_file():
        return Program(named, f"$RENODE names no file: {named}", hint)
    if not os.access(path, os.X_OK):
        return Program(named, f"$RENODE cannot be executed: {named}", f"chmod +x {named}, or {hint}")
    return Program(named)


def require() -> str:
    """The program; KilotuneError `missing_tool` where there is none that can be started."""
    found = find()
    if found.problem:
        raise KilotuneError("missing_tool", f"{found.problem}; targets renode:BOARD need it", found.hint)
    return found.path


def version_in(text: str) -> str:
    """What Renode says first, "" where it has not said it."""
    told = _BANNER.search(text)
    return ".".join(told[1].split(".")[:3]) if told is not None else ""


def version(path: str) -> str:
    """Asks the program; "" where it does not say."""
    try:
        done = subprocess.run(
            [path, "--version"],
            capture_output=True,
            text=True,
            timeout=_VERSION_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return version_in(done.stdout + done.stderr)


def require_right(found: str) -> None:
    """KilotuneError `wrong_version` for one that does not run the boards; "" is one that has not said what it is."""
    if found and found != RIGHT:
        raise KilotuneError(
            "wrong_version",
            f"this is Renode {found}; the boards run in {RIGHT} alone (in 1.16.0 they start and find no model)",
            _INSTALL,
        )
