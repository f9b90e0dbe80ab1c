"""Which healthy windows to learn from and which to test on: whole files or blocks of time, never single windows.

Neighbouring windows resemble each other, so they would make every figure too good.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from kilotune.recordings import Recording

SEVERAL = 3  # files: from this number on, whole files are held out
HOLD_OUT = ("auto", "files", "blocks")


@dataclass(frozen=True, slots=True)
class Held:
    """Healthy recordings to learn from and to test on, and a text on how they were divided."""

    learn: tuple[Recording, ...]
    test: tuple[Recording, ...]
    how: str
    notes: tuple[str, ...] = ()


def hold_out(
    healthy: Sequence[Recording],
    test: Sequence[Recording] = (),
    *,
    fault: Sequence[Recording] = (),
    share: float = 0.5,
    window: int,
    by: str = "auto",
) -> Held:
    """`test`: separate healthy recordings to test on; without them, files of `healthy`, or the end of each.

    `by` "files", "blocks", or "auto": files where there are several. KilotuneError `bad_argument` where a recording
    is on two sides.
    """
    own, notes = _distinct(healthy)
    _refuse_shared(own, fault, "--healthy", "--fault")
    if test:
        other, more = _distinct(test)
        _refuse_shared(own, other, "--healthy", "--healthy-test")
        _refuse_shared(other, fault, "--healthy-test", "--fault")
        return Held(tuple(own), tuple(other), f"{_files(other)} given for the test", (*notes, *more))
    if by == "files" and len(own) < 2:
        raise KilotuneError(
            "bad_argument",
            "a single healthy recording cannot be both held out and learned from",
            "give more, or hold out blocks",
        )
    if by == "files" or (by == "auto" and len(own) >= SEVERAL):
        learn, rest = split_files(own, share)
        notes.append(
            f"{', '.join(r.name for r in rest)} held out whole: if each file is a different operating point, "
            "--hold-out blocks learns from a part of each"
        )
        return Held(tuple(learn), tuple(rest), f"{_files(rest)} of {len(own)} held out whole", tuple(notes))
    parts = split_healthy(own, share=share, window=window)
    where = "the same file" if len(own) == 1 else "the same files"
    notes.append(f"the test is the end of {where} that the device learns from: another day may differ more")
    return Held(
        tuple(parts[0]), tuple(parts[1]), f"the last {100 * (1 - share):.0f} % of each file held out", tuple(notes)
    )


def split_files(recordings: Sequence[Recording], share: float) -> tuple[list[Recording], list[Recording]]:
    """(to learn from, to test on): whole files; those held out are spread evenly over the given order."""
    count = min(len(recordings) - 1, max(1, int(len(recordings) * (1 - share))))
    step = len(recordings) / count
    held = {int(step * k + step / 2) for k in range(count)}
    return (
        [r for k, r in enumerate(recordings) if k not in held],
        [r for k, r in enumerate(recordings) if k in held],
    )


def split_healthy(
    recordings: Sequence[Recording], *, share: float, window: int
) -> tuple[list[Recording], list[Recording]]:
    """(to learn from, to test on): the first `share` of each in time; a window in between is skipped.

    Recordings that are too short to be divided are learned from or tested on whole: the first `share` of them.
    """
    learn: list[Recording] = []
    test: list[Recording] = []
    short = [k for k, r in enumerate(recordings) if not _splits(r, share, window)]
    if len(short) == 1 or (short and all(not recordings[k].windows(window, window) for k in short)):
        first = recordings[short[0]]
        raise KilotuneError(
            "too_few_windows",
            f"{first.name} has {first.samples.shape[0]} samples; "
            f"a part to learn from and one to test on need more windows of {window}",
            "give longer healthy recordings, or more of them",
        )
    learned_whole = set(short[: max(1, round(len(short) * share))])
    for k, recording in enumerate(recordings):
        if k in short:
            (learn if k in learned_whole else test).append(recording)
            continue
        at = int(recording.samples.shape[0] * share)
        learn.append(recording.part(0, at))
        test.append(recording.part(at + window))
    return learn, test


def _splits(recording: Recording, share: float, window: int) -> bool:
    at = int(recording.samples.shape[0] * share)
    return at >= window and recording.samples.shape[0] - at - window >= window


def _distinct(recordings: Sequence[Recording]) -> tuple[list[Recording], list[str]]:
    """Drops recordings with the samples of an earlier one, as a held-out copy would not be a test."""
    kept: dict[bytes, Recording] = {}
    notes = []
    for recording in recordings:
        first = kept.setdefault(_digest(recording), recording)
        if first is not recording:
            notes.append(f"{recording.name} has the same samples as {first.name}, so it is used once")
    return list(kept.values()), notes


def _refuse_shared(one: Sequence[Recording], other: Sequence[Recording], first: str, second: str) -> None:
    known = {_digest(r): r.name for r in one}
    for recording in other:
        if (name := known.get(_digest(recording))) is not None:
            raise KilotuneError(
                "bad_argument",
                f"{recording.name} ({second}) has the same samples as {name} ({first})",
                "give each recording once: a test on learned samples, or with equal samples on both sides, is void",
            )


def _digest(recording: Recording) -> bytes:
    samples = recording.samples
    return hashlib.sha256(f"{samples.dtype} {samples.shape}".encode() + samples.tobytes()).digest()


def _files(recordings: Sequence[Recording]) -> str:
    return f"{len(recordings)} file" + ("s" if len(recordings) > 1 else "")
