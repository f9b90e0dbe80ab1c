"""The option that says how many alarmed records make an alarm."""

from __future__ import annotations

from collections.abc import Callable

import rich_click as click

from kilotune.cli.groups import Decorated


def _rule(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    parts = [part.strip() for part in value.split("/")]
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        alarmed, of = map(int, parts)
        if 1 <= alarmed <= of <= 8:
            return alarmed, of
    raise click.BadParameter(f"{value} is not a rule like 3/5, of at most 8 records.", ctx, param)


def alarm_option(text: str, *, required: bool = False) -> Callable[[Decorated], Decorated]:
    """K/N: so many alarmed records, of so many in a row."""
    return click.option("--alarm", metavar="K/N", callback=_rule, required=required, help=text)
