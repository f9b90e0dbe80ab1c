"""Groups of options that a command takes as one value, and the refusal of options that would be ignored."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from click import get_current_context
from click.core import ParameterSource

from kilotune.errors import KilotuneError

Decorated = Callable[..., Any]
Option = Callable[[Decorated], Decorated]


class OptionGroup:
    """Options that several commands share, or that belong together in one.

    As a decorator it adds them to a command. `build` takes them by name and makes one value of them, which the command
    gets as its argument `into`.
    """

    def __init__(self, into: str, build: Callable[..., Any], options: Mapping[str, Option]) -> None:
        self._into, self.build, self._options = into, build, options

    @property
    def names(self) -> frozenset[str]:
        """Names of the options, as `build` takes them."""
        return frozenset(self._options)

    def __call__(self, function: Decorated) -> Decorated:
        @functools.wraps(function)
        def run(out: Any, **rest: Any) -> None:
            values = {name: rest.pop(name) for name in self._options}
            function(out, **{self._into: self.build(**values)}, **rest)

        decorated: Decorated = run
        for decorate in reversed(list(self._options.values())):
            decorated = decorate(decorated)
        return decorated

    def option(self, name: str) -> Option:
        """One of them, for another group."""
        return self._options[name]

    def only(self, *names: str) -> OptionGroup:
        """Part of the group, in its order, for a command that would ignore the rest.

        `build` must have defaults for those.
        """
        order = list(self._options)
        return OptionGroup(
            self._into, self.build, {name: self._options[name] for name in sorted(names, key=order.index)}
        )

    def refuse(self, because: str) -> None:
        """`refuse_given` for the whole group."""
        refuse_given(self._options, because)


def refuse_given(names: Iterable[str], because: str) -> None:
    """Raises `bad_argument` if the running command was given any of these options, as it would ignore them.

    `because`: why it would ignore them. Defaults do not count as given.
    """
    given = _given(set(names))
    if given:
        listed = ", ".join(given)
        raise KilotuneError("bad_argument", f"{because}: {listed} would be ignored", f"omit {listed}")


def is_given(name: str) -> bool:
    """Whether the running command was given this option."""
    return bool(_given({name}))


def _given(names: set[str]) -> list[str]:
    """The options among `names` that were given, as typed on the command line."""
    context = get_current_context()
    parameters = {p.name: p for p in context.command.params if p.name is not None and p.name in names}
    sources = {name: context.get_parameter_source(name) for name in parameters}
    defaults = {None, ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP}
    return [max(p.opts, key=len) for name, p in parameters.items() if sources[name] not in defaults]
