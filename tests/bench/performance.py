"""Prints the tables of docs/PERFORMANCE.md: instructions, RAM and code size, measured now on this computer.

    python tests/bench/performance.py > docs/PERFORMANCE.md

Needs the firmware's tools (arm-none-eabi-g++, qemu-system-arm) and, for N3, KILOTUNE_DATA.
"""

from __future__ import annotations

import re
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
from kilotune import _native
from kilotune.report.data import Benchmark
from kilotune.studies.benchmark import benchmark, firmware_for
from kilotune.targets.connect import connect

from tests.bench import layer_costs, window
from tests.bench.code_size import biases_alone
from tests.bench.layer_costs import CORES, kernel_library, run
from tests.support import shared_data, small_models
from tests.support.networks import Network as Layers
from tests.support.networks import Node

ROOT = Path(__file__).parents[2]
TARGET = "qemu:mps2-an386"
# Instructions of others on the same emulated core, by their names; the same compiler at -O2.
PEERS = {
    "N1": (13_165, 31_848, 376_132),
    "N2": (48_791, 164_256, 2_160_340),
    "N3": (579_876, 2_481_784, 30_473_016),
}
PEER_RAM = {"N1": (38_584, 1_552), "N2": (219_672, 3_352), "N3": (2_800_472, 18_672)}
LIMITS = {"N1": (13_165, 21_000, 1_400), "N2": (48_791, 81_000, 2_800), "N3": (579_876, 1_065_000, 10_240)}

CODE_LIMIT = 8_000


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, forward on its own and backward within a small model."""

    what: str
    shape: tuple[int, int, int]
    macs: int
    add: Callable[[Layers, Node], Node]
    peer: int  # CMSIS-NN, forward
    limit: int
    goal: int


def depthwise(net: Layers, x: Node) -> Node:
    return net.depthwise(x)


LAYERS = (
    Layer("CONV_2D 3x3, 16x16x16 to 16", (16, 16, 16), 589_824, lambda n, x: n.conv(x, 16), 1_374_616,
          1_374_616, 1_237_154),
    Layer("DEPTHWISE_CONV_2D 3x3, 25x5x64", (25, 5, 64), 72_000, depthwise, 560_968, 560_968, 448_774),
    Layer("CONV_2D 1x1, 25x5x64 to 64", (25, 5, 64), 512_000, lambda n, x: n.conv(x, 64, (1, 1)), 1_069_016,
          1_069_016, 962_114),
)  # fmt: skip
# Input gradients: limit and goal in instructions per MAC, and what TinyEngine needs in float32.
BACKWARD = {LAYERS[2]: (2.8, 2.2, "5.2 to 5.9"), LAYERS[1]: (4.0, 3.0, "4.0 to 4.6"), LAYERS[0]: (None, None, "")}


@dataclass(frozen=True, slots=True)
class Network:
    name: str
    what: str
    tflite: bytes
    method: Any


def networks() -> list[Network]:
    found = [
        Network("N1", "dense 48-24-12-6-12-24-48", small_models.chain(48, 24, 12, 6, 12, 24, 48), "bias"),
        Network("N2", "dense 128-64-16-64-128", small_models.chain(128, 64, 16, 64, 128), "bias"),
        Network("N3", "MLPerf Tiny `ad01_int8`, 640-128x4-8-128x4-640", shared_data.ad01(), "bias"),
    ]
    head = small_models.chain(64, 64, 32, 4, softmax=True)
    wide = small_models.chain(128, 64, 16, 64, 128, per_channel=True)
    return [
        *found,
        Network("N2c", "N2 with a weight scale for each output", wide, "bias"),
        Network("head", "classifier 64-64-32-4 with SOFTMAX, last layer trained", head, "head"),
        Network("logits", "the same without SOFTMAX", small_models.chain(64, 64, 32, 4), "head"),
    ]


def measure(network: Network, folder: Path) -> Benchmark:
    image = kilotune.compile(
        network.tflite, method=network.method, loss="classification" if network.name == "logits" else "auto"
    )
    path = folder / f"{network.name}.ktm"
    path.write_bytes(image.content)
    built = firmware_for(TARGET, path)
    with connect(TARGET, path, timeout_s=60.0, fresh=True) as device:
        return benchmark(device, image, firmware=built)


def row(*cells: object) -> str:
    return "| " + " | ".join(f"{c:,}" if isinstance(c, int) else str(c) for c in cells) + " |"


def header(*cells: str) -> str:
    return row(*cells) + "\n" + "|" + "---|" * len(cells)


def prose(text: str) -> str:
    """A paragraph at the width of the project's documents."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def instructions(measured: dict[str, Benchmark]) -> list[str]:
    lines = [header("", "MACs", "inference", "per MAC", "limit", "CMSIS-NN")]
    for name, (limit, _, _) in LIMITS.items():
        b = measured[name]
        count = b.instructions.inference or 0
        lines.append(row(name, b.macs, count, f"{count / b.macs:.2f}", limit, PEERS[name][0]))
    lines += [
        "",
        header("", "bias-only step", "over inference", "limit", "hand-written float32, bias only", "AIfES, full step"),
    ]
    for name, (_, limit, _) in LIMITS.items():
        counted = measured[name].instructions
        step, inference = counted.step or 0, counted.inference or 1
        lines.append(row(name, step, f"{step / inference:.2f} x", limit, *PEERS[name][1:]))
    wide = measured["N2c"].instructions
    lines += ["", f"N2c, which has no limits: inference {wide.inference:,}, step {wide.step:,}."]
    head, logits = measured["head"].instructions, measured["logits"].instructions
    step, inference, short = head.step or 0, head.inference or 1, logits.inference or 1
    lines += [
        "",
        prose(
            f"Last-layer step (weights and biases) of the dense classifier 64-64-32-4: {step:,}. Its inference takes "
            f"{inference:,} including the final SOFTMAX (step: {step / inference - 1:+.1%}; limit +10 %), and "
            f"{short:,} up to the logits, where the step begins (step: {step / short - 1:+.1%}). TinyOL, on another "
            "network: +9.9 %."
        ),
    ]
    return lines


