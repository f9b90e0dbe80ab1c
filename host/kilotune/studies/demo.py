"""The main job end to end: an emulated board adapts to a machine that its model has never seen.

Compile, load, score, learn, commit, reset, still know, pull, compare with the twin, merge, check, report.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kilotune.common.files import write_atomically
from kilotune.errors import KilotuneError
from kilotune.report.metrics import Separation
from kilotune.studies.demo_machine import PICKED, CaseResult, Streams, judge_cases, own, simulated

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from kilotune.adapters.adapter import Adapter
    from kilotune.image.image import Image
    from kilotune.recordings import ReadOptions
    from kilotune.report.data import Benchmark
    from kilotune.studies.before_after import Stage, Study
    from kilotune.studies.findings import Findings
    from kilotune.targets.build import FirmwareBuild

    Say = Callable[[str], None]

METHOD = "bias+head"
SEED = 1
MERGE_ROWS = 200  # random inputs on which the merged model is compared


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class DemoResult:
    target: str
    ok: bool
    seconds: float
    before: Separation
    after: Separation
    cases: tuple[CaseResult, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    image: Path
    adapter: Path
    adapter_sha256: str
    merged: Path
    report: Path


def run(
    *,
    target: str,
    folder: Path,
    healthy: Sequence[str] = (),
    fault: Sequence[str] = (),
    read: ReadOptions | None = None,
    timeout_s: float = 60.0,
    say: Callable[[str], None] = lambda text: None,
) -> DemoResult:
    """Runs the whole story and leaves all that it made in `folder`, which is emptied first."""
    from kilotune.compiler.compile import compile as compile_model
    from kilotune.device.learning import LearnOptions
    from kilotune.studies.base_models import base_model
    from kilotune.studies.findings import findings

    began = time.monotonic()
    _prepare(folder)
    model = base_model()
    image = compile_model(model, method="bias+head")
    image.save(folder / "model.ktm")
    say(f"1. Compiled {model.name} for the device: {len(image.content):,} bytes of flash, method {METHOD}.")
    streams = own(image, healthy, fault, read) if healthy else simulated(image)
    say(f"2. The machine: {streams.words}.")
    chosen, notes = available(target)
    for note in notes:
        say(f"   {note}")
    if not healthy:
        notes.append(PICKED)
    checks: list[Check] = []
    found, adapter, board = _on_device(chosen, image, folder / "flash", streams, timeout_s, checks, say)
    adapter.save(folder / "adapter")
    _compare_with_twin(image, streams, folder, found, checks, say)
    merged = _merge(model, image, adapter, folder, checks, notes, timeout_s, say)
    options = LearnOptions(seed=SEED)
    told = findings(found, image, learn=streams.learn, healthy=streams.healthy, fault=streams.fault, options=options)
    cases, tables = judge_cases(found, image, streams, options, told)
    if tables:
        told = replace(told, tables=(*tables, *told.tables[1:]))
    for case in cases:
        say(f"   {case.words}.")
    page = _report(found, image, streams, folder, chosen, board, checks, notes, cases, told)
    seconds = time.monotonic() - began
    say(f"8. Report: {page} ({seconds:.0f} s in all).")
    result = DemoResult(
        target=chosen,
        ok=all(c.ok for c in checks),
        seconds=seconds,
        before=found.before.separation,
        after=found.after.separation,
        cases=cases,
        checks=tuple(checks),
        notes=tuple(notes),
        image=folder / "model.ktm",
        adapter=folder / "adapter",
        adapter_sha256=adapter.sha256,
        merged=merged,
        report=page,
    )
    return result


def _prepare(folder: Path) -> None:
    """An empty folder of our own; one that holds anything else is left alone."""
    mark = folder / ".kilotune-demo"
    if folder.exists() and any(folder.iterdir()):
        if not mark.exists():
            raise KilotuneError(
                "bad_argument",
                f"{folder} holds files that the demo did not make",
                "choose an empty folder with --out",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.touch()


def available(target: str) -> tuple[str, list[str]]:
    """The target, or `native` where the tools for an emulated board are missing, with the reason."""
    if not target.startswith("qemu:"):
        return target, []
    missing = [tool for tool in ("arm-none-eabi-g++", "qemu-system-arm") if shutil.which(tool) is None]
    if not missing:
        return target, []
    return "native", [
        f"{' and '.join(missing)} missing, so no emulated board: the same firmware runs as a process of this "
        "computer instead (`kilotune doctor` says what to install)"
    ]


@dataclass(frozen=True, slots=True)
class Board:
    """What the device said of itself at the end."""

    name: str
    firmware: str
    benchmark: Benchmark
    built: FirmwareBuild | None


def _on_device(
    target: str, image: Image, flash: Path, streams: Streams, timeout_s: float, checks: list[Check], say: Say
) -> tuple[Study, Adapter, Board]:
    from kilotune.device.learning import LearnOptions
    from kilotune.studies.before_after import Study, score_stage
    from kilotune.studies.benchmark import benchmark, firmware_for
    from kilotune.studies.streaming import learn
    from kilotune.studies.windows import Window
    from kilotune.targets.connect import connect
    from kilotune.targets.target import parse_target

    options = LearnOptions(seed=SEED)
    # Made here, so it never held a key; emulated boards share their unique ids with those that may have one.
    own_flash = parse_target(target).kind != "port"
    with connect(target, image=image, state=flash, timeout_s=timeout_s, insecure=own_flash) as device:
        hello = device.info()
        say(f"3. {target} runs firmware {hello.firmware} on {hello.board}.")
        before = score_stage(device, streams.healthy, streams.fault, words=", before")
        say(f"4. Before learning: {_rates(before)}.")
        seen: list[Window] = []
        report = learn(device, streams.learn, options, emit=seen.append)
        guard = device.status().guard
        device.commit()
        committed = device.pull()
        say(f"5. Learned and committed: adapter {committed.sha256[:16]}, {len(committed.blob):,} bytes.")
        # In the middle of learning anew, with nothing committed, the device is reset.
        learn(device, streams.learn[:1], LearnOptions(seed=SEED + 1, passes=1))
        unsaved = device.pull()
        device.reset()
        _check(
            checks,
            "reset loses nothing that was committed",
            device.pull().blob == committed.blob,
            f"adapter {committed.sha256[:16]} before and after a reset in the middle of new learning",
        )
        _check(
            checks,
            "what was not committed was another adapter",
            unsaved.blob != committed.blob,
            "else the reset would have shown nothing",
        )
        after = score_stage(device, streams.healthy, streams.fault, words=", after")
        built = firmware_for(target, flash.parent / "model.ktm")
        board = Board(hello.board, hello.firmware, benchmark(device, image, firmware=built), built)
    # A second process, or a second power-on: only flash is left.
    with connect(target, image=image, state=flash, timeout_s=timeout_s, insecure=own_flash) as device:
        _check(
            checks,
            "a restart loses nothing that was committed",
            device.pull().blob == committed.blob,
            "power off, power on, pulled again",
        )
    seconds = sum(r.seconds for r in streams.learn)
    say(f"6. Reset and restarted, it still knows. After learning: {_rates(after)}.")
    return Study(before, seconds, report, guard, tuple(seen), after), committed, board


def _rates(stage: Stage) -> str:
    s = stage.separation
    return f"AUC {s.auc:.3f}, {100 * s.detection:.0f} % detected at {100 * s.false_alarms:.0f} % false alarms"


def _check(checks: list[Check], name: str, ok: bool, detail: str) -> None:
    checks.append(Check(name, ok, detail))


def _compare_with_twin(
    image: Image, streams: Streams, folder: Path, found: Study, checks: list[Check], say: Say
) -> None:
    """The same stream through the twin: the adapter's file and all scores must be the same, bit for bit."""
    from kilotune.device.learning import LearnOptions
    from kilotune.studies.before_after import score_stage
    from kilotune.studies.streaming import learn
    from kilotune.targets.connect import connect

    with connect("twin", image, fresh=True) as twin:
        before = score_stage(twin, streams.healthy, streams.fault, words=", before")
        learn(twin, streams.learn, LearnOptions(seed=SEED))
        twin.commit()
        twin.pull().save(folder / "twin-adapter")
        after = score_stage(twin, streams.healthy, streams.fault, words=", after")
    name = "adapter_model.safetensors"
    ours, theirs = ((folder / f / name).read_bytes() for f in ("adapter", "twin-adapter"))
    _check(
        checks,
        "adapter_model.safetensors is the twin's, byte for byte",
        ours == theirs,
        f"{len(ours):,} bytes",
    )
    same = (found.before, found.after) == (before, after)
    _check(checks, "every score is the twin's", same, "before and after learning")
    say(f"7. The twin, given the same stream, has {'the same' if ours == theirs else 'ANOTHER'} adapter.")


