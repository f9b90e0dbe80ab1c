"""The learning table: what the device's own integer code learns on real recordings, next to host baselines.

    python tests/bench/learning.py [--seeds 4] [--protocols P1,P2,P3,P3s,P4,F] [--rows ...] [--windows N] [--json FILE]

--windows: detectors learn from so many windows, evenly spread over those of the protocol, and a quarter as many are
held back.

Base models are trained with tensorflow as the recipes do, quantised, compiled and run on the twin (the firmware's
code); base models are cached in build/bench. Prints a Markdown table: mean over cases and seeds.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import hashlib
import json
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import numpy.typing as npt
from kilotune import _native
from kilotune.compiler.compile import CompileOptions, compile_within
from kilotune.compiler.search import Budget, Samples
from kilotune.device.device import Device
from kilotune.image import metadata
from kilotune.image.base_profile import Profile
from kilotune.link.transport import InProcess
from kilotune.studies import baselines
from kilotune.studies.baselines import shrunk, student_threshold
from kilotune.terms import Loss
from kilotune.tflite import convert as quantize

from models.recipes import auc, dense, fit, representative, run_int8, standardise
from tests.bench import protocols
from tests.bench.protocols import Classification, Detection

CACHE = Path(__file__).parents[2] / "build" / "bench"
STEPS = 2400  # of base training, batches of 32
SIGMA = 6 / 127
DEVICE_ROWS: dict[str, tuple[str, dict[str, Any]]] = {  # row: (method of the image, learning settings)
    "calibration": ("bias", {"passes": 0, "scorer": "residual"}),
    "bias": ("bias", {"scorer": "residual", "force": True}),
    "head": ("head", {"scorer": "residual", "force": True}),
    "bias+head": ("bias+head", {"scorer": "residual", "force": True}),
    "lora": ("lora", {"scorer": "residual", "force": True}),
    "channels": ("channels", {"scorer": "residual", "force": True}),
    "nearest windows": ("bias", {"passes": 0, "scorer": "nearest"}),
    "bias+head and nearest": ("bias+head", {"scorer": "combined", "force": True}),
    "the device's pick": ("bias+head", {"scorer": "automatic"}),
}
CLASS_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "calibration": ("bias", {"passes": 0}),
    "bias": ("bias", {"force": True}),
    "head": ("head", {"force": True}),
    "bias+head": ("bias+head", {"force": True}),
    "lora": ("lora", {"force": True}),
    "channels": ("channels", {"force": True}),
}
METHODS: dict[str, dict[str, Any]] = {
    "bias": {},
    "head": {},
    "bias+head": {},
    "lora": {"rank": 2},
    "channels": {"channels": 8},
}
SEARCHES = {"search, half": 0.5, "search, whole": 1.0}
DETECT: dict[str, Any] = {"lr": 0.5, "passes": 40, "noise": 8}
CLASSIFY: dict[str, Any] = {"lr": 0.05, "passes": 100, "noise": 8}


@dataclass(frozen=True)
class Figure:
    """One row of one case: AUC (P4: accuracy), share of healthy and of fault windows above the threshold."""

    protocol: str
    case: str
    row: str
    seed: int
    auc: float
    false_alarms: float = float("nan")
    detection: float = float("nan")
    ram_bytes: int = 0
    picked: str = ""


def cached(key: str, make: Any) -> bytes:
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / (hashlib.sha256(key.encode()).hexdigest()[:24] + ".tflite")
    if not path.exists():
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_bytes(make())
        scratch.rename(path)
    return path.read_bytes()


def base_autoencoder(case: Detection, seed: int) -> bytes:
    """The int8 base model of a case, made as the recipes make theirs."""
    config = protocols.feature_configs()[case.features]

    def make() -> bytes:
        tf = quantize.import_tensorflow()
        tf.keras.utils.set_random_seed(seed)
        x = case.source.astype(np.float32) / 1024
        mean, std = x.mean(0), x.std(0)
        z = standardise(x, mean, std)
        n = z.shape[1]
        model = dense(tf, (96, 64, 16, 64, 96) if n == 96 else (32, 32, 8, 32, 32))
        fit(tf, model, lambda a, b: tf.reduce_mean((a - b) ** 2), z, z, STEPS, seed=seed + 100)
        tflite = quantize.quantize(model, representative(z), output_scale=SIGMA)
        residual = run_int8(tf, tflite, z) - z
        spread = np.maximum(residual.std(0), 1e-3)
        threshold = float(np.log2(np.quantile(((residual / spread) ** 2).mean(1), 0.99)))
        profile = Profile(mean, std, spread, threshold)
        return metadata.write(tflite, metadata.ModelMetadata(config, profile, Loss.reconstruction))

    digest = hashlib.sha256(case.source.tobytes()).hexdigest()
    return cached(f"ae 3 {config} {digest} {seed} {STEPS}", make)


def base_classifier(case: Classification, seed: int) -> bytes:
    config = protocols.feature_configs()[case.features]

    def make() -> bytes:
        tf = quantize.import_tensorflow()
        tf.keras.utils.set_random_seed(seed)
        x = np.concatenate(case.source).astype(np.float32) / 1024
        y = np.repeat(np.arange(len(case.source)), [len(s) for s in case.source])
        mean, std = x.mean(0), x.std(0)
        z = standardise(x, mean, std)
        model = dense(tf, (z.shape[1], 32, 16, len(case.source)), softmax=True)
        fit(tf, model, tf.keras.losses.SparseCategoricalCrossentropy(), z, y, STEPS, seed=seed + 100)
        tflite = quantize.quantize(model, representative(z))
        return metadata.write(tflite, metadata.ModelMetadata(config, Profile(mean, std), Loss.classification))

    digest = hashlib.sha256(np.concatenate(case.source).tobytes()).hexdigest()
    return cached(f"cl 3 {config} {digest} {seed} {STEPS}", make)


def compiled(tflite: bytes, reservoir: int) -> dict[str, kilotune.Image]:
    """An image for each method."""
    return {
        method: kilotune.compile(tflite, method=method, reservoir=reservoir, **options)
        for method, options in METHODS.items()
    }


def searched(
    tflite: bytes, inputs: npt.NDArray[Any], labels: npt.NDArray[Any] | None, reservoir: int, share: float
) -> kilotune.Image:
    """What `compile --ram` chooses with that share of what bias+head takes beyond bias."""
    low, high = (kilotune.compile(tflite, method=m, reservoir=reservoir) for m in ("bias", "bias+head"))
    sizes = [i.arena_bytes + i.adapter_bytes for i in (low, high)]
    scale, zero = low.input_quantisation
    rows = np.clip(np.rint(inputs / scale) + zero, -128, 127).astype(np.int8)
    samples = Samples(rows, None if labels is None else labels.astype(np.uint16))
    budget = Budget(round(sizes[0] + share * (sizes[1] - sizes[0])))
    return compile_within(tflite, budget, samples, options=CompileOptions(reservoir=reservoir))[0]


def twin(image: kilotune.Image) -> Device:
    session = _native.Session(image.content, None)
    return Device(InProcess(session), image=image)


def learned(image: kilotune.Image, segments: Any, labels: Any, settings: dict[str, Any], seed: int) -> Device:
    device = twin(image)
    device.learn(segments, labels, ready_features=True, seed=seed + 1, **settings)
    return device


def detection_rows(case: Detection, seed: int, rows: set[str], tflite: bytes | None = None) -> Iterator[Figure]:
    tflite = tflite or base_autoencoder(case, seed)
    windows = len(case.learn) + len(case.held)
    images = compiled(tflite, windows)
    for row, share in SEARCHES.items():
        if row in rows:
            profile = metadata.read(tflite).profile
            assert profile is not None
            x = case.learn.astype(np.float64) / 1024
            variance = shrunk(x.var(0), profile.feature_std.astype(np.float64) ** 2, len(x), 20)
            images[row] = searched(tflite, (x - x.mean(0)) / np.sqrt(variance), None, windows, share)
    ram = {m: _native.Session(i.content, None).ram_bytes for m, i in images.items()}

    def figure(row: str, device: Device, method: str) -> Figure:
        healthy = device.score(case.healthy, ready_features=True)
        fault = device.score(case.fault, ready_features=True)
        report = device.status().report
        picked = f"{report.scorer.name}{' trained' if report.kept_candidate else ''}"
        return Figure(
            case.protocol, case.name, row, seed, auc(healthy.values, fault.values),
            float(healthy.anomalous.mean()), float(fault.anomalous.mean()), ram[method], picked,
        )  # fmt: skip

    if "nothing" in rows:
        yield figure("nothing", twin(images["bias"]), "bias")
    hold = {"hold_period": case.hold_period, "hold_count": case.hold_count}
    ways = {**DEVICE_ROWS, **{row: (row, {"scorer": "residual", "force": True}) for row in SEARCHES}}
    for row, (method, settings) in ways.items():
        if row in rows:
            device = learned(images[method], case.stream(), None, {**DETECT, **hold, **settings}, seed)
            yield figure(row, device, method)
    yield from host_rows(case, seed, rows, tflite)


def host_rows(case: Detection, seed: int, rows: set[str], tflite: bytes) -> Iterator[Figure]:
    """Floating-point baselines on the same features, thresholds by the same rule."""
    learn, held, healthy, fault = (
        x.astype(np.float64) / 1024 for x in (case.learn, case.held, case.healthy, case.fault)
    )
    profile = metadata.read(tflite).profile
    assert profile is not None
    prior = profile.feature_std.astype(np.float64)
    variance = shrunk(learn.var(0), prior**2, len(learn), 20)
    mean, std = learn.mean(0), np.sqrt(variance)
    a, h, t, f = (standardise(x, mean, std) for x in (learn, held, healthy, fault))

    def judged(row: str, threshold: float, s: Any, u: Any) -> Figure:
        alarms, found = float((s > threshold).mean()), float((u > threshold).mean())
        return Figure(case.protocol, case.name, row, seed, auc(s, u), alarms, found)

    def figure(row: str, score: Any) -> Figure:
        s, u = np.log2(score(t) + 1e-6), np.log2(score(f) + 1e-6)
        return judged(row, student_threshold(np.log2(score(h) + 1e-6)), s, u)

    assert case.plain is not None
    parts = zip(case.plain, (learn, held, healthy, fault), strict=True)
    own, kept, test, bad = (baselines.Measured(statistics, features) for statistics, features in parts)
    for one in baselines.fitted(own, kept, seed=seed, prior_std=prior):
        if one.name in rows:
            yield judged(one.name, one.threshold, one.score(test), one.score(bad))
    if "from scratch, float" in rows:
        yield figure("from scratch, float", float_network(a, seed))
    if "everything, float" in rows:
        yield figure("everything, float", float_network(a, seed, case))


def float_network(a: npt.NDArray[Any], seed: int, case: Detection | None = None) -> Any:
    """All weights trained in float on the learned windows, from scratch or from the case's float base model."""
    tf = quantize.import_tensorflow()
    tf.keras.utils.set_random_seed(seed + 50)
    model = dense(tf, (96, 64, 16, 64, 96) if a.shape[1] == 96 else (32, 32, 8, 32, 32))
    loss = lambda x, y: tf.reduce_mean((x - y) ** 2)  # noqa: E731
    if case is not None:
        x = case.source.astype(np.float32) / 1024
        z = standardise(x, x.mean(0), x.std(0))
        fit(tf, model, loss, z, z, STEPS, seed=seed + 100)
    fit(tf, model, loss, a, a, 1500, seed=seed)
    r = model(a).numpy() - a
    mean, variance = r.mean(0), shrunk(r.var(0), np.ones(a.shape[1]), len(a), 10)
    return lambda x: ((model(x).numpy() - x - mean) ** 2 / variance).mean(1)


