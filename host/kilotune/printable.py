"""Makes text from devices and files safe for a terminal: control characters are shown, not executed."""

from __future__ import annotations

import unicodedata

_STEERING = frozenset(("Cc", "Cf", "Zl", "Zp"))  # controls, bidirectional marks, line and paragraph separators


def printable(text: str, *, keep: str = "") -> str:
    r"""`text` with each character escaped that could move a cursor, forge a line or change the reading direction.

    `\x1b` for ESC, `\u202e` for a right-to-left override, `\n` for a new line; characters of `keep` stay. Bytes of a
    file's name that are no text (lone surrogates) stay as they are, but for those that old terminals obey (C1).
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not _steers(c) else _escaped(c) for c in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in _STEERING or "\udc80" <= character <= "\udc9f"


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udc9f":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
