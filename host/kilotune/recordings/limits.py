"""How much of a file is read: bounds that hold before anything is unpacked or allocated."""

from __future__ import annotations

from kilotune.errors import KilotuneError

MAX_VALUES = 200_000_000  # numbers of one file that are held at once
MAX_UNPACKED_BYTES = 2_000_000_000  # of an archive or a compressed part
MAX_RATIO = 1_100  # unpacked to packed; deflate cannot give more than 1,032
SMALL_BYTES = 64_000_000  # so much may always be unpacked, whatever the ratio
SUSPICIOUS_RATIO = 200  # above it, more than SMALL_BYTES is no recording: measured noise does not shrink so far
MAX_LINE = 200_000  # characters of one line of text
MAX_COLUMNS = 4_096


def require_modest(n_values: int, name: str) -> None:
    if n_values > MAX_VALUES:
        raise KilotuneError(
            "too_large",
            f"{name} holds {n_values:,} numbers; at most {MAX_VALUES:,} are read at once",
            "choose fewer columns with --columns, or split the file",
        )


def require_unpackable(packed: int, unpacked: int, name: str) -> None:
    """Refuses what would be far larger than its file, before it is unpacked."""
    bomb = unpacked > SMALL_BYTES and unpacked > SUSPICIOUS_RATIO * max(packed, 1)
    if unpacked > MAX_UNPACKED_BYTES or bomb:
        raise KilotuneError(
            "too_large",
            f"{name}: {packed:,} bytes would become {unpacked:,}, which is too much for a recording",
            "if you trust it, unpack it yourself and give the parts",
        )


def unreadable(
    name: str, error: BaseException, hint: str = "it is damaged, cut off, or of another format"
) -> KilotuneError:
    """A library's complaint as `bad_file`, in one short line."""
    if isinstance(error, MemoryError):
        return KilotuneError("no_memory", f"{name} takes more memory than there is", "read a part, or split the file")
    words = str(error).strip().splitlines()
    what = words[0][:160] if words else type(error).__name__
    return KilotuneError("bad_file", f"{name} could not be read: {what}", hint)