def classification_rows(case: Classification, seed: int, rows: set[str]) -> Iterator[Figure]:
    tflite = base_classifier(case, seed)
    count = sum(len(x) for x in case.few)
    test, truth = np.concatenate(case.test), np.repeat(np.arange(len(case.test)), [len(x) for x in case.test])
    images = compiled(tflite, count)
    for row, share in SEARCHES.items():
        if row in rows:
            profile = metadata.read(tflite).profile
            assert profile is not None
            x = np.concatenate(case.few).astype(np.float64) / 1024
            z = (x - profile.feature_mean) / profile.feature_std
            labels = np.repeat(np.arange(len(case.few)), [len(w) for w in case.few])
            images[row] = searched(tflite, z, labels, count, share)

    def figure(row: str, device: Device, method: str) -> Figure:
        right = device.score(test, ready_features=True).categories == truth
        ram = _native.Session(images[method].content, None).ram_bytes
        return Figure("P4", case.name, row, seed, float(right.mean()), ram_bytes=ram)

    if "nothing" in rows:
        yield figure("nothing", twin(images["bias"]), "bias")
    hold = {"hold_period": 1, "hold_count": 0}  # all five of a class are learned from: nothing to compare on
    ways = {**CLASS_ROWS, **{row: (row, {"force": True}) for row in SEARCHES if row in images}}
    for row, (method, settings) in ways.items():
        if row in rows:
            options = {**CLASSIFY, **hold, **settings}
            device = learned(images[method], case.few, list(range(len(case.few))), options, seed)
            yield figure(row, device, method)
    few = np.concatenate(case.few).astype(np.float64) / 1024
    label = np.repeat(np.arange(len(case.few)), [len(x) for x in case.few])
    source = np.concatenate(case.source).astype(np.float64) / 1024
    w = len(few) / (len(few) + 32)
    mean = (1 - w) * source.mean(0) + w * few.mean(0)
    std = np.sqrt((1 - w) * source.var(0) + w * few.var(0))
    a, t = standardise(few, mean, std), standardise(test / 1024, mean, std)
    if "nearest windows" in rows:
        nearest = ((t[:, None] - a[None]) ** 2).sum(2).argmin(1)
        yield Figure("P4", case.name, "nearest windows", seed, float((label[nearest] == truth).mean()))
    for row, source_windows in (("from scratch, float", None), ("everything, float", case.source)):
        if row in rows:
            right = float_classifier(a, label, seed, source_windows)(t) == truth
            yield Figure("P4", case.name, row, seed, float(right.mean()))
    if "nearest class mean" in rows:  # weighted by the variance within classes
        centre = np.stack([a[label == k].mean(0) for k in range(len(case.few))])
        within = np.stack([a[label == k].var(0) for k in range(len(case.few))]).mean(0)
        weight = 1 / shrunk(within, np.ones_like(within), len(a), 20)
        right = (((t[:, None] - centre) ** 2) * weight).sum(2).argmin(1) == truth
        yield Figure("P4", case.name, "nearest class mean", seed, float(right.mean()))