def layers(counter: layer_costs.Counter) -> list[str]:
    lines = [header("forward", "MACs", "instructions", "per MAC", "limit (CMSIS-NN)", "goal")]
    for layer in LAYERS:
        net = Layers(seed=1)
        image = kilotune.compile(net.finish(layer.add(net, net.source(*layer.shape))), method="none")
        count = counter.count(image)[0].forward
        lines.append(row(layer.what, layer.macs, count, f"{count / layer.macs:.2f}", layer.limit, layer.goal))
    lines += [
        "",
        header("input gradient", "instructions", "per MAC", "limit", "goal", "TinyEngine, float32", "bias update"),
    ]
    for layer, (limit, goal, peer) in BACKWARD.items():
        costs = counter.count(kilotune.compile(behind_another(layer), method="bias"))[1]
        cells = (f"{costs.input_gradient / layer.macs:.2f}", limit or "", goal or "", peer, costs.bias)
        lines.append(row(layer.what, costs.input_gradient, *cells))
    lines += ["", "The MACs of a layer are those of its forward pass, including taps in the padding."]
    return lines


def behind_another(layer: Layer) -> bytes:
    """The layer in a model in which gradients pass it: after a 1x1 convolution, before a classifier."""
    height, width, channels = layer.shape
    net = Layers(seed=1)
    x = layer.add(net, net.conv(net.source(height, width, 1), channels, (1, 1)))
    return net.finish(net.dense(net.flatten(net.pool(x, "average", (5, 5))), 2))


def keyword_spotting(counter: layer_costs.Counter) -> list[str]:
    """The DS-CNN of MLPerf Tiny: one inference against one step, for each set of trained parameters."""
    model = shared_data.keyword_spotting()
    inference = sum(c.forward for c in counter.count(kilotune.compile(model, method="none")))
    lines = [
        f"DS-CNN, MLPerf Tiny `kws_ref_model`, {kilotune.compile(model, method='none').macs:,} MACs: one inference "
        f"takes {inference:,} instructions.",
        "",
        header("trained", "forward with masks", "bias updates", "input gradients", "over inference", "arena + adapter"),
    ]
    rows: tuple[tuple[str, Any, int | None], ...] = (
        ("head", "head", None), ("bias, all layers", "bias", None),
        ("bias, last 3 layers", "bias", 3), ("bias+head, last 3 layers", "bias+head", 3),
    )  # fmt: skip
    for what, method, last in rows:
        image = kilotune.compile(model, method=method, last_layers=last)
        costs = counter.count(image)
        parts = [sum(c.forward for c in costs), sum(c.bias for c in costs), sum(c.input_gradient for c in costs)]
        ram = image.arena_bytes + image.adapter_bytes
        lines.append(row(what, *parts, f"{sum(parts) / inference:.2f} x", ram))
    return [*lines, "", *recomputation(counter, model)]