def _merge(
    model: Path,
    image: Image,
    adapter: Adapter,
    folder: Path,
    checks: list[Check],
    notes: list[str],
    timeout_s: float,
    say: Say,
) -> Path:
    """Merges, and runs the merged model in tflite-runtime against the device's own outputs."""
    import numpy as np

    from kilotune.adapters.merge import merge
    from kilotune.common.arrays import save_array
    from kilotune.targets.connect import connect

    merged = folder / "merged.tflite"
    write_atomically(merged, merge(model.read_bytes(), adapter))
    inputs = np.random.default_rng(SEED).integers(-128, 128, (MERGE_ROWS, image.input_bytes)).astype(np.int8)
    with connect("twin", image, timeout_s=timeout_s, fresh=True) as twin:
        twin.push(adapter)
        outputs = np.asarray(twin.infer(inputs), np.int8)
    save_array(folder / "merge-inputs.npy", inputs)
    reference = oracle_outputs(merged, folder / "merge-inputs.npy", folder / "merge-outputs.npy")
    if reference is None:
        notes.append("tflite-runtime is not installed: the merged model was not run in it")
        return merged
    differing = int((reference.reshape(outputs.shape) != outputs).sum())
    _check(
        checks,
        "the merged .tflite computes what the device computes",
        differing == 0,
        f"{differing} of {outputs.size:,} outputs differ in tflite-runtime on {MERGE_ROWS} random inputs",
    )
    say(f"   Merged into {merged.name}; tflite-runtime differs in {differing} of {outputs.size:,} outputs.")
    return merged


