"""What every command shares: lazy loading, `--json`, and errors that end in the right exit code."""

from __future__ import annotations

import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, ClassVar

import rich_click as click
from click.exceptions import Abort, ClickException, Exit

from kilotune.cli.output import Output, ReaderGone, discard, trace
from kilotune.errors import KilotuneError
from kilotune.printable import printable


class Ended(KeyboardInterrupt):
    """Another program asked this one to end: everything open is closed, as with Ctrl-C."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number


@contextmanager
def endings() -> Iterator[None]:
    """SIGTERM and SIGHUP raise `Ended`; otherwise they would leave an emulator running, writing to its flash file."""

    def end(number: int, _: FrameType | None) -> None:
        for other in taken:  # closing is not interrupted: `timeout` and terminals signal twice
            signal.signal(other, signal.SIG_IGN)
        raise Ended(signal.Signals(number))

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        wanted = []  # only the main thread may
    taken = [number for number in wanted if signal.getsignal(number) is signal.SIG_DFL]  # nohup stays
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


class Command(click.RichCommand):
    """A command whose example is printed as it must be typed: line by line, never wrapped into prose."""

    example = ""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        formatter.write(" Example:" if "\n" not in self.example else " Examples:", highlight=False)
        for line in self.example.splitlines():
            formatter.write("   " + line, highlight=False, markup=False, soft_wrap=True)
        formatter.write("")


class LazyGroup(click.RichGroup):
    """A group that imports each command when it is used: `homes` is name -> module."""

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
        """Like click's, but with --json the parser's own errors are JSON too."""
        words = list(args) if args is not None else sys.argv[1:]
        if "--json" not in words or not options.get("standalone_mode", True):
            return super().main(args, *rest, **options)
        try:
            super().main(words, *rest, **{**options, "standalone_mode": False})
        except click.UsageError as error:
            told = KilotuneError("bad_argument", error.format_message(), "see the command's --help")
            Output(as_json=True).error(told, told.exit_code)
            sys.exit(told.exit_code)
        except Exit as leaving:
            sys.exit(leaving.exit_code)
        except Abort:  # Ctrl-C before the command began
            told, code = as_told(KeyboardInterrupt())
            Output(as_json=True).error(told, code)
            sys.exit(code)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        with _printable_complaints():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _printable_complaints():
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            close = get_close_matches(args[0], self.homes, n=1) if args else []
            if close:
                raise click.UsageError(f"There is no command {args[0]!r}. Did you mean {close[0]!r}?", ctx) from error
            raise


@contextmanager
def _printable_complaints() -> Iterator[None]:
    """The parser quotes what it was given: names of files, where a shell has put them in the place of `*`."""
    try:
        yield
    except ClickException as error:
        vars(error)["message"] = printable(error.message)  # final, as far as types know
        raise


def command(name: str, *, example: str) -> Callable[[Callable[..., None]], Command]:
    """Makes a command of `function(out, ...)`; its help ends with `example`."""

    def wrap(function: Callable[..., None]) -> Command:
        @functools.wraps(function)
        def run(as_json: bool, **options: Any) -> None:
            try:
                code = run_to_end(Output(as_json=as_json), functools.partial(function, **options))
            except ReaderGone:  # not an error
                discard(sys.stdout)
                code = 0
            if code:
                sys.exit(code)

        run = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(run)
        made = click.command(name, cls=Command, context_settings={"help_option_names": ["-h", "--help"]})(run)
        assert isinstance(made, Command)
        made.example = "\n".join(line.strip() for line in example.strip().splitlines())
        return made

    return wrap


def run_to_end(out: Output, function: Callable[[Output], None]) -> int:
    """Runs a command, reports its error if it fails, and returns the exit code."""
    try:
        with endings():
            function(out)
    except (ReaderGone, ClickException, Exit, Abort):
        raise
    except (Exception, KeyboardInterrupt) as error:
        told, code = as_told(error)
        try:
            out.error(told, code)
        except ReaderGone:
            discard(sys.stdout)
        return code
    return 0


def as_told(error: Exception | KeyboardInterrupt) -> tuple[KilotuneError, int]:
    """The error to report when `error` ended a command, and the exit code."""
    if isinstance(error, KilotuneError):
        return error, error.exit_code
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        return KilotuneError("interrupted", f"interrupted by {number.name}"), 128 + number
    if isinstance(error, MemoryError):
        told = KilotuneError("no_memory", f"not enough memory: {error}", "process less at a time, e.g. with --seconds")
    elif isinstance(error, OSError):
        told = KilotuneError("os_error", str(error), "check the file's name, its folder and your permissions")
    else:
        trace(error)
        what = f"kilotune itself failed: {type(error).__name__}: {error}"
        told = KilotuneError("internal", what, "this is a bug: report it with the lines above and the command")
    return told, told.exit_code
