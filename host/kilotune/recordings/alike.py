"""Recordings that are held against each other: that nothing but the machine differs between them.

A set in g and one in m/s^2, or one with its axes in another order, are told apart by anything, and by nothing that
matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.recordings.options import ReadOptions
from kilotune.recordings.recording import Recording

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_GRAVITY_RATIO = (8.0, 12.0)  # of two means, where one is in g and the other in m/s^2
_LEAST_G = 0.5  # of a mean that gravity shows in
_APART, _ALIKE = 0.7, 0.97  # cosine of two directions of gravity


def require_alike(recordings: Sequence[Recording], options: ReadOptions) -> list[str]:
    """What to tell of them; KilotuneError `ambiguous` where units or axes seem to differ and nobody has said how."""
    if not recordings:
        return []
    first, notes = recordings[0], []
    for other in recordings[1:]:
        _require_same_order(first, other, options)
        if options.unit is None and not options.scale:
            _require_same_unit(first, other)
        if not options.columns:
            _require_same_directions(first, other)
    units = {r.unit for r in recordings}
    if len(units) > 1:
        notes.append("some recordings are in g and some in counts, which are taken as those of the model's sensor")
    return notes


def _require_same_order(first: Recording, other: Recording, options: ReadOptions) -> None:
    ours, theirs = ([c.name.lower() for c in r.channels] for r in (first, other))
    if not options.columns and ours != theirs and sorted(ours) == sorted(theirs):
        raise KilotuneError(
            "ambiguous",
            f"{first.name} has the axes {', '.join(ours)}, {other.name} has {', '.join(theirs)}",
            "say their order with --columns",
        )


def _require_same_unit(first: Recording, other: Recording) -> None:
    sources = {c.unit_from for r in (first, other) for c in r.channels}
    if "guess" not in sources or first.unit != "g" or other.unit != "g":
        return
    low, high = sorted(float((_mean(r) ** 2).sum() ** 0.5) for r in (first, other))
    if low > _LEAST_G and _GRAVITY_RATIO[0] <= high / low <= _GRAVITY_RATIO[1]:
        raise KilotuneError(
            "ambiguous",
            f"gravity is {high / low:.1f} times as large in one of {first.name} and {other.name}: "
            "one seems to be in g, the other in m/s^2",
            "convert one, or say the unit of each in its file",
        )


def _require_same_directions(first: Recording, other: Recording) -> None:
    """Axes in another order show in gravity, where axes have no names."""
    import numpy as np

    named = all(c.name and not c.name.isdecimal() and ":" not in c.name for r in (first, other) for c in r.channels)
    if named or first.axes != other.axes or not 2 <= first.axes <= 3:
        return
    a, b = _mean(first), _mean(other)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    if size < _LEAST_G**2 or float(a @ b) / size > _APART:
        return
    if any(float(a @ b[list(order)]) / size > _ALIKE for order in permutations(range(first.axes))):
        raise KilotuneError(
            "ambiguous",
            f"gravity is on another axis in {other.name} than in {first.name}: are the axes in the same order?",
            "say their order with --columns",
        )


def _mean(recording: Recording) -> npt.NDArray[np.float64]:
    import numpy as np

    return np.asarray(recording.samples.mean(axis=0, dtype=np.float64))
