"""Commands on model files: quantize, compile, inspect, merge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from kilotune.cli.budget import Wanted, as_json, budget_options, compile_within, described
from kilotune.cli.command import command
from kilotune.cli.compiling import compile_options, note_if_once, with_settings
from kilotune.cli.options import EXISTING, FILE, load_adapter, require_tag_option
from kilotune.cli.output import Output, pairs, plain, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kilotune.compiler.options import CompileOptions
    from kilotune.compiler.search import Found
    from kilotune.compiler.selection import Trainability
    from kilotune.image.contents import Layer
    from kilotune.image.image import Image


@command(
    "quantize",
    example="kilotune quantize model.keras --samples windows.npy -o model.tflite\n"
    "kilotune quantize float.tflite --samples windows.npy -o model.tflite --json\n"
    "kilotune quantize model.onnx --samples windows.npy -o model.tflite",
)
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--samples", type=EXISTING, required=True, help="Typical model inputs (.npy), one row per sample.")
@click.option("-o", "--out", "target", type=FILE, required=True, help="The int8 .tflite to write.")
def quantize_command(out: Output, model: Path, samples: Path, target: Path) -> None:
    """Turn a model into an int8 .tflite: .keras, .h5, SavedModel, float or hybrid .tflite, .onnx. Needs the tensorflow
    extra; for .onnx, onnx2tf is installed once in an environment of its own (KILOTUNE_NO_INSTALL=1 forbids it)."""
    from kilotune.common.arrays import load_array
    from kilotune.common.files import keep_apart, require_writable, write_atomically
    from kilotune.studies.quantising import changes, described
    from kilotune.tflite.convert import quantize_and_compare

    keep_apart({"--out": target}, {"the model": model, "the samples": samples})
    typical = load_array(samples)
    require_writable(target)
    with out.progress("quantizing"):
        made = quantize_and_compare(model, typical)
        changed = changes(made)
    write_atomically(target, made.content)
    data = {"tflite": str(target), "bytes": len(made.content), **plain(changed)}
    out.result(data, f"{target}: {described(changed)}")


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
@compile_options
@click.option(
    "--features",
    "settings",
    type=EXISTING,
    help="JSON file with features, and optionally a profile, that replace the model's own.",
)
@budget_options
@click.option("-b", "--board", help="Refuse an image that this board cannot run, or whose adapter it cannot keep.")
@click.option("--c-array", type=FILE, help="Also write the image as a C++ header, for use with the kernel library.")
def compile_command(
    out: Output,
    model: Path,
    target: Path,
    settings: Path | None,
    board: str | None,
    c_array: Path | None,
    options: CompileOptions,
    wanted: Wanted | None,
) -> None:
    """Compile a .tflite into a model image: operators, weights, training plan, memory plan, features."""
    from kilotune.common.files import keep_apart, require_writable
    from kilotune.compiler.compile import compile_with, trainable
    from kilotune.compiler.losses import reason
    from kilotune.image import metadata

    read = {"the model": model, "the features": settings} | (wanted.inputs if wanted is not None else {})
    written = {"--out": target, "--c-array": c_array, "--plot": wanted.plot if wanted is not None else None}
    keep_apart(written, read)
    for path in filter(None, written.values()):
        require_writable(path)
    if settings is not None:
        options = with_settings(options, settings)
    searched: Found | None = None
    if wanted is None:
        image = compile_with(model, options)
    else:
        image, searched = compile_within(out, model, wanted, options)
    if board is not None:
        _require_board(image, board)
        note_if_once(out, image, board)
    image.save(target)
    if c_array is not None:
        from kilotune.export.c_array import save_c_array

        save_c_array(image, c_array)
    why = reason(image.loss, asked=options.loss, own=metadata.read(model.read_bytes()).loss)
    out.result(*_compiled(image, target, c_array, trainable(model, loss=image.loss), searched, why))


def _require_board(image: Image, board_id: str) -> None:
    from kilotune.targets.boards import board
    from kilotune.targets.fit import require_fit

    require_fit(image, board(board_id).id)


def _compiled(
    image: Image, target: Path, c_array: Path | None, layers: Sequence[Trainability], searched: Found | None, why: str
) -> tuple[dict[str, object], str]:
    """What was made, as JSON and as text."""
    data: dict[str, object] = {"image": str(target), **plain(summary(image)), "loss_because": why}
    if c_array is not None:
        data["c_array"] = str(c_array)
    text = pairs(list(data.items()))
    data["trainable"] = [plain(layer) for layer in layers]
    rows = [(str(x.op), x.layer, x.kind, ", ".join(x.ways) or f"no: {x.reason}") for x in layers]
    text += "\n\n" + table(rows, ("", "layer", "kind", "can train"))
    if searched is not None:
        data["search"] = as_json(searched)
        text = f"{described(searched)}\n\n{text}"
    return data, text


@command(
    "inspect",
    example="kilotune inspect model.ktm\nkilotune inspect model.ktm --json\nkilotune inspect model.ktm --plan plan.svg",
)
@click.argument("image", type=EXISTING)
@click.option("--plan", type=FILE, help="Draw the memory plan (.svg): what is where in the arena, and when.")
@click.option("-b", "--board", help="Fail where the image does not fit this board.")
def inspect_command(out: Output, image: Path, plan: Path | None, board: str | None) -> None:
    """Show an image's layers, its memory budget and which boards it fits, before flashing."""
    from kilotune.common.files import keep_apart, write_atomically
    from kilotune.image.image import Image
    from kilotune.targets.fit import fits, optimisers, ram_budget

    keep_apart({"--plan": plan}, {"the image": image})
    loaded = Image.load(image)
    if board is not None:
        _require_board(loaded, board)
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
            *(f"{n:,}" for n in (b.ram_used, b.ram, b.flash_used, b.flash, b.adapter, b.checkpoint)),
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
        text.append(table(costs, ("optimiser", "bytes per bias", "bytes per weight", "state bytes", "has room")))
    if fit:
        text.append(table(fit, ("board", "verdict", "RAM used", "of", "flash used", "of", "adapter", "of")))
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
    """The main facts about an image, as JSON values."""
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
        "early_windows": image.reservoir.early,
        "goes_on_learning": image.reservoir.lives,
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
@click.option("--key-file", type=FILE, help="Key of the adapter's device [default: from your key folder].")
@require_tag_option
def merge_command(
    out: Output, model: Path, adapter: Path, target: Path, key_file: Path | None, require_tag: bool
) -> None:
    """Merge an adapter into its base model: writes a plain .tflite, and the calibration next to it as JSON."""
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