def float_classifier(
    a: npt.NDArray[Any], label: npt.NDArray[Any], seed: int, source: list[npt.NDArray[Any]] | None
) -> Any:
    """All weights trained in float on the labelled windows, from scratch or from a float base model."""
    tf = quantize.import_tensorflow()
    tf.keras.utils.set_random_seed(seed + 50)
    classes = int(label.max()) + 1
    model = dense(tf, (a.shape[1], 32, 16, classes), softmax=True)
    loss = tf.keras.losses.SparseCategoricalCrossentropy()
    if source is not None:
        x = np.concatenate(source).astype(np.float32) / 1024
        y = np.repeat(np.arange(len(source)), [len(s) for s in source])
        fit(tf, model, loss, standardise(x, x.mean(0), x.std(0)), y, STEPS, seed=seed + 100)
    fit(tf, model, loss, a, label, 1500, seed=seed)
    return lambda x: model(x).numpy().argmax(1)


BASELINES = (*baselines.STATISTICS, baselines.Z_SCORE, baselines.MAHALANOBIS, baselines.FOREST)
ROWS = (
    "nothing", *DEVICE_ROWS, *SEARCHES, *BASELINES, "nearest class mean", "from scratch, float", "everything, float",
)  # fmt: skip


def shipped(seed: int, rows: set[str]) -> Iterator[Figure]:
    """P3 and P3s on three axes with the base model of the project, which has seen simulated machines only."""
    path = next((Path(__file__).parents[2] / "models" / "vibration_ae_20k").glob("*.tflite"))
    tflite = path.read_bytes()
    config = metadata.read(tflite).features
    assert config is not None
    data = protocols.data_dir() / "adi_cbm_adxl356"
    g = {p.stem: protocols.adi(p) for p in sorted(data.glob("*.npz"))}
    none = np.zeros((0, config.inputs), np.int16)
    measured = [
        list(protocols.another_machine({k: of(config, x) for k, x in g.items()}, "shipped", none))
        for of in (protocols.q10, protocols.plain_statistics)
    ]
    for case, plain in zip(*measured, strict=True):
        mine = replace(protocols.with_plain(case, plain), protocol=case.protocol + " shipped")
        yield from detection_rows(mine, seed, rows & {"nothing", *DEVICE_ROWS, *BASELINES}, tflite)


