"""The one error type of the host tools, and the exit code that each kind of error ends a command with."""

from __future__ import annotations

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DEVICE = 3
EXIT_REFUSED = 4
EXIT_MISMATCH = 5

# Codes that are not listed end a command with EXIT_FAILED.
_EXIT_CODES = {
    "usage": EXIT_USAGE,
    "bad_argument": EXIT_USAGE,
    "no_device": EXIT_NO_DEVICE,
    "ambiguous_device": EXIT_NO_DEVICE,
    "port_busy": EXIT_NO_DEVICE,
    "port_denied": EXIT_NO_DEVICE,
    "busy_target": EXIT_NO_DEVICE,
    "unknown_board": EXIT_USAGE,
    "no_emulator": EXIT_USAGE,
    "unknown_sensor": EXIT_USAGE,
    "no_sensor_bus": EXIT_USAGE,
    # What the device would refuse is refused before it is sent, too.
    "wrong_rate": EXIT_REFUSED,
    "wrong_axes": EXIT_REFUSED,
    "no_features": EXIT_REFUSED,
    "locked": EXIT_REFUSED,
    "wrong_key": EXIT_REFUSED,
    "slowed": EXIT_REFUSED,
    "no_key": EXIT_REFUSED,
    "mismatch": EXIT_MISMATCH,
    "bad_tag": EXIT_MISMATCH,
    "not_verified": EXIT_MISMATCH,
    "wrong_base": EXIT_MISMATCH,
    "other_image": EXIT_MISMATCH,
}


class KilotuneError(Exception):
    """What happened (`message`), what to do about it (`hint`), and a stable `code` for programs."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    @property
    def exit_code(self) -> int:
        return exit_code(self.code)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[type[KilotuneError], tuple[str, str, str]]:
        return (type(self), (self.code, self.message, self.hint))


def exit_code(code: str) -> int:
    """Exit code of a command that failed with error `code`."""
    return _EXIT_CODES.get(code, EXIT_FAILED)
