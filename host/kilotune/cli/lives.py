"""Commands about a device's state in words, and what an operator says of its alarms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.options import Where, device_options
from kilotune.cli.output import Output, pairs, plain
from kilotune.cli.rules import alarm_option
from kilotune.errors import KilotuneError
from kilotune.terms import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from kilotune.device.device import Device


@command(
    "status",
    example="kilotune status -p /dev/ttyACM0\nkilotune status -p /dev/ttyACM0 --image model.ktm --json",
)
@device_options()
def status_command(out: Output, where: Where) -> None:
    """Say what a device makes of its machine: settling, watching or alarm, since when, and why.

    With --image, bands have names. `kilotune info` has all counters.
    """
    with where.connect(where.image) as device:
        data, text = _told(device)
    out.result(data, text)


@command(
    "acknowledge",
    example="kilotune acknowledge --normal -p /dev/ttyACM0\nkilotune acknowledge --fault -p /dev/ttyACM0",
)
@device_options()
@click.option("--normal", is_flag=True, help="The machine is like this from now on: learn it, within limits.")
@click.option("--fault", is_flag=True, help="It was a fault: forget what was recorded since the last phase.")
def acknowledge_command(out: Output, where: Where, normal: bool, fault: bool) -> None:
    """Answer the alarm of a device that goes on learning. It is committed; `kilotune rollback` undoes it.

    After --normal, the device learns for as many records as its first phase had from what is at most 1 log2 worse than
    the alarm; anything worse stays an alarm. At least half of what it has stored stays, and it keeps count.
    """
    if normal == fault:
        raise KilotuneError("bad_argument", "an alarm is answered by --normal or by --fault", "give one of them")
    what = "normal" if normal else "fault"
    _change(out, where, what, lambda device: device.acknowledge(what))


@command("alarm-rule", example="kilotune alarm-rule --alarm 3/5 -p /dev/ttyACM0")
@device_options()
@alarm_option("Alarmed records, of so many in a row, that make an alarm; at most 8.", required=True)
def alarm_rule_command(out: Output, where: Where, alarm: tuple[int, int]) -> None:
    """Set how many alarmed records of how many in a row are an alarm; committed, until the device learns anew."""
    _change(out, where, "alarm-rule", lambda device: device.set_alarm_rule(*alarm))


def _change(out: Output, where: Where, what: str, act: Callable[[Device], object]) -> None:
    from kilotune.device.life_words import story_of

    with where.connect(where.image) as device:
        if device.status().phase is Phase.train and story_of(device).learning:
            out.note("the device is learning on by itself: this waits until it has ended, which may take minutes")
        act(device)
        data, text = _told(device)
    out.result({"done": what, "target": where.named(), **data}, f"done: {what}\n{text}")


def _told(device: Device) -> tuple[dict[str, object], str]:
    """The device's state as JSON and as text."""
    from kilotune.device.life_words import detail_in_words, story_of
    from kilotune.device.wording import guard_in_words

    status, story = device.status(), story_of(device)
    kept = status.checkpoint.sequence
    data = {
        **plain(story),
        "phase": plain(status.phase),
        "windows_learned": status.windows_learned,
        "checkpoint": kept,
        "guardrails": guard_in_words(status.guard),
    }
    rows: list[tuple[str, object]] = [
        *detail_in_words(story),
        ("learned from", f"{status.windows_learned} windows"),
        ("checkpoint", f"number {kept}" if kept else "none: nothing was committed"),
    ]
    rows += [("guardrails", data["guardrails"])] if data["guardrails"] else []
    return data, f"{story.verdict}\n\n{pairs(rows)}"
