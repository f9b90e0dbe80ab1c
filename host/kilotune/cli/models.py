"""Commands on model files: quantize, compile, inspect, merge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.budget import Wanted, as_json, budget_options, compile_within, described
from kilotune.cli.command import command
from kilotune.cli.options import EXISTING, FILE, LOSSES, METHODS, load_adapter, require_tag_option
from kilotune.cli.output import Output, pairs, plain, table
from kilotune.errors import KilotuneError

if TYPE_CHECKING:
    from kilotune.compiler.search import Found
    from kilotune.image.base_profile import Profile
    from kilotune.image.features import FeatureConfig
    from kilotune.image.image import Image, Layer
    from kilotune.terms import Loss, Method


@command("quantize", example="kilotune quantize model.keras --samples windows.npy -o model.tflite")
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--samples", type=EXISTING, required=True, help="Typical model inputs (.npy, one row a sample).")
@click.option("-o", "--out", "target", type=FILE, required=True, help="The int8 .tflite to write.")
def quantize_command(out: Output, model: Path, samples: Path, target: Path) -> None:
    """Turn a Keras model or SavedModel into an int8 .tflite (needs the tensorflow extra)."""
    from kilotune.common.files import keep_apart, require_writable, write_atomically
    from kilotune.sources.arrays import load_array
    from kilotune.tflite.convert import quantize

    keep_apart({"--out": target}, {"the model": model, "the samples": samples})
    typical = load_array(samples)
    require_writable(target)
    with out.progress("quantizing"):
        data = quantize(model, typical)
    write_atomically(target, data)
    out.result({"tflite": str(target), "bytes": len(data)}, f"{target}: {len(data):,} bytes")


@command(
    "compile",
    example="kilotune compile model.tflite -o model.ktm --method bias+head\n"
    "kilotune compile ae.tflite -o ae.ktm --method bias --last-layers 2 --json\n"
    "kilotune compile cnn.tflite -o cnn.ktm --method lora --recompute\n"
    "kilotune compile ae.tflite -o ae.ktm --early 8\n"
    "kilotune compile cnn.tflite -o cnn.ktm --method lora --rank 4 --layers conv2d_3,dense\n"
    "kilotune compile cnn.tflite -o cnn.ktm --method channels --channels conv2d_3:0,5,7 --channels dense:1\n"
    "kilotune compile ae.tflite -o ae.ktm --ram 8k --calibration inputs.npy --plot trade-off.svg\n"
    "kilotune compile ae.tflite -o ae.ktm --c-array model.h",
)
@click.argument("model", type=EXISTING)
@click.option("-o", "--out", "target", type=FILE, required=True, help="The model image to write.")
@click.option("--method", type=click.Choice(METHODS), default="bias", show_default=True, help="What the device trains.")
@click.option("--last-layers", type=click.IntRange(min=1), help="Train the last so many layers only.")
@click.option("--layers", help="Train these layers only: names or numbers (see inspect), with commas between.")
@click.option("--rank", type=click.IntRange(min=1, max=8), help="Of method lora [default: 2].")
@click.option(
    "--channels",
    "channel_texts",
    multiple=True,
    metavar="N|LAYER:I,I,...",
    help="Of method channels: how many of each layer, or which; may be repeated [default: 4].",
)
@click.option("--loss", type=click.Choice(LOSSES), default="auto", show_default=True, help="What training lowers.")
@click.option("--momentum", is_flag=True, help="Give the optimiser memory for momentum.")
@click.option("--accumulate", is_flag=True, help="Give it memory to gather gradients over several windows.")
@click.option(
    "--recompute",
    is_flag=True,
    help="Compute activations again for the backward pass where that saves RAM: same bits, more instructions.",
)
@click.option("--adam", is_flag=True, help="Train with Adam: two bytes of state a parameter; not for lora.")
@click.option(
    "--early",
    type=click.IntRange(0, 255),
    default=0,
    show_default=True,
    help="Windows of the first learn phase that later ones are held to; each takes a byte a feature.",
)
@click.option(
    "--features",
    "settings",
    type=EXISTING,
    help="JSON with features, and profile where there is one, instead of the model's own.",
)
@budget_options
@click.option(
    "--alone-windows",
    type=click.IntRange(0, 65535),
    help="Windows that a device with a sensor learns from when no host tells it [twice the reservoir]; 0: none.",
)
@click.option("--c-array", type=FILE, help="Also write the image as a C++ header, for the kernel as a library.")
def compile_command(
    out: Output,
    model: Path,
    target: Path,
    method: Method,
    last_layers: int | None,
    layers: str | None,
    rank: int | None,
    channel_texts: tuple[str, ...],
    loss: Loss,
    momentum: bool,
    accumulate: bool,
    recompute: bool,
    adam: bool,
    early: int,
    settings: Path | None,
    alone_windows: int | None,
    c_array: Path | None,
    wanted: Wanted | None,
) -> None:
    """Compile a .tflite into a model image: operators, weights, training plan, memory plan, features."""
    from kilotune.common.files import keep_apart, require_writable
    from kilotune.compiler.compile import compile as compile_model
    from kilotune.compiler.compile import trainable
    from kilotune.compiler.options import CompileOptions, loss_named

    read, plot = {"the model": model, "the features": settings}, None
    if wanted is not None:
        read |= {"the calibration": wanted.calibration, "the labels": wanted.labels, "the targets": wanted.targets}
        plot = wanted.plot
    keep_apart({"--out": target, "--c-array": c_array, "--plot": plot}, read)
    for path in (target, c_array, plot):
        if path is not None:
            require_writable(path)
    features, profile = read_settings(settings) if settings is not None else (None, None)
    searched: Found | None = None
    if wanted is not None:
        options = CompileOptions(
            loss=loss_named(loss),
            momentum=momentum,
            accumulate=accumulate,
            adam=adam,
            recompute=recompute,
            features=features,
            profile=profile,
            early=early,
            alone_windows=alone_windows,
        )
        image, searched = compile_within(out, model, wanted, options)
    else:
        image = compile_model(
            model,
            method=method,
            last_layers=last_layers,
            layers=[name.strip() for name in layers.split(",")] if layers is not None else None,
            channels=parse_channels(channel_texts),
            rank=rank,
            loss=loss,
            momentum=momentum,
            accumulate=accumulate,
            adam=adam,
            recompute=recompute,
            features=features,
            profile=profile,
            early=early,
            alone_windows=alone_windows,
        )
    image.save(target)
    data: dict[str, object] = {"image": str(target), **plain(summary(image))}
    if c_array is not None:
        from kilotune.export.c_array import save_c_array

        save_c_array(image, c_array)
        data["c_array"] = str(c_array)
    text = pairs(list(data.items()))
    trainability = trainable(model, loss=loss)
    data["trainable"] = [plain(layer) for layer in trainability]
    rows = [(str(x.op), x.layer, x.kind, ", ".join(x.ways) or f"no: {x.reason}") for x in trainability]
    text += "\n\n" + table(rows, ("", "layer", "kind", "can train"))
    if searched is not None:
        data["search"] = as_json(searched)
        text = f"{described(searched)}\n\n{text}"
    out.result(data, text)


def parse_channels(texts: tuple[str, ...]) -> int | dict[str | int, list[int]] | None:
    """One number for every layer, or `layer:channel,channel,...` by layer."""
    if not texts:
        return None
    if len(texts) == 1 and texts[0].isdecimal():
        return int(texts[0])
    found: dict[str | int, list[int]] = {}
    for text in texts:
        name, _, channels = text.rpartition(":")
        if not name or not all(c.strip().isdecimal() for c in channels.split(",")):
            raise KilotuneError("bad_argument", f"--channels {text} is not understood", "write 8, or LAYER:0,5,7")
        found[name] = [int(c) for c in channels.split(",")]
    return found


def read_settings(path: Path) -> tuple[FeatureConfig, Profile | None]:
    """Features and profile of a JSON file: {"features": {...}, "profile": {...}}."""
    from kilotune.image.base_profile import Profile
    from kilotune.image.features import FeatureConfig, decode_json

    data = decode_json(path.read_bytes(), path.name)
    if not isinstance(data, dict) or "features" not in data:
        raise KilotuneError(
            "bad_features",
            f"{path.name} has no entry 'features'",
            'write {"features": {...}, "profile": {...}}',
        )
    profile = Profile.from_json(data["profile"]) if data.get("profile") else None
    return FeatureConfig.from_json(data["features"]), profile


@command(
    "inspect",
    example="kilotune inspect model.ktm\nkilotune inspect model.ktm --json\nkilotune inspect model.ktm --plan plan.svg",
)
@click.argument("image", type=EXISTING)
@click.option("--plan", type=FILE, help="Draw the memory plan: what lies where in the arena, and when (.svg).")
def inspect_command(out: Output, image: Path, plan: Path | None) -> None:
    """Show an image's layers, its memory budget and which boards it fits, before flashing."""
    from kilotune.common.files import keep_apart, write_atomically
    from kilotune.image.image import Image
    from kilotune.targets.fit import fits, optimisers, ram_budget

    keep_apart({"--plan": plan}, {"the image": image})
    loaded = Image.load(image)
    boards = fits(loaded)
    data = {
        "image": str(image),
        **plain(summary(loaded)),
        "layers": plain(loaded.layers),
        "ram_bytes": ram_budget(loaded),
        "optimisers": plain(optimisers(loaded)) if loaded.trained else [],
        "boards": plain(boards),
    }
    if plan is not None:
        from kilotune.report.memoryplan import memory_plan

        write_atomically(plan, memory_plan(loaded).encode())
        data["plan"] = str(plan)
    rows = [(k, v) for k, v in data.items() if k not in ("layers", "boards", "ram_bytes", "optimisers")]
    parts = [
        (str(t.op), t.name, t.kind, f"{t.inputs} -> {t.outputs}", f"{t.macs:,}", _trained(t)) for t in loaded.layers
    ]
    fit = [
        (
            b.board,
            "fits" if b.fits else "DOES NOT FIT",
            *(f"{n:,}" for n in (b.ram_used, b.ram, b.flash_used, b.flash)),
        )
        for b in boards
    ]
    text = [
        pairs(rows),
        table(parts, ("", "layer", "kind", "shape", "MACs", "trained")),
        pairs([(f"RAM {k}", f"{v:,}") for k, v in data["ram_bytes"].items()]),
    ]
    if loaded.trained:
        costs = [
            (*map(str, (o.name, o.bytes_per_bias, o.bytes_per_weight)), f"{o.state_bytes:,}", _yes(o.available))
            for o in optimisers(loaded)
        ]
        text.append(table(costs, ("optimiser", "bytes a bias", "bytes a weight", "state bytes", "has room")))
    if fit:
        text.append(table(fit, ("board", "verdict", "RAM used", "of", "flash used", "of")))
    out.result(data, "\n\n".join(text))


