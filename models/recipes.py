"""How the base models are made: simulated or real recordings, features, training, quantisation, metadata.

A recipe is data (`Autoencoder`, `Classifier`); `main` runs it from the command line. Features come from the
device's own code, so what the model was trained on is what the device will compute.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from kilotune.base.features import band_energies, compute_features
from kilotune.base.training import (
    LEAST_STD,
    NOISE,
    STEPS,
    Trained,
    dense,
    fit,
    representative,
    run_int8,
    standardise,
    train_autoencoder,
)
from kilotune.errors import KilotuneError
from kilotune.image import metadata
from kilotune.image.base_profile import Profile
from kilotune.image.features import FeatureConfig
from kilotune.recordings import simulator
from kilotune.recordings.simulator import FAULTS, Fault, Machine, Sensor
from kilotune.terms import Loss
from kilotune.tflite import convert as quantize

__all__ = ["band_energies", "compute_features", "dense", "fit", "representative", "run_int8", "standardise"]

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

UNSEEN = 1_000_000  # machines from this seed on are never trained on


@dataclass(frozen=True, slots=True)
class Autoencoder:
    """Reconstructs the features of a healthy machine. `widths`: units of each layer, input first."""

    name: str
    features: FeatureConfig
    widths: tuple[int, ...]
    sensor: Callable[[np.random.Generator], Sensor]
    machines: int = 150
    records: int = 5  # a machine, each at a speed and load of its own
    windows: int = 38  # a record
    steps: int = STEPS


@dataclass(frozen=True, slots=True)
class Classifier:
    """Names the state of a machine, `classes[0]` being healthy. `hidden`: units of the hidden layers."""

    name: str
    features: FeatureConfig
    hidden: tuple[int, ...]
    sensor: Callable[[np.random.Generator], Sensor]
    machines: int = 300
    windows: int = 12  # a record; one record a machine and class
    steps: int = 12_000

    @property
    def classes(self) -> tuple[str, ...]:
        return ("healthy", *FAULTS)


@dataclass(frozen=True, slots=True)
class Built:
    """A finished model and what was measured on machines that it was not trained on."""

    tflite: bytes
    metrics: dict[str, Any]


# --- recordings -------------------------------------------------------------------------------------------


def machine_of(recipe: Autoencoder | Classifier, seed: int) -> Machine:
    return Machine.random(seed, sensor=recipe.sensor(np.random.default_rng([seed, 1])))


def simulate(
    recipe: Autoencoder | Classifier, seed: int, take: int, fault: Fault | None, severity: float = 0.5
) -> Floats:
    """One record of machine `seed` at a speed and load that belong to `take`: (windows, inputs)."""
    c = recipe.features
    r = np.random.default_rng([seed, take, 2])
    seconds = (c.window + (recipe.windows - 1) * c.hop) / c.rate_hz
    rpm, load = float(r.uniform(500, 3500)), float(r.random())
    g = machine_of(recipe, seed).record(
        seconds, c.rate_hz, rpm=rpm, load=load, fault=fault, severity=severity, seed=take, axes=c.axes
    )
    return compute_features(c, g)


def read_healthy(config: FeatureConfig, files: Sequence[Path]) -> Floats:
    """Features of real recordings of healthy machines: (windows, inputs)."""
    from kilotune.recordings import read_all

    found: list[Floats] = []
    for recording in read_all(files, model_rate_hz=config.rate_hz):
        if recording.axes != config.axes:
            raise KilotuneError(
                "wrong_axes",
                f"{recording.name} has {recording.axes} axes, the model {config.axes}",
                "choose columns, or another recipe",
            )
        if recording.unit != "g":
            raise KilotuneError("bad_argument", f"{recording.name} is in counts, not in g", "convert it to g first")
        found.append(compute_features(config, recording.samples))
    return np.concatenate(found)


def auc(healthy: NDArray[Any], fault: NDArray[Any]) -> float:
    """Share of pairs in which the faulty window scores higher."""
    from scipy.stats import rankdata

    ranks, n, m = rankdata(np.concatenate([healthy, fault])), len(healthy), len(fault)
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (n * m))


# --- autoencoder ------------------------------------------------------------------------------------------


def build_autoencoder(recipe: Autoencoder, *, quick: bool, healthy: Sequence[Path] = ()) -> Built:
    if healthy:
        x = read_healthy(recipe.features, healthy)
    else:
        machines = 12 if quick else recipe.machines
        x = np.concatenate([simulate(recipe, m, take, None) for m in range(machines) for take in range(recipe.records)])
    trained = train_autoencoder(x, recipe.features, recipe.widths, steps=300 if quick else recipe.steps)
    metrics = {
        "windows": len(x),
        "residual_variance": trained.residual_variance,
        "float_residual_variance": trained.float_residual_variance,
        **detection(trained, functools.partial(simulate, recipe), 3 if quick else 40),
    }
    return Built(trained.tflite, metrics)


def detection(trained: Trained, record: Callable[[int, int, Fault | None], Floats], machines: int) -> dict[str, Any]:
    """AUC on unseen machines at one speed and load each: 20 healthy windows calibrate, nothing is trained.

    `record`: features of a machine (seed, take, fault).
    """
    tf = quantize.import_tensorflow()
    found: dict[str, list[float]] = {fault: [] for fault in FAULTS}
    for seed in range(UNSEEN, UNSEEN + machines):
        healthy = record(seed, 0, None)
        score = calibrated_score(tf, trained.tflite, trained.profile, healthy[:20])
        normal = score(healthy[21:])
        for fault in FAULTS:
            found[fault].append(auc(normal, score(record(seed, 0, fault))))
    values = {f"auc_{fault}": round(float(np.mean(v)), 3) for fault, v in found.items()}
    return {"unseen_machines": machines, "auc": round(float(np.mean(list(found.values()))), 3), **values}


def calibrated_score(tf: Any, tflite: bytes, profile: Profile, learn: Floats) -> Callable[[Floats], NDArray[Any]]:
    """Mean squared residual, each normalised by its spread on `learn`; spreads shrunk as the device does."""

    def shrunk(values: NDArray[Any], base: NDArray[Any], pseudo_windows: int) -> NDArray[Any]:
        n, own, shape = len(values), values.var(0), base**2
        variance: NDArray[Any] = n * own + pseudo_windows * shape * own.mean() / shape.mean()
        return variance / (n + pseudo_windows)

    mean, std = learn.mean(0), np.sqrt(shrunk(learn, profile.feature_std, 20))

    def residual(x: Floats) -> Floats:
        z = standardise(x, mean, std)
        return run_int8(tf, tflite, z) - z

    own = residual(learn)
    centre, variance = own.mean(0), shrunk(own, profile.residual_std, 10)

    def score(x: Floats) -> NDArray[Any]:
        result: NDArray[Any] = ((residual(x) - centre) ** 2 / variance).mean(1)
        return result

    return score


# --- classifier -------------------------------------------------------------------------------------------


def build_classifier(recipe: Classifier, *, quick: bool) -> Built:
    tf = quantize.import_tensorflow()
    tf.keras.utils.set_random_seed(1)
    machines = 10 if quick else recipe.machines
    x, y = labelled(recipe, range(machines))  # (machines, classes, windows, inputs)
    flat = x.reshape(-1, x.shape[-1])
    mean, std = flat.mean(0), np.maximum(flat.std(0), LEAST_STD)
    # Half of the training as it comes, half calibrated to the machine as the device does it.
    z = np.concatenate([standardise(flat, mean, std), *(calibrated(one, mean, std) for one in x)])
    labels = np.concatenate([y.ravel(), y.ravel()])
    widths = (flat.shape[1], *recipe.hidden, len(recipe.classes))
    model = dense(tf, widths, softmax=True)
    loss = tf.keras.losses.SparseCategoricalCrossentropy()
    fit(tf, model, loss, z, labels, 300 if quick else recipe.steps, seed=2)
    tflite = quantize.quantize(model, representative(z))
    described = metadata.ModelMetadata(features=recipe.features, profile=Profile(mean, std), loss=Loss.classification)
    unseen, truth = labelled(recipe, range(UNSEEN, UNSEEN + (3 if quick else 60)))
    metrics: dict[str, Any] = {"windows": len(flat), "unseen_machines": len(unseen)}
    for name, inputs in (
        ("as_it_comes", standardise(unseen.reshape(-1, unseen.shape[-1]), mean, std)),
        ("calibrated", np.concatenate([calibrated(one, mean, std) for one in unseen])),
    ):
        right = run_int8(tf, tflite, inputs).argmax(1).reshape(truth.shape) == truth
        metrics[f"accuracy_{name}"] = round(float(right.mean()), 3)
        metrics[f"per_class_{name}"] = {
            label: round(float(right[:, k].mean()), 2) for k, label in enumerate(recipe.classes)
        }
    metrics["accuracy_learned_in_float"] = learned_accuracy(tf, model, unseen, mean, std)
    return Built(metadata.write(tflite, described), metrics)


def learned_accuracy(tf: Any, model: Any, unseen: Floats, mean: NDArray[Any], std: NDArray[Any]) -> float:
    """What bias+head can come to on each machine from 5 windows a class, in float; tested from the 7th on."""
    base = model.get_weights()
    trained = [w for w in model.trainable_variables if w.shape.rank == 1] + [model.layers[-2].kernel]
    loss = tf.keras.losses.SparseCategoricalCrossentropy()
    noise = tf.random.Generator.from_seed(3)

    @tf.function  # type: ignore[untyped-decorator]
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            value = loss(y, model(x + NOISE * noise.normal(tf.shape(x))))
        for weight, gradient in zip(trained, tape.gradient(value, trained), strict=True):
            weight.assign_sub(0.3 * gradient)

    right = []
    for one in unseen:
        model.set_weights(base)
        z = calibrated(one, mean, std).reshape(one.shape)
        few = tf.constant(z[:, :5].reshape(-1, z.shape[-1]))
        labels = tf.constant(np.repeat(np.arange(len(z)), 5))
        for _ in range(300):
            step(few, labels)
        guess = model(z[:, 6:].reshape(-1, z.shape[-1])).numpy().argmax(1)
        right.append((guess.reshape(len(z), -1) == np.arange(len(z))[:, None]).mean())
    model.set_weights(base)
    return round(float(np.mean(right)), 3)


def labelled(recipe: Classifier, seeds: Sequence[int]) -> tuple[Floats, NDArray[np.int64]]:
    """Features (machines, classes, windows, inputs) and labels (machines, classes, windows).

    All classes of a machine are recorded at one speed and load; severities from 0.3 to 1.
    """
    rows = [
        [
            simulate(recipe, seed, 0, fault, float(np.random.default_rng([seed, k]).uniform(0.3, 1)))
            for k, fault in enumerate((None, *simulator.FAULTS))
        ]
        for seed in seeds
    ]
    x = np.asarray(rows, np.float32)
    y = np.broadcast_to(np.arange(x.shape[1])[None, :, None], x.shape[:3])
    return x, np.ascontiguousarray(y)


def calibrated(one: Floats, mean: NDArray[Any], std: NDArray[Any]) -> Floats:
    """One machine's windows, (classes, windows, inputs), calibrated from 5 of each class: (n, inputs)."""
    few = one[:, :5].reshape(-1, one.shape[-1])
    weight = len(few) / (len(few) + 32)
    own = (1 - weight) * mean + weight * few.mean(0)
    spread = np.sqrt((1 - weight) * std**2 + weight * few.var(0))
    return standardise(one.reshape(-1, one.shape[-1]), own, spread)


# --- command line -----------------------------------------------------------------------------------------


def main(recipe: Autoencoder | Classifier, folder: Path) -> None:
    """Build the model and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=f"Make the base model {recipe.name}.")
    parser.add_argument("--quick", action="store_true", help="few machines and steps: a check, not a model")
    parser.add_argument("-o", "--out", type=Path, help="file to write; default: beside the recipe, build/ if quick")
    if isinstance(recipe, Autoencoder):
        parser.add_argument("--healthy", nargs="+", type=Path, default=[], help="recordings in g, not simulated")
    options = parser.parse_args()
    default = folder.parents[1] / "build" / "models" if options.quick else folder
    out: Path = options.out or default / f"{recipe.name}.tflite"
    try:
        if isinstance(recipe, Autoencoder):
            built = build_autoencoder(recipe, quick=options.quick, healthy=options.healthy)
        else:
            built = build_classifier(recipe, quick=options.quick)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(built.tflite)
    except (KilotuneError, OSError) as error:
        parser.exit(1, f"{error}\n")
    report = {"model": str(out), "bytes": len(built.tflite), **built.metrics}
    print(json.dumps(report, indent=1))


def log_uniform(r: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(r.uniform(math.log(low), math.log(high))))
