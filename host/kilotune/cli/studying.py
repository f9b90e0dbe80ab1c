"""Commands that show what learning achieves: evaluate, report, demo."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.command import command
from kilotune.cli.compiling import life_options
from kilotune.cli.groups import Decorated
from kilotune.cli.life_study import History, history_options, life_data, life_json, life_text, required
from kilotune.cli.looking import tell_understood
from kilotune.cli.options import (
    EXISTING,
    FILE,
    FOLDER,
    Real,
    Where,
    device_options,
    learn_options,
    refuse_unread,
    source_options,
)
from kilotune.cli.output import Output, pairs, plain
from kilotune.errors import KilotuneError
from kilotune.studies.holding_out import HOLD_OUT

if TYPE_CHECKING:
    from kilotune.device.learning import LearnOptions
    from kilotune.image.base_profile import LifeSettings
    from kilotune.recordings import ReadOptions, Recording


def held_out(function: Decorated) -> Decorated:
    """Adds --healthy-test, --hold-out and --share."""
    for option in (
        click.option(
            "--share",
            type=Real(0.1, 0.9),
            default=0.5,
            show_default=True,
            help="Part of the healthy recordings, or of each, to learn from.",
        ),
        click.option(
            "--hold-out",
            type=click.Choice(HOLD_OUT),
            default="auto",
            show_default=True,
            help="The test: whole healthy files, the end of each (blocks), or files from 3 on (auto).",
        ),
        click.option(
            "--healthy-test", multiple=True, help="Healthy recording to test on, not to learn from; repeatable."
        ),
    ):
        function = option(function)
    return function


@command(
    "evaluate",
    example="kilotune evaluate --healthy ok1.csv --healthy ok2.csv --fault bad.csv --rate 20000\n"
    "kilotune evaluate --healthy monday.csv --healthy-test friday.csv --fault bad.csv --rate 20000 --reservoir 64\n"
    "kilotune evaluate --healthy synthetic:healthy --fault synthetic:inner --model ae.tflite --json\n"
    "kilotune evaluate --life 'history/*.csv' --rate 20000 --every 600 --healthy-files 300",
)
@history_options
@click.option("--healthy", multiple=True, help="Recording of the healthy machine; repeatable.")
@click.option("--fault", multiple=True, help="Recording of a faulty machine; repeatable.")
@held_out
@click.option("--model", type=EXISTING, help="Base model (.tflite) with features [default: the shipped one that fits].")
@click.option("--reservoir", type=click.IntRange(1, 255), help="Windows that the device stores [default: 32].")
@life_options
@source_options
@learn_options.only("passes", "lr", "seed")
def evaluate_command(
    out: Output,
    history: History,
    lived: LifeSettings | None,
    healthy: tuple[str, ...],
    fault: tuple[str, ...],
    healthy_test: tuple[str, ...],
    hold_out: str,
    share: float,
    model: Path | None,
    reservoir: int | None,
    read: ReadOptions,
    learning: LearnOptions,
) -> None:
    """Compare all methods and simple baselines on recordings; recommend one and say why.

    Runs on the twin, which computes exactly what a device computes. Rates come with 95 % intervals; warnings say
    where the sides differ in how they were recorded. With --life, the files are one machine's history: how many false
    alarms a device that goes on learning raises, and how early it warns, beside plain scores by the same policy.
    """
    if history.given:
        _evaluate_life(out, history, lived, model, reservoir, read, learning)
        return
    life_options.refuse("without --life there are no records")
    required(healthy, fault)
    from kilotune.cli.evaluation import evaluation_json, evaluation_text
    from kilotune.recordings import read_all
    from kilotune.studies.evaluation import evaluate
    from kilotune.studies.streaming import features_of

    refuse_unread((*healthy, *healthy_test, *fault))
    chosen = model or _model_for(out, healthy, read)
    config = features_of(chosen)
    rate_hz = config.rate_hz
    ok, test, bad = _alike(read_all(part, read, model_rate_hz=rate_hz) for part in (healthy, healthy_test, fault))
    tell_understood(out, (*ok, *test, *bad))
    with out.progress("evaluating") as bar:
        found = evaluate(
            chosen,
            ok,
            bad,
            options=learning,
            healthy_test=test,
            share=share,
            by=hold_out,
            reservoir=reservoir,
            progress=bar,
        )
    out.result(evaluation_json(found, chosen), evaluation_text(found))


def _evaluate_life(
    out: Output,
    history: History,
    lived: LifeSettings | None,
    model: Path | None,
    reservoir: int | None,
    read: ReadOptions,
    learning: LearnOptions,
) -> None:
    from kilotune.compiler.compile import compile_with
    from kilotune.compiler.options import CompileOptions
    from kilotune.image.base_profile import LifeSettings
    from kilotune.studies.lives import study_life
    from kilotune.studies.streaming import features_of
    from kilotune.targets.twin import Twin
    from kilotune.terms import Method

    chosen = model or _model_for(out, history.files, read)
    recordings = history.read(out, read, features_of(chosen).rate_hz)
    options = CompileOptions(method=Method.bias_and_head, reservoir=reservoir or 32, life=lived or LifeSettings())
    with Twin(compile_with(chosen, options)) as device, out.progress("living") as bar:
        found = study_life(
            device, recordings, options=learning, healthy_files=history.healthy_files, every_s=history.every_s,
            progress=bar,
        )  # fmt: skip
    out.result(life_json(found, chosen), life_text(found))


def _model_for(out: Output, healthy: tuple[str, ...], read: ReadOptions) -> Path:
    """The shipped anomaly model for the first of these recordings."""
    from kilotune.recordings import expand
    from kilotune.recordings import read as read_file
    from kilotune.studies.base_models import anomaly_model_for

    first = read_file(expand(healthy)[0], replace(read, seconds=min(read.seconds or 1.0, 1.0)))
    chosen = anomaly_model_for(first.rate_hz, first.axes)
    out.say(f"model: {chosen.stem}, the shipped one for {first.axes} axes at {first.rate_hz:g} Hz (or give --model)")
    return chosen


def _alike(sides: Iterable[list[Recording]]) -> list[list[Recording]]:
    """All with one number of axes."""
    found = list(sides)
    axes = {r.axes for side in found for r in side}
    if len(axes) > 1:
        odd = ", ".join(f"{r.name} {r.axes}" for side in found for r in side[:2])
        raise KilotuneError("wrong_axes", f"the recordings differ in their axes: {odd}", "choose with --columns")
    return found


@command(
    "report",
    example="kilotune report --target twin --image model.ktm --healthy ok.csv --fault bad.csv -o report.html\n"
    "kilotune report --target twin --image model.ktm --life 'history/*.csv' --every 600 -o life.html",
)
@history_options
@device_options()
@click.option("--healthy", multiple=True, help="Recording of the healthy machine; repeatable.")
@click.option("--fault", multiple=True, help="Recording of a faulty machine; repeatable.")
@held_out
@click.option("--title", default="What the device learned", show_default=True, help="Headline of the page.")
@click.option("-o", "--out", "page", type=FILE, required=True, help="The HTML file to write.")
@source_options
@learn_options.only(*learn_options.names - {"lives"})
def report_command(
    out: Output,
    history: History,
    where: Where,
    healthy: tuple[str, ...],
    fault: tuple[str, ...],
    healthy_test: tuple[str, ...],
    hold_out: str,
    share: float,
    title: str,
    page: Path,
    read: ReadOptions,
    learning: LearnOptions,
) -> None:
    """Score recordings on a device before and after learning, and write one self-contained HTML page.

    Nothing is committed: at the end, the device is back at its last checkpoint. With --life, the device lives through
    one machine's history instead, commits as it goes on learning, and the page shows that life as a picture.
    """
    if history.given:
        _report_life(out, history, where, title, page, read, learning)
        return
    required(healthy, fault)
    from kilotune.cli.evaluation import row_json
    from kilotune.common.files import keep_apart, require_writable, write_atomically
    from kilotune.image.image import Image
    from kilotune.recordings import read_all, require_alike
    from kilotune.report import render
    from kilotune.report.budgets import report_budgets
    from kilotune.studies.before_after import study
    from kilotune.studies.benchmark import benchmark, firmware_for
    from kilotune.studies.findings import findings
    from kilotune.studies.holding_out import hold_out as split
    from kilotune.studies.reporting import report_data

    refuse_unread((*healthy, *healthy_test, *fault))
    if where.image is None:
        raise KilotuneError("bad_argument", "a report needs the model image", "give it with --image model.ktm")
    keep_apart(
        {"--out": page}, {"the image": where.image, **{name: Path(name) for name in (*healthy, *healthy_test, *fault)}}
    )
    image = Image.load(where.image)
    config = image.features
    if config is None:
        raise KilotuneError("no_features", "the image takes ready inputs, not samples", "use an image with features")
    ok, other, bad = _alike(
        read_all(part, read, model_rate_hz=config.rate_hz) for part in (healthy, healthy_test, fault)
    )
    alike = require_alike((*ok, *other, *bad), read)
    notes = tuple(dict.fromkeys([*(n for r in (*ok, *other, *bad) for n in r.notes), *alike]))
    parts = split(ok, other, fault=bad, share=share, window=config.window, by=hold_out)
    require_writable(page)
    with (
        where.connect(image) as device,
        out.progress("studying") as bar,
    ):
        found = study(device, to_learn=parts.learn, healthy=parts.test, fault=bad, options=learning, progress=bar)
        built = firmware_for(where.named(), where.image)
        budgets = report_budgets(image, benchmark(device, image, firmware=built), built)
    told = findings(found, image, learn=parts.learn, healthy=parts.test, fault=bad, options=learning)
    data = report_data(
        found,
        image,
        title=title,
        subtitle=where.named(),
        findings=told,
        budgets=budgets,
        notes=(f"The test: {parts.how}.", *notes, *parts.notes),
        commands=(shlex.join(["kilotune", *sys.argv[1:]]),),
    )
    write_atomically(page, render(data).encode(errors="replace"))
    result = {
        "report": str(page),
        "before": plain(found.before.separation),
        "after": plain(found.after.separation),
        "test": parts.how,
        "rows": [row_json(r) for r in told.rows],
        "warnings": [*parts.notes, *told.notes],
    }
    out.result(result, "\n".join((*data.story, *(f"warning: {n}" for n in told.notes), str(page))))


def _report_life(
    out: Output,
    history: History,
    where: Where,
    title: str,
    page: Path,
    read: ReadOptions,
    learning: LearnOptions,
) -> None:
    from kilotune.common.files import keep_apart, require_writable, write_atomically
    from kilotune.image.image import Image
    from kilotune.recordings import expand
    from kilotune.report.life_page import render_life
    from kilotune.studies.lives import study_life

    if where.image is None:
        raise KilotuneError("bad_argument", "a report needs the model image", "give it with --image model.ktm")
    keep_apart({"--out": page}, {"the image": where.image, **{name: Path(name) for name in expand(history.files)}})
    image = Image.load(where.image)
    if image.features is None:
        raise KilotuneError("no_features", "the image takes ready inputs, not samples", "use an image with features")
    recordings = history.read(out, read, image.features.rate_hz)
    require_writable(page)
    with where.connect(image) as device, out.progress("living") as bar:
        found = study_life(
            device, recordings, options=learning, healthy_files=history.healthy_files, every_s=history.every_s,
            progress=bar,
        )  # fmt: skip
    data = life_data(found, title, where.named())
    write_atomically(page, render_life(data).encode(errors="replace"))
    told = life_json(found, where.image)
    out.result({"report": str(page), **told}, "\n".join((*data.story, str(page))))


@command("demo", example="kilotune demo\nkilotune demo --target twin -o build/demo --json")
@click.option(
    "-t",
    "--target",
    default="qemu:mps2-an386",
    show_default=True,
    help="Where to run; native if the tools for it are missing.",
)
@click.option(
    "-o",
    "--out",
    "folder",
    type=FOLDER,
    default=Path("build/demo"),
    show_default=True,
    help="Folder for everything the demo makes.",
)
@click.option(
    "--data",
    "data",
    multiple=True,
    help="Your own recording of the healthy machine, instead of a simulated one; repeatable.",
)
@click.option("--fault", multiple=True, help="With --data: recording of the faulty machine; repeatable.")
@click.option(
    "--timeout",
    type=Real(min=0.1, max=86400),
    default=60.0,
    show_default=True,
    metavar="S",
    help="Longest wait for any one answer, in seconds.",
)
@source_options
def demo_command(
    out: Output,
    target: str,
    folder: Path,
    data: tuple[str, ...],
    fault: tuple[str, ...],
    timeout: float,
    read: ReadOptions,
) -> None:
    """Watch an emulated board adapt to a machine its model has never seen, and keep what it learned across resets."""
    from kilotune.studies.demo import run

    if bool(data) != bool(fault):
        raise KilotuneError("bad_argument", "--data and --fault need each other", "give both or neither")
    if not data:
        source_options.refuse("without --data the demo simulates a machine")
    refuse_unread((*data, *fault))
    result = run(target=target, folder=folder, healthy=data, fault=fault, read=read, timeout_s=timeout, say=out.say)
    body = plain(result)
    if out.as_json:
        out.result(body, "")
    else:
        out.say("\n" + pairs([("report", result.report), ("adapter", result.adapter), ("merged model", result.merged)]))
    if not result.ok:
        failed = ", ".join(c.name for c in result.checks if not c.ok)
        raise KilotuneError("mismatch", f"the demo ran, but these checks failed: {failed}", "see the report")
