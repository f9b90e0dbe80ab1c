"""Time stamps in words, such as `2024-05-01T12:00:00.000625Z` or `12:00:00,123`, as seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CLOCK = r"(?P<h>\d{1,2}):(?P<m>\d{2})(?::(?P<s>\d{2})(?:[.,:](?P<f>\d{1,9})\d*)?)?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
_ZONE = r"\s*(?:Z|UTC|GMT|[+-]\d{2}:?\d{2})?"
_ISO = re.compile(rf"^\s*(?P<date>\d{{4}}-\d{{2}}-\d{{2}})[T\s_]+{_CLOCK}{_ZONE}\s*$")
# In dates of other orders, day and month may be mistaken for each other: only the time of the day is used.
_OTHER = re.compile(rf"^\s*(?:\d{{1,4}}[./-]\d{{1,2}}[./-]\d{{1,4}}[T\s,_]+)?{_CLOCK}{_ZONE}\s*$")
_DAY_S = 86_400.0


def is_stamp(text: str) -> bool:
    return bool(_ISO.match(text) or _OTHER.match(text))


class StampReader:
    """Turns stamps into seconds since the first one's midnight, piece by piece of a file.

    A time of the day that runs backwards by more than half a day has passed midnight.
    """

    def __init__(self) -> None:
        self._first_day: int | None = None
        self._last_s = 0.0
        self._midnights_s = 0.0

    def seconds(self, texts: Sequence[str]) -> npt.NDArray[np.float64] | int:
        """Seconds of each; or the index of the first that is no stamp."""
        import numpy as np

        out = np.empty(len(texts))
        for i, text in enumerate(texts):
            found = _ISO.match(text)
            day = 0
            if found:
                day = _day_number(found["date"])
                self._first_day = day if self._first_day is None else self._first_day
                day -= self._first_day
            else:
                found = _OTHER.match(text)
            if not found or day < -1_000_000:
                return i
            time_s = day * _DAY_S + _seconds_of_day(found)
            if self._first_day is None and time_s < self._last_s - _DAY_S / 2:
                self._midnights_s += _DAY_S
            self._last_s = time_s
            out[i] = time_s + self._midnights_s
        return out


def _day_number(date: str) -> int:
    from datetime import date as Date

    try:
        return Date.fromisoformat(date).toordinal()
    except ValueError:
        return -10_000_000


def _seconds_of_day(found: re.Match[str]) -> float:
    hour = int(found["h"])
    half = (found["half"] or "").lower()
    if half:
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    fraction = found["f"] or ""
    part = int(fraction) / 10 ** len(fraction) if fraction else 0.0
    return hour * 3600.0 + int(found["m"]) * 60.0 + int(found["s"] or 0) + part
