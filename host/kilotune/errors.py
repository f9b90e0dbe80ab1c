"""The only error type of the host tools."""

from __future__ import annotations

from kilotune.error_codes import CODES, EXIT_FAILED, EXIT_MISMATCH, EXIT_NO_DEVICE, EXIT_OK, EXIT_REFUSED, EXIT_USAGE
from kilotune.printable import printable

__all__ = [
    "EXIT_FAILED",
    "EXIT_MISMATCH",
    "EXIT_NO_DEVICE",
    "EXIT_OK",
    "EXIT_REFUSED",
    "EXIT_USAGE",
    "KilotuneError",
    "exit_code",
]


class KilotuneError(Exception):
    """What happened (`message`), what to do about it (`hint`), and a stable `code` for programs.

    Codes are those of `kilotune.error_codes` and the device's statuses: docs/ERRORS.md.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def exit_code(self) -> int:
        return exit_code(self.code)

    def __str__(self) -> str:
        """For a terminal too, where an uncaught error ends: what devices and files say cannot steer it."""
        return printable(f"{self.message} ({self.hint})" if self.hint else self.message)

    def __reduce__(self) -> tuple[type[KilotuneError], tuple[str, str, str]]:
        return (type(self), (self.code, self.message, self.hint))


def exit_code(code: str) -> int:
    """Exit code of a command that failed with error `code`."""
    return CODES[code].exit_code if code in CODES else EXIT_FAILED