def recomputation(counter: layer_costs.Counter, model: bytes) -> list[str]:
    """What `--recompute` saves if the backward pass reads activations, and what it costs."""
    lines = [
        header("trained, all layers", "arena + adapter", "`--recompute`", "RAM saved", "extra instructions per step")
    ]
    for method in ("lora", "channels"):
        kept, again = (kilotune.compile(model, method=method, recompute=on) for on in (False, True))
        costs = counter.count(kept)
        step = sum(c.forward + c.bias + c.input_gradient for c in costs)
        more = sum(costs[op].forward for _, op in again.reruns)
        ram = [image.arena_bytes + image.adapter_bytes for image in (kept, again)]
        lines.append(row(method, *ram, f"{1 - ram[1] / ram[0]:.0%}", f"{more / step:.0%}"))
    return lines


def memory(measured: dict[str, Benchmark]) -> list[str]:
    lines = [header("", "arena", "adapter", "total", "limit", "AIfES, full SGD", "hand-written float32", "stack, peak")]
    for name, (_, _, limit) in LIMITS.items():
        ram = measured[name].ram_bytes
        total = ram.arena + ram.adapter
        stack = "unknown" if ram.stack_peak is None else ram.stack_peak
        lines.append(row(name, ram.arena, ram.adapter, total, limit, *PEER_RAM[name], stack))
    return lines


def linked(core: str, library: Path, folder: Path) -> dict[str, int]:
    """Bytes of code and constants by object file, in a program that only trains biases of dense layers."""
    program, link_map = folder / "kernel.elf", folder / "kernel.map"
    run(
        *("arm-none-eabi-g++", "-std=c++17", "-O2", *CORES[core].split(), "-fno-exceptions", "-fno-rtti"),
        *("-ffunction-sections", "-fdata-sections", "--specs=nano.specs", "--specs=nosys.specs"),
        *("-nostartfiles", "-Wl,--gc-sections", "-Wl,-emain", f"-Wl,-Map={link_map}", f"-I{ROOT}/firmware"),
        *(str(Path(__file__).parent / "kernel_only" / "main.cpp"), str(library), "-o", str(program)),
    )
    layout = link_map.read_text().split("Linker script and memory map")[1]
    sizes: dict[str, int] = {}
    for address, size, origin in re.findall(
        r"^ \.(?:text|rodata)\S*\s+(0x[0-9a-f]+)\s+(0x[0-9a-f]+) (\S+)$", layout, re.M
    ):
        inside = re.search(r"libkilotune_kernel\.a\((.+?)\.cpp", origin)
        what = inside[1] if inside else "compiler's library" if "lib" in origin else ""
        if int(address, 16) and what:
            sizes[what] = sizes.get(what, 0) + int(size, 16)
    return sizes


def operators(library: Path) -> dict[str, int]:
    """Code and constants of every object file of the kernel, linked or not."""
    sizes = {}
    for line in run("arm-none-eabi-size", str(library)).splitlines()[1:]:
        text, *_, name = re.sub(r"\(ex .*", "", line).split()
        if int(text):
            sizes[name.split(".")[0]] = int(text)
    return sizes


def code(folder: Path) -> list[str]:
    whole, dense = {}, {}
    for core in CORES:
        library = kernel_library(core, folder / core)
        whole[core], dense[core] = operators(library), linked(core, library, folder / core)
    lines = [header("file", *(f"{core}, all of it" for core in CORES), *(f"{core}, dense only" for core in CORES))]
    for name in sorted({name for sizes in (*whole.values(), *dense.values()) for name in sizes}):
        cells = [sizes[core].get(name, 0) for sizes in (whole, dense) for core in CORES]
        lines.append(row(f"`{name}`" if name in whole["Cortex-M0"] | whole["Cortex-M4F"] else name, *cells))
    totals = [sum(sizes[core].values()) for sizes in (whole, dense) for core in CORES]
    small = biases_alone()["M4"]
    met = "met" if small <= CODE_LIMIT else f"missed by {small - CODE_LIMIT:,} bytes"
    return [
        *lines,
        row("total", *totals),
        "",
        f"The same program at -Os, complete, for Cortex-M4: {small:,} bytes (`tests/bench/code_size.py`; limit "
        f"{CODE_LIMIT:,}, {met}).",
    ]


