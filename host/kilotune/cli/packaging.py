"""Commands on the kernel as a library: library."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.groups import refuse_given
from kilotune.cli.output import Output, pairs, plain

if TYPE_CHECKING:
    from kilotune.export.kernel_package import Ecosystem

_ECOSYSTEMS = ("cmake", "arduino", "platformio", "zephyr", "esp-idf")


@command(
    "library",
    example="kilotune library --for arduino -o kilotune-arduino.zip\n"
    "kilotune library --for zephyr -o modules/kilotune --json",
)
@click.option("--for", "ecosystem", type=click.Choice(_ECOSYSTEMS), required=True, help="Package format to write.")
@click.option(
    "-o",
    "--out",
    "target",
    type=click.Path(path_type=Path),
    required=True,
    help="New folder to write, or an archive if the name ends in .zip.",
)
@click.option("--maintainer", default="Kilotune maintainers", show_default=True, help="Publisher of the package.")
@click.option("--url", default="", help="Web page of the package; Arduino's index requires one.")
def library_command(out: Output, ecosystem: Ecosystem, target: Path, maintainer: str, url: str) -> None:
    """Package the training kernel alone, as a library for other firmware."""
    from kilotune.export.kernel_package import PUBLISHED, Publisher, lay_out

    refuse_given({"maintainer", "url"} - PUBLISHED[ecosystem], f"a package for {ecosystem} does not state it")
    made = plain(lay_out(ecosystem, target, Publisher(maintainer, url)))
    if ecosystem == "arduino" and not url:
        out.note("library.properties has no url: the Library Manager's index requires one (--url)")
    out.result(made, pairs(list(made.items())))