def few(case: Detection, windows: int | None) -> Detection:
    """`windows` of those learned from, evenly spread, and a quarter as many held back; all if there are fewer."""
    if windows is None or windows >= len(case.learn):
        return case
    parts = [case.learn, case.held]
    shares = (windows, max(2, windows // 4))
    kept = [np.linspace(0, len(x) - 1, n).round().astype(int) for x, n in zip(parts, shares, strict=True)]
    learn, held = (x[i] for x, i in zip(parts, kept, strict=True))
    few = replace(case, learn=learn, held=held, hold_period=5, hold_count=1)
    if case.plain is None:
        return few
    learn, held = (x[i] for x, i in zip(case.plain[:2], kept, strict=True))
    return replace(few, plain=(learn, held, *case.plain[2:]))


def work(job: tuple[str, int, int, tuple[str, ...], int | None]) -> list[Figure]:
    kind, index, seed, names, windows = job
    rows = set(names)
    if kind == "shipped":
        return list(shipped(seed, rows))
    if kind == "P4":
        return list(classification_rows(list(protocols.classifications())[index], seed, rows))
    return list(detection_rows(few(list(protocols.detections())[index], windows), seed, rows))


def table(figures: list[Figure]) -> str:
    groups: dict[tuple[str, str], list[Figure]] = defaultdict(list)
    for f in figures:
        groups[f.protocol, f.row].append(f)
    lines = []
    for protocol in dict.fromkeys(f.protocol for f in figures):
        lines += [
            "", f"**{protocol}**", "",
            "| learned on the machine | AUC (P4: accuracy) | sd | false alarms % | detection % | device RAM, bytes |",
            "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for row in ROWS:
            if not (found := groups.get((protocol, row))):
                continue

            def mean(name: str, g: list[Figure] = found) -> float:
                return float(np.mean([getattr(x, name) for x in g]))

            alarms = ["", ""] if np.isnan(mean("false_alarms")) else [
                f"{100 * mean(name):.1f}" for name in ("false_alarms", "detection")
            ]  # fmt: skip
            spread = np.std([x.auc for x in found])
            ram = f"{round(mean('ram_bytes')):,}" if found[0].ram_bytes else ""
            lines.append(f"| {row} | {mean('auc'):.3f} | {spread:.3f} | {alarms[0]} | {alarms[1]} | {ram} |")
        picks = [x.picked for x in groups.get((protocol, "the device's pick"), [])]
        if picks:
            counted = ", ".join(f"{p} {picks.count(p)} of {len(picks)}" for p in dict.fromkeys(picks))
            lines += ["", f"Picked: {counted}."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--protocols", default="P1,P2,P3,P3s,P4,F,shipped")
    parser.add_argument(
        "--rows",
        default=",".join(ROWS).replace("from scratch, float", "scratch").replace("everything, float", "everything"),
    )
    parser.add_argument("--windows", type=int, help="that detectors learn from [default: all of the protocol]")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    long = {"scratch": "from scratch, float", "everything": "everything, float"}
    rows = tuple(long.get(r, r) for r in arguments.rows.replace(", ", "~").split(","))
    rows = tuple(r.replace("~", ", ") for r in rows)
    wanted = arguments.protocols.split(",")
    jobs: list[tuple[str, int, int, tuple[str, ...], int | None]] = []
    n = arguments.windows
    for seed in range(arguments.seeds):
        jobs += [("detect", i, seed, rows, n) for i, c in enumerate(protocols.detections()) if c.protocol in wanted]
        if "P4" in wanted:
            jobs += [("P4", i, seed, rows, None) for i in range(2)]
        if "shipped" in wanted:
            jobs.append(("shipped", 0, seed, rows, None))
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        figures = []
        for done, result in enumerate(pool.imap_unordered(work, jobs), 1):
            figures += result
            print(f"\r{done} of {len(jobs)} cases", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    order = {p: i for i, p in enumerate(("P1", "P2", "P3", "P3s", "P3 shipped", "P3s shipped", "P4", "F"))}
    figures.sort(key=lambda f: (order[f.protocol], f.case, f.seed))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(f) for f in figures], indent=1) + "\n")
    print(table(figures))


if __name__ == "__main__":
    main()