def fastest_us(*works: Callable[[], object], rounds: int = 60) -> list[float]:
    """Best time of each, taken in turns of a third of a millisecond: other work on the computer can only add time."""
    best, calls = [float("inf")] * len(works), [1] * len(works)
    for _ in range(rounds):
        for i, work in enumerate(works):
            start = time.perf_counter()
            for _ in range(calls[i]):
                work()
            best[i] = min(best[i], (time.perf_counter() - start) / calls[i] * 1e6)
            calls[i] = max(1, int(333 / best[i]))
    return best


def twin(network: Network) -> str:
    """The twin's step against one reference inference, both in this process."""
    from tflite_runtime.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=network.tflite, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    interpreter.allocate_tensors()
    kernel = _native.Kernel(kilotune.compile(network.tflite, method=network.method).content)
    kernel.begin((0xA3D7, -22))  # 0.01
    details = interpreter.get_input_details()[0]
    x = np.random.default_rng(0).integers(-128, 128, tuple(details["shape"])).astype(np.int8)
    interpreter.set_tensor(details["index"], x)
    flat = x.reshape(-1)
    reference, inference, step = fastest_us(
        interpreter.invoke, lambda: kernel.infer(flat[None]), lambda: kernel.step(flat)
    )
    return row(network.name, f"{inference / reference:.2f}", f"{step / reference:.2f}")


def main() -> None:
    nets = networks()
    build = ROOT / "build" / "performance"
    with tempfile.TemporaryDirectory() as folder:
        measured = {n.name: measure(n, Path(folder)) for n in nets}
    counter = layer_costs.Counter(build)
    compiler = run("arm-none-eabi-g++", "-dumpversion").strip()
    sections = [
        "# Performance",
        "Made by `python tests/bench/performance.py > docs/PERFORMANCE.md`.",
        prose(
            "Instructions are those that QEMU's `mps2-an386` (Cortex-M4F) executes, counted with `-icount shift=0`, at "
            f"batch 1. The code is compiled by gcc {compiler} at -O2; files that run once per layer or less, "
            "element-wise operators and LSTMs are at -Os. Instructions are not cycles: on silicon, loads, branches and "
            "flash wait states cost more than one cycle."
        ),
        prose(
            "The figures of others are quoted, not measured again here. CMSIS-NN, AIfES and hand-written float32 were "
            "counted in the same way on the same emulated core (gcc 12.2 -O2). TinyOL's figure is from its authors."
        ),
        "*Limit* is what this project requires of itself, *goal* is what it aims for.",
        "\n".join(f"- {n.name}: {n.what}" for n in nets),
        "## Instructions",
        "\n".join(instructions(measured)),
        window.section().rstrip(),
        "## Layers and DS-CNN",
        prose(
            "Counted with `tests/bench/layer_costs`, a program that calls only the kernel's operators, to within 40 "
            "instructions. Figures are means of 8 runs on random inputs."
        ),
        "\n".join(layers(counter)),
        "\n".join(keyword_spotting(counter)),
        "## RAM",
        prose(
            "Arena and adapter in bytes, with the biases of all layers trained by plain gradient descent at batch 1. "
            "The stack is that of the whole firmware."
        ),
        "\n".join(memory(measured)),
        "## Code",
        prose(
            "Bytes of code and constants. *All of it*: every object file as compiled. *Dense only*: what remains in a "
            "program that trains the biases of dense layers by squared error (`tests/bench/kernel_only`), linked with "
            "`--gc-sections`."
        ),
        "\n".join(code(build)),
        "## The twin",
        prose(
            "Time relative to one inference of the same model by tflite-runtime's `BUILTIN_REF`, one thread each, in "
            "one run on one computer. The limit for the step on N3 is 3."
        ),
        header("", "inference", "bias-only step"),
    ]
    print("\n\n".join(sections))
    keywords = Network("DS-CNN", "MLPerf Tiny `kws_ref_model`", shared_data.keyword_spotting(), "bias")
    print("\n".join(twin(n) for n in (*(n for n in nets if n.name in LIMITS), keywords)))


if __name__ == "__main__":
    main()
