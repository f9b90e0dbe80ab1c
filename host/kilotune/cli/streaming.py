"""What `kilotune stream` reads, and how it shows a device's results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kilotune.cli.looking import tell_understood
from kilotune.cli.output import Output, pairs, plain
from kilotune.errors import KilotuneError
from kilotune.printable import printable

if TYPE_CHECKING:
    from kilotune.device.device import Device
    from kilotune.recordings import ReadOptions, Recording
    from kilotune.studies.streaming import StreamEvent, StreamSummary
    from kilotune.studies.windows import Window


def divided(
    recordings: list[Recording], do_learn: bool, do_detect: bool, files: int | None, seconds: float | None
) -> tuple[list[Recording], list[Recording]]:
    """(to learn from, to detect in)"""
    from kilotune.studies.streaming import split

    if do_learn and do_detect:
        return split(recordings, files=files, seconds=seconds)
    return (recordings, []) if do_learn else ([], recordings)


def shown(event: StreamEvent) -> tuple[dict[str, Any], str]:
    """One window, as JSON and as text."""
    w = event.window
    verdict = _one_word(w, event.taught)
    score = "-" if w.score is None else f"{w.score:+.3f}"
    return (
        {"event": "window", "source": event.source, "phase": event.phase, "taught": event.taught, **plain(w)},
        f"{printable(event.source)}  {w.t_s:9.3f} s  {score:>8}  {verdict}",
    )


def _one_word(w: Window, taught: bool) -> str:
    why = ", ".join(w.refused)
    if w.dead:
        return f"dead sensor ({why})"
    if not taught:
        return "nothing learned"
    if w.anomaly:
        return f"ANOMALY ({why})" if why else "ANOMALY"
    return why or "ok"


def summarised(summary: StreamSummary) -> tuple[dict[str, Any], str]:
    """The end of a stream, as JSON and as text."""
    from kilotune.device.wording import guard_in_words

    data = plain(summary)
    del data["verdicts"], data["life"], data["mixed"], data["stopped"]
    flat = {f"{group} {k}": v for group in ("learned", "guard") for k, v in (data.pop(group) or {}).items()} | data
    if summary.guard is not None and (words := guard_in_words(summary.guard)):
        flat["guardrails"] = words
    said = [f"the device: {summary.life.verdict}"] if summary.life is not None else []
    verdict = "\n".join([*told_apart(summary), *(v.text for v in summary.verdicts), *said])
    told = {"event": "summary", **plain(summary), "verdict": verdict}
    return told, "\n\n".join(part for part in (pairs(list(flat.items())), verdict) if part)


MOST_PERCENT = 40  # that a device leaves out


def told_apart(summary: StreamSummary) -> list[str]:
    found = summary.mixed
    if found is None:
        return []
    if found.left_out:
        return [f"{found.text}: they were not learned from"]
    advice = (
        "--drop leaves them out, --confirm says that they are healthy"
        if 100 * found.apart < MOST_PERCENT * found.windows
        else "nobody can tell which part is healthy, so learn from recordings that are, or --confirm that all are"
    )
    asked = f"{found.text}. A fault that was already there, or a second state of the machine? All were learned from"
    if summary.stopped:
        return [
            f"{asked}, nothing was committed, and nothing is scored, as the device's next phase would commit it by "
            f"itself; `kilotune rollback` makes a device forget it. Learn again: {advice}"
        ]
    return [f"{asked}, and nothing was committed: {advice}"]


def load_for(device: Device, sources: tuple[str, ...], read: ReadOptions, out: Output) -> list[Recording]:
    """Recordings at the rate of the device's model; each assumption of the readers is noted once."""
    from kilotune.recordings import read_all
    from kilotune.studies.streaming import model_rate_hz

    recordings = read_all(sources, read, model_rate_hz=model_rate_hz(device))
    tell_understood(out, recordings)
    return recordings


def parse_labels(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise KilotuneError(
            "bad_argument", f"--labels {text!r} is not a list of class numbers", "write it as 0,1,2"
        ) from None