# tflite-runtime runs in a process of its own: it does not share one with tensorflow.
_ORACLE = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter, OpResolverType
model, source, target = sys.argv[1:]
x = np.load(source)
i = Interpreter(model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
i.allocate_tensors()
a, b = i.get_input_details()[0], i.get_output_details()[0]
y = []
for row in x:
    i.set_tensor(a["index"], row.reshape(a["shape"]))
    i.invoke()
    y.append(i.get_tensor(b["index"]).ravel().copy())
np.save(target, np.array(y))
"""


def oracle_outputs(model: Path, source: Path, target: Path) -> npt.NDArray[np.int8] | None:
    """(n, outputs) int8 of tflite-runtime's reference kernels; None where it is not installed."""
    import importlib.util

    import numpy as np

    if importlib.util.find_spec("tflite_runtime") is None:
        return None
    command = [sys.executable, "-c", _ORACLE, str(model), str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise KilotuneError("mismatch", f"tflite-runtime does not run the merged model: {last[0]}", "report this")
    loaded: npt.NDArray[np.int8] = np.load(target)
    return loaded


def _report(
    found: Study,
    image: Image,
    streams: Streams,
    folder: Path,
    target: str,
    board: Board,
    checks: list[Check],
    notes: list[str],
    cases: tuple[CaseResult, ...],
    told: Findings,
) -> Path:
    from kilotune.report import render
    from kilotune.report.budgets import report_budgets
    from kilotune.studies.reporting import report_data

    budgets = report_budgets(image, board.benchmark, board.built)
    adapter = json.loads((folder / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    facts = [("learned from", f"{found.learned_s:.1f} s of healthy vibration"), ("machine", streams.words)]
    if "sha256" in adapter:
        facts.append(("adapter, SHA-256", str(adapter["sha256"])))
    data = report_data(
        found,
        image,
        title="A machine that the model had never seen",
        subtitle=f"{target}, {board.name}, firmware {board.firmware}",
        findings=told,
        budgets=budgets,
        checks=tuple((c.name, c.ok, c.detail) for c in checks),
        notes=tuple(notes),
        facts=(*facts, *((case.name, case.words) for case in cases)),
        commands=(shlex.join(["kilotune", *sys.argv[1:]]),),
    )
    page = folder / "report.html"
    write_atomically(page, render(data).encode(errors="replace"))
    return page
