"""What a user named, as files: a file, a folder, or a pattern such as `many/*.csv`, quoted or not."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from kilotune.errors import KilotuneError
from kilotune.recordings.synthetic import PREFIX

# Beside the recordings in a folder, and none of them.
_ASIDE = frozenset(
    (
        ".md", ".pdf", ".png", ".jpg", ".jpeg", ".svg", ".html", ".htm", ".py", ".m", ".ipynb", ".docx", ".yaml",
        ".yml", ".toml", ".ini", ".cfg", ".sh", ".bat", ".exe", ".ktm", ".tflite", ".zip", ".7z", ".rar", ".tar",
        ".rst", ".xml",
    )
)  # fmt: skip
_PATTERN = re.compile(r"[*?\[]")
_MOST_FILES = 100_000


def expand(sources: Iterable[str | Path]) -> list[str]:
    """Files of all sources, in order; those of a folder or pattern by name, numbers in them by their size."""
    out: list[str] = []
    for source in sources:
        out += _files_of(str(source))
    return out


def _files_of(source: str) -> list[str]:
    from kilotune.recordings.formats.hsdatalog import is_hsdatalog

    if source.startswith(PREFIX):
        return [source]
    path = Path(source)
    if path.is_dir():
        if is_hsdatalog(path):
            return [source]
        found = [p for p in path.iterdir() if _may_be_recording(p)]
        if not found:
            raise KilotuneError(
                "no_file", f"{source} is a folder without recordings", "name its files, or another folder"
            )
        return [str(p) for p in sorted(found, key=_natural)]
    if not path.exists() and _PATTERN.search(source):
        import glob

        matching = [Path(p) for p in glob.glob(source)][:_MOST_FILES]  # noqa: PTH207
        if not matching:
            raise KilotuneError("no_file", f"no file is called {source}", "check the pattern and the folder")
        return [str(p) for p in sorted(matching, key=_natural)]
    return [source]


def _may_be_recording(path: Path) -> bool:
    return (
        path.is_file()
        and not path.name.startswith((".", "~"))
        and path.suffix.lower() not in _ASIDE
        and path.stem.lower() not in ("readme", "license", "licence", "source", "metadata")
    )


def _natural(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts if p], str(path)
