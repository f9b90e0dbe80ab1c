"""Code size of the kernel by operator, linked with --gc-sections in a minimal training program.

    python tests/bench/code_size.py [--optimise -Os] [--json]

A row is what an operator adds to a program: the first one to a program that knows none, every other one to a program
that already knows that first one (they share code). The model's image is data of the user's and not counted.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

KERNEL = Path(__file__).parents[2] / "firmware" / "kernel"
CORES = {"M0": ["-mcpu=cortex-m0"], "M4": ["-mcpu=cortex-m4"]}
FIRST = "kFullyConnected"
ALL_METHODS, PLAIN = "{state, 4096}", "{}, kilotune::kPlainSquaredError"
FLAGS = ["-std=c++17", "-mthumb", "--specs=nano.specs", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics",
         "-ffunction-sections", "-fdata-sections", f"-I{KERNEL.parent}", f"-I{KERNEL / 'include'}"]  # fmt: skip
# The model and its RAM lie at addresses that the linker is told: they are not part of the program.
MEMORY = {"model_image": 0x40000, "arena": 0x20000000, "adapter": 0x20008000, "state": 0x2000C000}
PROGRAM = """\
#include <kilotune.h>
extern "C" const uint8_t model_image[];
extern "C" uint8_t arena[], adapter[], state[];
static const kilotune::OpKernel* const ops[] = {%s nullptr};
int main() {
  static kilotune::Model model;
  static kilotune::Trainer trainer;
  if (model.open(model_image, 4096, ops) != kilotune::Status::ok) return 1;
  if (trainer.open(model, {arena, 32768}, {adapter, 16384}, %s) != kilotune::Status::ok) return 1;
  kilotune::TrainConfig config;
  config.rate = kilotune::make_real(1, -3);
  if (trainer.begin(config) != kilotune::Status::ok) return 1;
  for (int i = 0; i < 200; ++i) {
    if (trainer.step({}) != kilotune::Status::ok) return 1;
  }
  uint64_t loss = 0;
  return trainer.loss({}, loss) == kilotune::Status::ok && loss != 0;
}
"""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of code and constants by core."""

    optimise: str
    program: dict[str, int]  # training program that knows the first operator alone: whole
    biases: dict[str, int]  # the same with kDenseBiases and kPlainSquaredError: an autoencoder's biases alone
    frame: dict[str, int]  # the same that knows no operator
    operators: dict[str, dict[str, int]]  # operator -> core -> bytes that it adds


def operators() -> list[str]:
    """Every operator declared by the kernel."""
    return re.findall(r"extern const OpKernel (k\w+);", (KERNEL / "ops" / "op.h").read_text(encoding="utf-8"))


def measure(optimise: str = "-Os") -> Sizes:
    names = operators()
    program: dict[str, int] = {}
    biases: dict[str, int] = {}
    frame: dict[str, int] = {}
    added: dict[str, dict[str, int]] = {name: {} for name in names}
    for core, cpu in CORES.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            flags = [*FLAGS, *cpu, optimise]
            objects = _compile(folder, flags)
            frame[core] = _linked(folder, flags, objects, [])
            program[core] = _linked(folder, flags, objects, [FIRST])
            biases[core] = _linked(folder, flags, objects, ["kDenseBiases"], PLAIN)
            for name in names:
                whole = _linked(folder, flags, objects, [FIRST, name])
                added[name][core] = whole - (frame[core] if name == FIRST else program[core])
    return Sizes(optimise, program, biases, frame, added)


def _compile(folder: Path, flags: list[str]) -> list[str]:
    sources = [*sorted(KERNEL.glob("*.cpp")), *sorted(KERNEL.glob("ops/*.cpp"))]
    subprocess.run(["arm-none-eabi-g++", *flags, "-c", *map(str, sources)], cwd=folder, check=True)
    return sorted(str(p) for p in folder.glob("*.o"))


def biases_alone(optimise: str = "-Os") -> dict[str, int]:
    """Sizes.biases and no more."""
    sizes = {}
    for core, cpu in CORES.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            flags = [*FLAGS, *cpu, optimise]
            sizes[core] = _linked(folder, flags, _compile(folder, flags), ["kDenseBiases"], PLAIN)
    return sizes


def _linked(folder: Path, flags: list[str], objects: list[str], names: list[str], methods: str = ALL_METHODS) -> int:
    """Bytes of .text, .rodata and initialised data of the linked program."""
    source, elf = folder / "program.cpp", folder / "program.elf"
    table = "".join(f"&kilotune::{name}," for name in dict.fromkeys(names))
    source.write_text(PROGRAM % (table, methods), encoding="utf-8")
    symbols = [f"-Wl,--defsym={name}={address:#x}" for name, address in MEMORY.items()]
    subprocess.run(
        ["arm-none-eabi-g++", *flags, "-nostartfiles", "-Wl,--gc-sections", "-Wl,-e,main", *symbols, str(source),
         *objects, "-o", str(elf)], check=True)  # fmt: skip
    told = subprocess.run(["arm-none-eabi-size", str(elf)], check=True, capture_output=True, text=True)
    text, data = told.stdout.splitlines()[1].split()[:2]
    return int(text) + int(data)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Code size of the kernel by operator, in bytes.",
        epilog="example: python tests/bench/code_size.py --optimise=-O2 --json",
    )
    parser.add_argument("--optimise", default="-Os", help="the compiler's option (default: -Os)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    sizes = measure(options.optimise)
    if options.json:
        print(json.dumps(asdict(sizes)))
        return
    rows = [("frame: model, trainer, loss", sizes.frame), *((f"+ {n}", s) for n, s in sizes.operators.items()),
            ("training program, dense layers only", sizes.program),
            ("the same, biases by squared error alone", sizes.biases)]  # fmt: skip
    print(f"| bytes, gcc {sizes.optimise} | {' | '.join(CORES)} |\n|---|{'---:|' * len(CORES)}")
    for name, by_core in rows:
        print(f"| {name} | {' | '.join(f'{by_core[core]:,}' for core in CORES)} |")


if __name__ == "__main__":
    main()