def _yes(good: bool) -> str:
    return "yes" if good else "no"


def _trained(layer: Layer) -> str:
    weights = "weights"
    if layer.rank:
        weights = f"rank {layer.rank}"
    elif layer.channels:
        weights = f"{len(layer.channels)} channels"
    parts = ((layer.bias_trained, "bias"), (layer.weights_trained, weights))
    return "+".join(name for on, name in parts if on) or "-"


def summary(image: Image) -> dict[str, object]:
    """What is worth telling of an image, in JSON terms."""
    features = image.features
    return {
        "image_hash": image.image_hash,
        "base_hash": image.base_hash,
        "method": image.method,
        "loss": image.loss,
        "image_bytes": len(image.content),
        "arena_bytes": image.arena_bytes,
        "adapter_bytes": image.adapter_bytes,
        "state_bytes": image.state_bytes,
        "early_windows": image.early,
        "macs": image.macs,
        "recomputed_macs": sum(image.layers[op].macs for _, op in image.reruns),
        "input_bytes": image.input_bytes,
        "output_bytes": image.output_bytes,
        "features": "none"
        if features is None
        else f"{features.axes} axes at {features.rate_hz:g} Hz, window "
        f"{features.window}, hop {features.hop}, {features.inputs} values",
    }


@command("merge", example="kilotune merge model.tflite adapter/ -o merged.tflite")
@click.argument("model", type=EXISTING)
@click.argument("adapter", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--out", "target", type=FILE, required=True, help="The .tflite to write.")
@click.option("--key-file", type=FILE, help="Key of the adapter's device, where it is not in your folder.")
@require_tag_option
def merge_command(
    out: Output, model: Path, adapter: Path, target: Path, key_file: Path | None, require_tag: bool
) -> None:
    """Fold an adapter into its base model: a plain .tflite, calibration beside it as JSON."""
    from kilotune.adapters.merge import merge, write_calibration
    from kilotune.common.files import keep_apart, write_atomically
    from kilotune.link.keys import KeyRing

    keep_apart({"--out": target}, {"the base model": model})
    learned = load_adapter(out, adapter, key_file, require_tag)
    merged = merge(model.read_bytes(), learned)
    write_atomically(target, merged)
    beside = write_calibration(learned, target)
    text = f"{target}: {len(merged):,} bytes" + (f"\n{beside}: calibration and threshold" if beside else "")
    data = {
        "tflite": str(target),
        "bytes": len(merged),
        "calibration": str(beside) if beside else None,
        "tag": learned.trust(KeyRing(key_file)).name,
    }
    out.result(data, text)
