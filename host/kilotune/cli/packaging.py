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
@click.option("--for", "ecosystem", type=click.Choice(_ECOSYSTEMS), required=True, help="Whose layout to write.")
@click.option(
    "-o",
    "--out",
    "target",
    type=click.Path(path_type=Path),
    required=True,
    help="A new folder, or an archive where the name ends in .zip.",
)
@click.option("--maintainer", default="Kilotune maintainers", show_default=True, help="Who publishes it.")
@click.option("--url", default="", help="Its page; Arduino's index wants one.")
def library_command(out: Output, ecosystem: Ecosystem, target: Path, maintainer: str, url: str) -> None:
    """Lay out the training kernel alone as a library for other firmware."""
    from kilotune.export.kernel_package import PUBLISHED, Publisher, lay_out

    refuse_given({"maintainer", "url"} - PUBLISHED[ecosystem], f"a package for {ecosystem} does not say it")
    made = plain(lay_out(ecosystem, target, Publisher(maintainer, url)))
    if ecosystem == "arduino" and not url:
        out.note("library.properties has no url: the Library Manager's index wants one (--url)")
    out.result(made, pairs(list(made.items())))
