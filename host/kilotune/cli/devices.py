"""Commands with a single request to a device: ports, info, commit, rollback, reset, pull, push and the like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.groups import refuse_given
from kilotune.cli.options import FOLDER, Where, device_options, load_adapter, require_tag_option
from kilotune.cli.output import Output, flattened, pairs, plain, table
from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from kilotune.device.device import Device


@command("ports", example="kilotune ports")
def ports_command(out: Output) -> None:
    """List the serial ports of this computer."""
    from kilotune.targets.ports import list_ports

    found = list_ports()
    rows = [(p.device, p.usb or "-", p.serial_number or "-", p.description or "-") for p in found]
    text = table(rows, ("port", "usb id", "serial", "what")) if rows else "no serial ports"
    out.result({"ports": plain(found)}, text)


@command("info", example="kilotune info --target twin --image model.ktm\nkilotune info -p /dev/ttyACM0 --json")
@device_options()
def info_command(out: Output, where: Where) -> None:
    """Show a device's firmware, model, limits, phase, counters, guardrails and checkpoint."""
    from kilotune.device.wording import guard_in_words

    with where.connect(where.image) as device:
        status = device.status()
        data = {**plain(device.info()), "status": plain(status), "guardrails": guard_in_words(status.guard)}
    flat = [(k, v) for k, v in data.items() if k != "status"] + flattened(data["status"])
    out.result(data, pairs(flat))


@command("commit", example="kilotune commit -p /dev/ttyACM0\nkilotune commit -p /dev/ttyACM0 --candidate")
@device_options()
@click.option("--candidate", is_flag=True, help="Rollbacks from later checkpoints skip this one until `mark-stable`.")
def commit_command(out: Output, where: Where, candidate: bool) -> None:
    """Save what the device has learned as a checkpoint in its flash."""
    _tell(out, where, "commit", lambda device: device.commit(candidate=candidate))


@command("mark-stable", example="kilotune mark-stable -p /dev/ttyACM0")
@device_options()
def mark_stable_command(out: Output, where: Where) -> None:
    """Make the newest checkpoint, a candidate, a stable one that rollbacks return to."""
    _tell(out, where, "mark-stable", lambda device: device.mark_stable())


@command("rollback", example="kilotune rollback -p /dev/ttyACM0")
@device_options()
def rollback_command(out: Output, where: Where) -> None:
    """Return to the checkpoint before the newest one, permanently."""
    _tell(out, where, "rollback", lambda device: device.rollback())


@command("reset", example="kilotune reset -p /dev/ttyACM0")
@device_options()
def reset_command(out: Output, where: Where) -> None:
    """Restart the device; anything not committed is lost."""
    _tell(out, where, "reset", lambda device: device.reset())


def _tell(out: Output, where: Where, what: str, act: Callable[[Device], object]) -> None:
    with where.connect(where.image) as device:
        act(device)
        data = {"done": what, "target": where.named(), "status": plain(device.status())}
    told = {"checkpoint": {**data["status"]["checkpoint"], "stable": data["status"]["stable"]}}
    out.result(data, pairs([("done", what), *flattened(told)]))


@command(
    "provision",
    example="kilotune provision -p /dev/ttyACM0\nkilotune provision -p /dev/ttyACM0 --reading closed --change",
)
@device_options()
@click.option(
    "--reading",
    type=click.Choice(("open", "closed")),
    default="open",
    show_default=True,
    help="Who may read scores and status: anyone (open), or only holders of the key (closed).",
)
@click.option("--change", is_flag=True, help="Replace the key of a device that has one.")
@click.option("--remove", is_flag=True, help="Remove the key: then anyone may do anything.")
def provision_command(out: Output, where: Where, reading: str, change: bool, remove: bool) -> None:
    """Give a device a key: from then on, nobody can change the device without it.

    The key is saved in your key folder under the device's unique id, where every command finds it, or in
    --key-file. If that file exists, its key is used, but only with --insecure, because it crosses the line readable.
    Keep a copy: without the key, the device must be erased.
    """
    from kilotune.device import provisioning
    from kilotune.terms import Lock

    if change and remove:
        raise KilotuneError("bad_argument", "--change and --remove exclude each other", "give one of them")
    if remove:
        refuse_given(("reading",), "--remove removes the lock")
    lock = Lock.all if reading == "closed" else Lock.writes
    with where.connect(where.image, new_key=not (change or remove)) as device:
        if remove:
            done = provisioning.remove(device, device.keys)
        elif change:
            done = provisioning.change(device, device.keys, lock)
        else:
            done = provisioning.provision(device, device.keys, lock)
    data = plain(done)
    out.result(data, pairs([(name, value or "-") for name, value in data.items()]))


@command("pull", example="kilotune pull -p /dev/ttyACM0 --image model.ktm -o adapter/")
@device_options()
@click.option("-o", "--out", "folder", type=FOLDER, required=True, help="Folder for the adapter; needs --image.")
def pull_command(out: Output, where: Where, folder: Path) -> None:
    """Fetch the adapter from a device as safetensors and JSON."""

    with (
        where.connect(where.image) as device,
        out.progress("pulling"),
    ):
        adapter = device.pull()
    adapter.save(folder)
    data = {"adapter": str(folder), "files": sorted(p.name for p in folder.iterdir())}
    out.result(data, f"adapter written to {folder}")


@command("push", example="kilotune push adapter/ -p /dev/ttyACM0")
@click.argument("adapter", type=click.Path(exists=True, file_okay=False, path_type=Path))
@device_options()
@require_tag_option
def push_command(out: Output, where: Where, adapter: Path, require_tag: bool) -> None:
    """Send an adapter to a device; it becomes the newest checkpoint."""
    loaded = load_adapter(out, adapter, where.key_file, require_tag)
    with (
        where.connect(where.image) as device,
        out.progress("pushing"),
    ):
        device.push(loaded)
        data = {"done": "push", "target": where.named(), "status": plain(device.status())}
    out.result(data, pairs([("done", "push"), *flattened({"checkpoint": data["status"]["checkpoint"]})]))
