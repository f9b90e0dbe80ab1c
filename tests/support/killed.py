"""A process that ends amid its work on the disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


class Killed(BaseException):
    """The process ends here: nothing after this runs, not even cleanup."""


def cut_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Ends the process before its step number `steps` on the disk: a rename or a removal."""
    done = 0
    rename, unlink = Path.replace, Path.unlink

    def count() -> None:
        nonlocal done
        if done >= steps:
            raise Killed
        done += 1

    def counted_replace(self: Path, target: Path) -> Path:
        count()
        return rename(self, target)

    def counted_unlink(self: Path, missing_ok: bool = False) -> None:
        if done >= steps:
            return  # a process that is dead removes no temporary file
        count()
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "replace", counted_replace)
    monkeypatch.setattr(Path, "unlink", counted_unlink)
    return lambda: done
