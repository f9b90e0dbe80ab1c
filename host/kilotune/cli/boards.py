"""Commands for boards and this computer: build, flash, flash-model, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.compiling import note_if_once
from kilotune.cli.options import EXISTING, FOLDER, Where, device_options, sensor_options
from kilotune.cli.output import Output, flattened, pairs, plain, table
from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from kilotune.targets.sensors import SensorChoice


@command(
    "build",
    example="kilotune build --board mps2-an386 --image model.ktm -o build/firmware\n"
    "kilotune build --board nrf52840dk --sensors lsm6dso,adxl345 --sensor-bus spi",
)
@click.option("-b", "--board", required=True, help="Board id: the name of a folder in firmware/boards.")
@click.option("--image", type=EXISTING, help="Model image to put into the firmware.")
@click.option("-o", "--out", "folder", type=FOLDER, help="Folder for the firmware.")
@click.option("--source", type=FOLDER, help="Folder of the firmware's source, if it is not next to the package.")
@sensor_options
def build_command(
    out: Output,
    board: str,
    image: Path | None,
    folder: Path | None,
    source: Path | None,
    sensors: SensorChoice,
) -> None:
    """Build the firmware of a board and print its memory budget."""
    from kilotune.targets.build import build

    with out.progress(f"building {board}"):
        built = build(board, image=image, out=folder, source=source, sensors=sensors)
    data = plain(built)
    text = data | {"sensors": ", ".join(built.sensors)}
    out.result(data, pairs([(k, v) for k, v in text.items() if v != ""]))


@command(
    "flash",
    example="kilotune flash --board microbit --model model.ktm\n"
    "kilotune flash --board qemu:mps2-an386 --model model.ktm --state build/board",
)
@click.option("-b", "--board", required=True, help="Board id, such as microbit or qemu:mps2-an386.")
@click.option("--model", "--image", "model", type=EXISTING, help="Model image to write to the board.")
@click.option("--probe", help="Id of the debug probe, or part of it, if there are several.")
@click.option(
    "--erase-locked",
    is_flag=True,
    help="Unlock a locked debug port by erasing the whole chip: firmware, key and everything learned.",
)
@click.option("--drive", type=FOLDER, help="Folder of the boot drive, if none or several are found.")
@click.option("--state", type=FOLDER, help="Folder for an emulated board's flash.")
@sensor_options
def flash_command(
    out: Output,
    board: str,
    model: Path | None,
    probe: str | None,
    erase_locked: bool,
    drive: Path | None,
    state: Path | None,
    sensors: SensorChoice,
) -> None:
    """Build the firmware and write it to a board by debug probe or boot drive, or to an emulated board's flash."""
    from kilotune.image.image import Image
    from kilotune.targets.flash import flash

    if model is not None:
        note_if_once(out, Image.load(model), board.rpartition(":")[2])
    with out.progress(f"flashing {board}"):
        done = flash(
            board, image=model, state=state, probe=probe, drive=drive, erase_locked=erase_locked, sensors=sensors
        )
    data = plain(done)
    out.result(data, pairs([(k, v) for k, v in data.items() if v not in ("", 0)]))


@command(
    "flash-model",
    example="kilotune flash-model model.ktm -p /dev/ttyACM0\nkilotune flash-model --rollback -p /dev/ttyACM0",
)
@click.argument("model", type=EXISTING, required=False)
@click.option("--rollback", is_flag=True, help="Return to the previous model, permanently.")
@device_options(image_option=False)
def flash_model_command(out: Output, where: Where, model: Path | None, rollback: bool) -> None:
    """Replace the model of a running device over its serial line; the firmware stays.

    The old model keeps running until the new one is verified in flash and fits the firmware, its RAM and its sensor.
    The old model is kept for --rollback. What the device committed for a model is valid again when that model returns.
    """
    from kilotune.image.image import Image
    from kilotune.targets.fit import require_checkpoints

    if (model is None) != rollback:
        raise KilotuneError(
            "bad_argument", "give a model image, or --rollback", "kilotune flash-model model.ktm -p PORT"
        )
    image = Image.load(model) if model is not None else None
    with where.connect(None) as device:
        before = device.info().image_hash
        if image is not None:
            require_checkpoints(image, device.info().board)
        if image is None:
            after = device.rollback_model()
        elif before == image.image_hash.hex():
            after = device.info()
        else:
            with out.progress("sending the model"):
                after = device.replace_model(image)
        checkpoint = device.status().checkpoint
    data = {
        "done": "unchanged" if before == after.image_hash else "rollback" if rollback else "replaced",
        "target": where.named(),
        "image_hash": after.image_hash,
        "former_image_hash": before,
        "checkpoint": plain(checkpoint),
    }
    out.result(data, pairs(flattened(data)))


@command("doctor", example="kilotune doctor")
def doctor_command(out: Output) -> None:
    """List what is missing on this computer, and the commands that install it."""
    from kilotune.targets.doctor import examine

    checks = examine()
    rows = [
        (
            "ok" if c.ok else ("MISSING" if c.required else "absent"),
            c.name,
            c.found if c.ok else f"for {c.needed_for}",
        )
        for c in checks
    ]
    todo = [c for c in checks if not c.ok and c.install]
    lines = [table(rows)]
    if todo:
        lines += ["", "to install what is missing:"] + [f"  {c.install}    # {c.needed_for}" for c in todo]
    broken = [c.name for c in checks if c.required and not c.ok]
    out.result({"ok": not broken, "checks": plain(checks)}, "\n".join(lines))
    if broken:
        raise KilotuneError(
            "missing", "kilotune cannot work without: " + ", ".join(broken), "install what is listed above"
        )
