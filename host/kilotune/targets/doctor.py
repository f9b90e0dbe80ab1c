"""What kilotune needs on this computer: what is there, what is missing, and the commands that install it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kilotune.targets import renode_program

ARM_PACKAGES = "apt-get install gcc-arm-none-eabi libstdc++-arm-none-eabi-newlib"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    found: str  # version or path; "" if missing
    needed_for: str
    required: bool  # without it kilotune does not work at all
    install: str  # command that installs it; "" if there is nothing to do


def examine() -> list[Check]:
    """Checks interpreter, packages, compilers, emulators and permissions; changes nothing."""
    return [
        _python(),
        _venv(),
        _native(),
        _tool("cmake", "building firmware", "pip install kilotune[firmware], or apt-get install cmake"),
        _tool("ninja", "building firmware", "pip install kilotune[firmware], or apt-get install ninja-build"),
        _tool("g++", "building the twin and the native target", "apt-get install g++"),
        _tool("arm-none-eabi-g++", "building firmware for boards", ARM_PACKAGES),
        _tool("qemu-system-arm", "targets qemu:BOARD and the demo", "apt-get install qemu-system-arm"),
        _renode(),
        _package(
            "tflite-runtime",
            "tflite_runtime",
            "checking a merged model",
            "pip install 'tflite-runtime==2.14.0' 'numpy<2'",
        ),
        _package("tensorflow", "tensorflow", "kilotune quantize", "pip install 'kilotune[tensorflow]'"),
        _package("scikit-learn", "sklearn", "a baseline of kilotune evaluate", "pip install scikit-learn"),
        _serial_rights(),
    ]


def _python() -> Check:
    ok = sys.version_info >= (3, 10)
    return Check(
        "Python",
        ok,
        sys.version.split()[0],
        "everything",
        True,
        "" if ok else _apt("apt-get install python3.11"),
    )


def _venv() -> Check:
    inside = sys.prefix != sys.base_prefix
    return Check(
        "virtual environment",
        inside,
        sys.prefix if inside else "",
        "keeping packages apart",
        False,
        "" if inside else "python3 -m venv .venv && .venv/bin/pip install .",
    )


def _native() -> Check:
    spec = importlib.util.find_spec("kilotune._native")
    found = spec.origin if spec is not None and spec.origin else ""
    return Check(
        "twin (kilotune._native)",
        bool(found),
        found,
        "target twin, evaluate",
        True,
        "" if found else "pip install .",
    )


def _tool(name: str, purpose: str, install: str) -> Check:
    path = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    found = _first_line([path, "--version"]) if path else ""
    return Check(name, path is not None, found or (path or ""), purpose, False, "" if path else _apt(install))


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _renode() -> Check:
    """By the commands' own judgement."""
    purpose = "targets renode:BOARD"
    found = renode_program.find()
    if found.problem:
        return Check("renode", False, "", purpose, False, f"{found.problem}: {found.hint}")
    version = renode_program.version(found.path)
    if version and version != renode_program.RIGHT:
        install = f"{found.path} is Renode {version}: install {renode_program.RIGHT} (renode.io)"
        return Check("renode", False, "", purpose, False, install)
    shown = f"{version} ({found.path})" if version else f"{found.path}, which does not say its version"
    return Check("renode", True, shown, purpose, False, "")


def _package(name: str, module: str, purpose: str, install: str) -> Check:
    # find_spec does not import the package: importing tensorflow takes seconds.
    ok = importlib.util.find_spec(module) is not None
    try:
        found = version(name) if ok else ""
    except PackageNotFoundError:
        found = "present"
    if name == "tflite-runtime" and not ok and sys.version_info >= (3, 12):
        install = "use Python 3.11: tflite-runtime 2.14 has no wheel for this one"
    return Check(name, ok, found, purpose, False, "" if ok else install)


def _serial_rights() -> Check:
    """Whether this user may open serial ports: root, or a member of the group that owns them."""
    name = "serial port rights"
    geteuid: Callable[[], int] | None = getattr(os, "geteuid", None)
    if geteuid is None:
        return Check(name, True, "no groups on this system", "--port", False, "")
    if geteuid() == 0:
        return Check(name, True, "root", "--port", False, "")
    import grp

    mine = set(os.getgroups())
    for group in ("dialout", "uucp"):
        try:
            entry = grp.getgrnam(group)
        except KeyError:
            continue
        if entry.gr_gid in mine:
            return Check(name, True, f"member of {group}", "--port", False, "")
        return Check(name, False, "", "--port", False, f"sudo usermod -aG {group} $USER, then log in again")
    return Check(name, True, "no dialout group on this system", "--port", False, "")


def _apt(command: str) -> str:
    geteuid: Callable[[], int] | None = getattr(os, "geteuid", None)
    return command if geteuid is not None and geteuid() == 0 else f"sudo {command}"
