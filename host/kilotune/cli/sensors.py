"""Commands for a device's sensor: record, record-to-resd."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.groups import refuse_given
from kilotune.cli.options import FILE, Real, Where, device_options, refuse_unread, source_options
from kilotune.cli.output import Output, pairs, plain

if TYPE_CHECKING:
    from kilotune.recordings import ReadOptions

_RENODE_FORMATS = ("resd", "adxl345", "g")


@command(
    "record",
    example="kilotune record -p /dev/ttyACM0 -o healthy.npz --seconds 60\n"
    "kilotune record -t native:lis2dw12=synthetic:healthy --image model.ktm -o healthy.csv --seconds 5 --json",
)
@device_options()
@click.option("-o", "--out", "file", type=FILE, required=True, help="The .npz or .csv file to write.")
@click.option(
    "--seconds",
    type=Real(min=0, min_open=True, max=86400),
    default=10.0,
    show_default=True,
    help="Length of the recording in seconds, by the sensor's clock.",
)
def record_command(out: Output, where: Where, file: Path, seconds: float) -> None:
    """Record the raw samples of a device's sensor, with time stamps and the number of lost samples.

    After Ctrl-C, or if the device is lost, what was recorded until then is still written.
    """
    from kilotune.common.files import require_writable
    from kilotune.device.recorder import FORMATS, LiveRecording, record
    from kilotune.errors import KilotuneError

    if file.suffix.lower() not in FORMATS:
        raise KilotuneError(
            "bad_argument", f"{file.name}: recordings are not written in that format", "use " + " or ".join(FORMATS)
        )
    require_writable(file)

    def rescue(part: LiveRecording) -> None:
        part.save(file)
        out.note(f"{file} holds the {len(part.counts) / part.rate_hz:.1f} s that were recorded until then")

    with (
        where.connect(where.image) as device,
        out.progress("recording") as bar,
    ):
        found = record(device, seconds=seconds, progress=bar, rescue=rescue)
    found.save(file)
    data = {
        "file": str(file),
        "sensor": found.chip,
        "rate_hz": found.rate_hz,
        "full_scale_g": found.full_scale_g,
        "samples": len(found.counts),
        "dropped": found.dropped,
        "overruns": found.overruns,
        "stretches": plain(found.stretches),
    }
    if found.dropped or found.overruns:
        out.note("samples are missing: the file says where, and no window is cut across such a gap")
    out.result(data, pairs(list(data.items())))


@command(
    "record-to-resd",
    example="kilotune record-to-resd healthy.npz -o healthy.resd\n"
    "kilotune record-to-resd healthy.csv -o healthy.txt --format adxl345 --rate 800 --json",
)
@click.argument("source", metavar="FILE")
@source_options
@click.option("-o", "--out", "target", type=FILE, required=True, help="The file to write.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_RENODE_FORMATS),
    default="resd",
    show_default=True,
    help="resd: Renode's RESD; adxl345: text for its FeedSample; g: text in g for FeedAccelerationSample.",
)
@click.option(
    "--begin", type=Real(min=0), default=0.0, help="Virtual time of the first sample in seconds [default: 0]."
)
@click.option("--channel", type=click.IntRange(0, 65535), default=0, help="Channel in the RESD file [default: 0].")
def record_to_resd_command(
    out: Output, source: str, read: ReadOptions, target: Path, form: str, begin: float, channel: int
) -> None:
    """Convert a recording to a file that Renode's sensors read."""
    from kilotune.common.files import keep_apart, write_atomically
    from kilotune.errors import KilotuneError
    from kilotune.recordings import read as read_source
    from kilotune.targets import resd

    if form != "resd":
        refuse_given(("begin", "channel"), f"the format {form} has neither times nor channels")
    refuse_unread([source])
    keep_apart({"--out": target}, {"the recording": Path(source)})
    recording = read_source(source, read)
    if recording.unit != "g":
        raise KilotuneError(
            "bad_argument", f"{recording.name} holds counts, but Renode's sensors need g", "give --unit, --scale"
        )
    if len(recording.starts) > 1:
        raise KilotuneError(
            "gap", f"{recording.name} has {len(recording.starts) - 1} gaps", "cut them off with --start and --seconds"
        )
    if form == "resd":
        content = resd.encode_resd(recording.samples, recording.rate_hz, start_s=begin, channel=channel)
    else:
        text = resd.encode_adxl345 if form == "adxl345" else resd.encode_g
        content = text(recording.samples).encode()
    write_atomically(target, content)
    data = {
        "file": str(target),
        "format": form,
        "rate_hz": recording.rate_hz,
        "samples": len(recording.samples),
        "bytes": len(content),
    }
    out.result(data, pairs(list(data.items())))
