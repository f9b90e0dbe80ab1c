"""`kilotune`: the commands and the modules that hold them."""

from __future__ import annotations

from typing import ClassVar

import rich_click as click

from kilotune.cli.command import LazyGroup
from kilotune.version import __version__

_MODULES = {
    "models": ("quantize", "compile", "inspect", "merge"),
    "boards": ("build", "flash", "flash-model", "doctor"),
    "devices": ("ports", "info", "commit", "mark-stable", "rollback", "reset", "pull", "push", "provision"),
    "lives": ("status", "acknowledge", "alarm-rule"),
    "running": ("stream", "infer", "train", "bench"),
    "sensors": ("record", "record-to-resd"),
    "looking": ("look",),
    "training": ("base",),
    "studying": ("evaluate", "report", "demo"),
    "packaging": ("library",),
}


class Kilotune(LazyGroup):
    homes: ClassVar[dict[str, str]] = {
        name: f"kilotune.cli.{module}" for module, names in _MODULES.items() for name in names
    }


_PANELS = {
    "Models": "models",
    "Boards": "boards",
    "Devices": "devices",
    "What devices say": "lives",
    "Running": "running",
    "Sensors": "sensors",
    "Recordings": "looking",
    "Base models": "training",
    "Studying": "studying",
    "Packaging": "packaging",
}
_HELP = click.RichHelpConfiguration(
    command_groups={
        "*": [{"name": title, "commands": list(_MODULES[module])} for title, module in _PANELS.items()],
    },
    text_markup="markdown",
    show_arguments=True,
)


@click.command(
    cls=Kilotune,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with:  kilotune demo   or   kilotune doctor",
)
@click.rich_config(help_config=_HELP)
@click.version_option(__version__, prog_name="kilotune")
def main() -> None:
    """Adapt an int8 TensorFlow Lite model on the microcontroller that runs it.

    Exit codes: 0 ok, 1 failed, 2 usage error, 3 no device or an ambiguous one, 4 refused by the device,
    5 verification mismatch, 128 and above ended by a signal (130: Ctrl-C).
    """


if __name__ == "__main__":
    main()
