"""What every command shares: lazy loading, `--json`, and errors that end in the right exit code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, ClassVar

import rich_click as click
from click.exceptions import Exit

from kilotune.cli.output import Output
from kilotune.errors import KilotuneError


class Command(click.RichCommand):
    """A command whose example is printed as it must be typed: line by line, never wrapped into prose."""

    example = ""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write(" Example:" if "\n" not in self.example else " Examples:", highlight=False)
        for line in self.example.splitlines():
            formatter.write("   " + line, highlight=False, markup=False, soft_wrap=True)
        formatter.write("")


class LazyGroup(click.RichGroup):
    """A group whose commands are imported when they are asked for: `homes` is name -> module."""

    homes: ClassVar[dict[str, str]] = {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.homes)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.homes:
            return None
        module = import_module(self.homes[cmd_name])
        found = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        assert isinstance(found, click.Command)
        return found

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        """As click's, but with --json the parser's own complaints are JSON too."""
        words = list(args) if args is not None else sys.argv[1:]
        if "--json" not in words or not options.get("standalone_mode", True):
            return super().main(args, *rest, **options)
        try:
            super().main(words, *rest, **{**options, "standalone_mode": False})
        except click.UsageError as error:
            told = KilotuneError("usage", error.format_message(), "see the command's --help")
            Output(as_json=True).error(told, told.exit_code)
            sys.exit(told.exit_code)
        except Exit as leaving:
            sys.exit(leaving.exit_code)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], self.homes, n=1) if args else []
            if close:
                raise click.UsageError(
                    f"There is no command {args[0]!r}. Did you mean {close[0]!r}?", ctx
                ) from error
            raise


def command(name: str, *, example: str) -> Callable[[Callable[..., None]], Command]:
    """Makes a command of `function(out, ...)`; `example` stands at the end of its help."""

    def wrap(function: Callable[..., None]) -> Command:
        @functools.wraps(function)
        def run(as_json: bool, **options: Any) -> None:
            out = Output(as_json=as_json)
            try:
                function(out, **options)
            except KilotuneError as error:
                out.error(error, error.exit_code)
                sys.exit(error.exit_code)
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                sys.exit(130)
            except BrokenPipeError:  # the reader of a stream went away: not an error
                sys.stderr.close()
                sys.exit(0)
            except OSError as error:
                wrapped = KilotuneError(
                    "os_error", str(error), "check the file's name, its folder and your rights"
                )
                out.error(wrapped, wrapped.exit_code)
                sys.exit(wrapped.exit_code)

        run = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(run)
        made = click.command(name, cls=Command, context_settings={"help_option_names": ["-h", "--help"]})(run)
        assert isinstance(made, Command)
        made.example = "\n".join(line.strip() for line in example.strip().splitlines())
        return made

    return wrap
