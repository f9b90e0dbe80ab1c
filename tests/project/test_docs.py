"""Every Markdown document keeps prose to 120 columns, and its links lead to existing files and headings."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from posixpath import normpath

import pytest

ROOT = Path(__file__).parents[2]
COLUMNS = 120
ELSEWHERE = ("http://", "https://", "mailto:")

FENCE = re.compile(r"^\s*(```|~~~)")
MARKER = re.compile(r"^\s*(?:[-*+>]|#+|\d+\.)?\s*")
CODE = re.compile(r"`[^`]*`")
LINK = re.compile(r"!?\[[^\]]*\]\([^)]*\)")
TARGET = re.compile(r"\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)


@cache
def tracked() -> frozenset[str]:
    """The project's files and folders, relative to its root, as the repository spells them."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return frozenset()
    files = [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]
    return frozenset(str(path) for file in files for path in (file, *file.parents))


def documents() -> list[str]:
    return sorted(path for path in tracked() if path.endswith(".md"))


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Line numbers, from 1, and lines outside code blocks."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            yield number, line


def too_long(text: str) -> list[str]:
    """Lines that could be broken: neither of a table nor one single word, link or piece of code."""
    found = []
    for number, line in prose(text):
        words = CODE.sub("c", LINK.sub("l", MARKER.sub("", line, count=1))).split()
        if len(line) > COLUMNS and not line.lstrip().startswith("|") and len(words) > 1:
            found.append(f"line {number} has {len(line)} characters: {line.strip()[:60]}...")
    return found


def anchors(text: str) -> set[str]:
    """Names of the headings, as GitHub makes them: lower case, hyphens, a number after repeated ones."""
    found: set[str] = set()
    for _, line in prose(text):
        if heading := re.match(r"#{1,6}\s+(.*?)\s*#*$", line):
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            count = 1
            unique = name
            while unique in found:
                unique, count = f"{name}-{count}", count + 1
            found.add(unique)
    return found


def targets(text: str) -> Iterator[str]:
    """What the document links to, without code."""
    for match in TARGET.finditer(CODE.sub("", "\n".join(line for _, line in prose(text)))):
        yield match[1] or match[2]


def broken(document: str, text: str) -> list[str]:
    """Links of `document`, a path in the project, to files or headings that do not exist."""
    found = []
    for target in targets(text):
        if target.startswith(ELSEWHERE):
            continue
        path, _, anchor = target.partition("#")
        file = normpath(f"{Path(document).parent}/{path}") if path else document
        if file != document and file not in tracked():
            found.append(f"{target}: there is no {file}")
        elif anchor and file.endswith(".md"):
            there = text if file == document else (ROOT / file).read_text(encoding="utf-8")
            if anchor not in anchors(there):
                found.append(f"{target}: {file} has no such heading")
    return found


@pytest.mark.skipif(not documents(), reason="not a git repository")
@pytest.mark.parametrize("document", documents())
def test_prose_keeps_to_the_width(document: str) -> None:
    assert too_long((ROOT / document).read_text(encoding="utf-8")) == []


@pytest.mark.skipif(not documents(), reason="not a git repository")
@pytest.mark.parametrize("document", documents())
def test_links_lead_somewhere(document: str) -> None:
    assert broken(document, (ROOT / document).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("line", ["word " * 25, "- " + "word " * 25, "see [this](there.md) " + "and `that` " * 10])
def test_a_line_that_could_be_broken_is_found(line: str) -> None:
    assert len(too_long(f"short\n\n{line}\n")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "| a cell | " + "word " * 30 + "|",
        "```sh\n" + "word " * 30 + "\n```",
        "- [a link of many words](" + "x" * 120 + ")",
        "`" + "word " * 30 + "`",
        "word " * 24,
    ],
)
def test_tables_code_and_links_may_be_longer(text: str) -> None:
    assert too_long(text) == []


@pytest.mark.parametrize(
    ("link", "works"),
    [
        ("[x](README.md)", True),
        ("[x](docs/DESIGN.md#the-problem)", True),
        ("[x](docs)", True),
        ("[x](#here-and-there)", True),
        ("[x](#twice-1)", True),
        ("[x](https://example.org/nothing)", True),
        ("`[x](nothing.md)`", True),
        ("[x](nothing.md)", False),
        ("[two\nlines](nothing.md)", False),
        ("![x](nothing.svg)", False),
        ("[x]: nothing.md", False),
        ("[x](readme.md)", False),
        ("[x](../README.md)", False),
        ("[x](docs/DESIGN.md#nothing)", False),
        ("[x](#nothing)", False),
        ("[x](#twice-2)", False),
    ],
)
@pytest.mark.skipif(not documents(), reason="not a git repository")
def test_a_link_to_nothing_is_found(link: str, works: bool) -> None:
    text = f"# `Here`, and there\n\n## Twice\n\n## Twice\n\n{link}\n"
    assert (broken("TEXT.md", text) == []) == works
