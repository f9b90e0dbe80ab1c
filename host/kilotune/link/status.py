"""Status codes of the device, from the list that the firmware uses too."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kilotune.errors import EXIT_REFUSED, KilotuneError

_LINE = re.compile(r'^KILOTUNE_STATUS\((\w+), (\d+), "((?:[^"\\]|\\.)*)", "((?:[^"\\]|\\.)*)"\)$')


@dataclass(frozen=True, slots=True)
class Status:
    name: str
    code: int
    text: str
    hint: str


class RefusedError(KilotuneError):
    """The device refused a request. `status` and `detail` are its numbers; `text` says more than the status."""

    def __init__(self, status: int, detail: int, doing: str, text: str = "", hint: str = "") -> None:
        known = statuses().get(status)
        if known is None:
            known = Status("unknown_status", status, f"it gave status {status}, which is unknown here",
                           "use firmware and tools of the same release")  # fmt: skip
        super().__init__(known.name, f"the device refused to {doing}: {text or known.text}", hint or known.hint)
        self.status = status
        self.detail = detail
        self.doing = doing

    @property
    def exit_code(self) -> int:
        return EXIT_REFUSED

    def with_hint(self, hint: str) -> RefusedError:
        """The same, with other advice."""
        make, (status, detail, doing, text, _) = self.__reduce__()
        return make(status, detail, doing, text, hint)

    def __reduce__(self) -> tuple[type[RefusedError], tuple[int, int, str, str, str]]:  # type: ignore[override]
        text = self.message.removeprefix(f"the device refused to {self.doing}: ")
        return (type(self), (self.status, self.detail, self.doing, text, self.hint))


def no_model(status: int) -> RefusedError:
    """The error for a device without a usable model; its own reason stays the code."""
    known = statuses().get(status)
    why = f" ({known.text})" if known is not None else ""
    return RefusedError(
        status, 0, "use its model", f"no valid model image on the device{why}",
        "write one with `kilotune flash` or `kilotune flash-model model.ktm`; without hardware, give --image model.ktm",
    )  # fmt: skip


@cache
def statuses() -> dict[int, Status]:
    """Statuses by code. Their file is in the installed package, or next to the kernel in a source tree."""
    installed = Path(__file__).with_name("status.def")
    source = Path(__file__).parents[3] / "firmware" / "kernel" / "status.def"
    file = installed if installed.exists() else source
    matches = (_LINE.match(line) for line in file.read_text(encoding="utf-8").splitlines())
    return {int(m[2]): Status(m[1], int(m[2]), m[3], m[4]) for m in matches if m}


def local_error(name: str, message: str = "") -> KilotuneError:
    """A refusal that is known before the device is asked, with the same text."""
    known = next(s for s in statuses().values() if s.name == name)
    return KilotuneError(known.name, message or known.text, known.hint)
