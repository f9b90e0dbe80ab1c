"""Commands that make a device compute: stream, infer, train, bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.groups import refuse_given
from kilotune.cli.options import (
    EXISTING,
    FILE,
    FOLDER,
    Real,
    Where,
    device_options,
    learn_options,
    load_adapter,
    refuse_unread,
    source_options,
)
from kilotune.cli.output import Output, flattened, pairs, plain
from kilotune.cli.streaming import divided, load_for, parse_labels, shown, summarised
from kilotune.errors import KilotuneError
from kilotune.terms import Loss

if TYPE_CHECKING:
    import numpy.typing as npt

    from kilotune.device.learning import LearnOptions
    from kilotune.link.status import RefusedError
    from kilotune.recordings import ReadOptions


@command(
    "stream",
    example="kilotune stream healthy.csv -p /dev/ttyACM0 --learn --commit\n"
    "kilotune stream healthy.npz new.npz --target twin --image model.ktm --learn --detect --json\n"
    "kilotune stream synthetic:healthy synthetic:inner,seed=3 -t twin --image model.ktm --learn --detect",
)
@click.argument("sources", nargs=-1, required=True, metavar="FILES...")
@device_options()
@source_options
@learn_options
@click.option("--learn", "do_learn", is_flag=True, help="Learn from the recordings.")
@click.option(
    "--detect",
    "do_detect",
    is_flag=True,
    help="Score the recordings (the default). With --learn: learn from the first, score the others.",
)
@click.option(
    "--learn-files",
    type=click.IntRange(min=1),
    help="With --learn and --detect: number of files to learn from [default: 1, or half of a single file].",
)
@click.option(
    "--learn-seconds",
    type=Real(min=0, min_open=True),
    help="With --learn and --detect: seconds to learn from, counted over all files in order.",
)
@click.option("--labels", metavar="0,1,..", help="Class number of each file to learn from, for classifiers.")
@click.option("--commit", "do_commit", is_flag=True, help="Save what was learned in the device's flash.")
@click.option("--pull", "pulled", type=FOLDER, help="Then fetch the adapter into this folder; needs --image.")
def stream_command(
    out: Output,
    sources: tuple[str, ...],
    where: Where,
    read: ReadOptions,
    learning: LearnOptions,
    do_learn: bool,
    do_detect: bool,
    learn_files: int | None,
    learn_seconds: float | None,
    labels: str | None,
    do_commit: bool,
    pulled: Path | None,
) -> None:
    """Stream recordings, or a simulated machine, through a device: learn, detect, or both.

    With --json, each window is one line of JSON; the last line is the summary or the error. If the device's flash
    does not accept the commit, both are printed, the summary first.
    """
    from kilotune.studies.streaming import run, without_window

    _refuse_unused(do_learn, do_detect, learn_files, learn_seconds)
    refuse_unread(sources)
    if pulled is not None and where.image is None:
        raise KilotuneError("bad_argument", "--pull needs the model image", "give it with --image model.ktm")
    refusals: list[RefusedError] = []
    with (
        where.connect(where.image) as device,
        out.progress("streaming") as bar,
    ):
        recordings = load_for(device, sources, read, out)
        to_learn, to_detect = divided(recordings, do_learn, do_detect, learn_files, learn_seconds)
        for note in without_window([*to_learn, *to_detect], device.info().window):
            out.note(note)
        if do_learn and do_detect and not to_detect:
            out.note("learning takes all of the recordings, so nothing is left to score")
        summary = run(
            device,
            to_learn=to_learn,
            to_detect=to_detect,
            options=learning,
            labels=parse_labels(labels),
            commit=do_commit,
            emit=lambda event: out.row(*shown(event)),
            progress=bar,
            on_refused_commit=refusals.append,
        )
        if pulled is not None:
            device.pull().save(pulled)
    out.row(*summarised(summary))
    for refused in refusals:
        raise refused.with_hint(_rescue(where, pulled))


def _rescue(where: Where, pulled: Path | None) -> str:
    """How what was learned and not committed is kept."""
    if pulled is not None:
        return f"what it learned is in {pulled}; `kilotune inspect` says which boards can keep it in flash"
    if where.is_port():
        return (
            f"it keeps what it learned until it restarts: `kilotune pull -p {where.named()} --image FILE -o adapter/`"
        )
    return "give --pull FOLDER, too: it fetches what the device learned before the device ends"


def _refuse_unused(do_learn: bool, do_detect: bool, learn_files: int | None, learn_seconds: float | None) -> None:
    if not do_learn:
        learn_options.refuse("without --learn nothing is learned")
        refuse_given(("labels", "do_commit", "pulled"), "without --learn nothing is learned")
    if not (do_learn and do_detect):
        refuse_given(("learn_files", "learn_seconds"), "only --learn and --detect together divide the recordings")
    if learn_files is not None and learn_seconds is not None:
        raise KilotuneError(
            "bad_argument", "--learn-files and --learn-seconds both say how much to learn from", "give one of them"
        )


@command(
    "infer",
    example="kilotune infer model.ktm --target twin -i x.npy -o y.npy\n"
    "kilotune infer model.ktm --target qemu:mps2-an386 -i x.npy -o y.npy --adapter adapter/",
)
@click.argument("image", type=EXISTING)
@device_options(image_option=False)
@click.option(
    "-i",
    "--input",
    "source",
    type=EXISTING,
    required=True,
    help="int8 model inputs (.npy), one row per sample.",
)
@click.option("-o", "--out", "result", type=FILE, required=True, help="int8 model outputs (.npy) to write.")
@click.option(
    "--adapter",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Push this adapter to the device first.",
)
def infer_command(out: Output, image: Path, where: Where, source: Path, result: Path, adapter: Path | None) -> None:
    """Run ready int8 inputs through the model on the device."""
    import numpy as np

    from kilotune.common.arrays import load_inputs, save_array
    from kilotune.common.files import keep_apart, require_writable
    from kilotune.image.image import Image

    keep_apart({"--out": result}, {"the image": image, "the inputs": source})
    model = Image.load(image)
    inputs = load_inputs(source, model.input_bytes)
    require_writable(result)
    loaded = load_adapter(out, adapter, where.key_file) if adapter is not None else None
    with where.connect(model, fresh=True) as device:
        if loaded is not None:
            device.push(loaded)
        with out.progress("inferring"):
            outputs = np.asarray(device.infer(inputs), np.int8)
    save_array(result, outputs)
    data = {"outputs": str(result), "rows": int(outputs.shape[0]), "values": int(outputs.shape[1])}
    out.result(data, f"{result}: {data['rows']} rows of {data['values']} values")


@command(
    "train",
    example="kilotune train model.ktm -t twin -i x.npy --steps 500 --lr 0.01 --seed 1 -o adapter/\n"
    "kilotune train model.ktm -t twin -i x.npy --labels y.npy --steps 90 --lr 0.01 --seed 1 -o adapter/",
)
@click.argument("image", type=EXISTING)
@device_options(image_option=False)
@click.option(
    "-i",
    "--input",
    "source",
    type=EXISTING,
    required=True,
    help="int8 model inputs (.npy), one row per sample.",
)
@click.option(
    "--labels",
    type=EXISTING,
    help="Class numbers (.npy) for a classifier, targets for regression; omit for reconstruction.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=0),
    required=True,
    help="Training steps; the inputs are used in turn, again and again.",
)
@click.option("--lr", type=Real(min=0, min_open=True), required=True, help="Learning rate.")
@click.option(
    "--momentum",
    type=Real(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Momentum; above 0 it needs an image compiled with --momentum.",
)
@click.option(
    "--decay",
    type=Real(min=0),
    default=0.0,
    show_default=True,
    help="Weight decay towards the base model.",
)
@click.option("--accumulate", type=click.IntRange(1, 65535), default=1, show_default=True, help="Samples per update.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), required=True, help="Seed of stochastic rounding.")
@click.option("-o", "--out", "folder", type=FOLDER, required=True, help="Folder for the adapter.")
def train_command(
    out: Output,
    image: Path,
    where: Where,
    source: Path,
    labels: Path | None,
    steps: int,
    lr: float,
    momentum: float,
    decay: float,
    accumulate: int,
    seed: int,
    folder: Path,
) -> None:
    """Train on ready int8 inputs, without features, then pull the adapter and save it."""
    from kilotune.adapters.config import CONFIG_FILE
    from kilotune.common.arrays import load_inputs, load_labels, load_targets
    from kilotune.common.files import require_writable
    from kilotune.image.image import Image

    model = Image.load(image)
    inputs = load_inputs(source, model.input_bytes)
    rows = inputs.shape[0]
    classes: npt.NDArray[Any] | None = None
    if labels is not None and model.loss is Loss.regression:
        classes = load_targets(labels, rows, model.output_bytes, *model.output_quantisation)
    elif labels is not None:
        classes = load_labels(labels, rows)
    require_writable(folder / CONFIG_FILE)
    with where.connect(model, fresh=True) as device:
        with out.progress("training") as bar:
            device.train(
                inputs,
                labels=classes,
                steps=steps,
                lr=lr,
                momentum=momentum,
                weight_decay=decay,
                accumulate=accumulate,
                seed=seed,
                progress=lambda p: bar(p.done, p.total),
            )
        adapter = device.pull()
    adapter.save(folder)
    data = {"adapter": str(folder), "steps": steps, "adapter_sha256": adapter.sha256}
    out.result(data, pairs(list(data.items())))


@command(
    "bench",
    example="kilotune bench model.ktm --target qemu:mps2-an386 --json\n"
    "kilotune bench model.ktm --target qemu:mps2-an386 --window --json",
)
@click.argument("image", type=EXISTING)
@device_options(image_option=False)
@click.option(
    "--count",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Repetitions to average over.",
)
@click.option(
    "--window",
    is_flag=True,
    help="Count the whole job, too: windows by stage, a learn phase, commit and start. Targets qemu:mps2-...",
)
def bench_command(out: Output, image: Path, where: Where, count: int, window: bool) -> None:
    """Count the instructions of an inference and a training step, and the memory used.

    With --window, also those of a window of random samples, by stage: from the samples' arrival to the score.
    """
    from kilotune.image.image import Image
    from kilotune.studies.benchmark import benchmark, firmware_for, window_costs

    model = Image.load(image)
    firmware = firmware_for(where.named(), image)
    with (
        where.connect(model, fresh=True) as device,
        out.progress("measuring"),
    ):
        figures = benchmark(device, model, firmware=firmware, count=count)
    data = {"target": where.named(), **plain(figures)}
    if window:
        with out.progress("counting windows"):
            data["instructions"].update(plain(window_costs(where.named(), image)))
    flat = flattened(dict(sorted(data.items(), key=lambda item: isinstance(item[1], dict))))
    out.result(data, pairs([(k, "unknown" if v is None else f"{v:,}" if isinstance(v, int) else v) for k, v in flat]))
