"""Instructions of each operator of a model image, forward and backward, on an emulated Cortex-M4F.

python tests/bench/layer_costs.py model.ktm
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kilotune.image.image import Image

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "layer_costs"
CORES = {
    "Cortex-M4F": "-mthumb -mcpu=cortex-m4 -mfpu=fpv4-sp-d16 -mfloat-abi=hard",
    "Cortex-M0": "-mthumb -mcpu=cortex-m0",
}
IMAGE_ADDRESS = 0x21000000
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Instructions of one operator in one step, or in one inference if nothing is trained."""

    opcode: int
    forward: int
    bias: int  # update of the biases
    input_gradient: int


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def kernel_library(core: str, folder: Path) -> Path:
    """Builds the kernel alone, with the flags of every firmware."""
    run(
        *("cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja"),
        f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/firmware/boards/toolchain-arm.cmake",
        f"-DCMAKE_CXX_FLAGS={CORES[core]} --specs=nano.specs",
        f"-DCMAKE_C_FLAGS={CORES[core]} --specs=nano.specs",
        f"-DKILOTUNE_PYTHON={sys.executable}",
        "-DCMAKE_POSITION_INDEPENDENT_CODE=OFF",
    )
    run("cmake", "--build", str(folder), "--target", "kilotune_kernel")
    return next(folder.rglob("libkilotune_kernel.a"))


class Counter:
    """The counting program, built once; the emulator's loader loads the models."""

    def __init__(self, build: Path) -> None:
        core = "Cortex-M4F"
        library = kernel_library(core, build / core)
        self._program = build / "layer_costs.elf"
        run(
            *("arm-none-eabi-g++", "-std=c++17", "-O2", *CORES[core].split(), "-fno-exceptions", "-fno-rtti"),
            *("--specs=nano.specs", "--specs=nosys.specs", "-nostartfiles", f"-I{ROOT}/firmware"),
            *(str(PROGRAM / "main.cpp"), str(library), "-T", str(PROGRAM / "memory.ld"), "-o", str(self._program)),
        )

    def count(self, image: Image) -> list[Cost]:
        """Instructions of every operator of the image, in order."""
        with tempfile.NamedTemporaryFile(suffix=".ktm") as file:
            file.write(image.content)
            file.flush()
            told = run(
                *("qemu-system-arm", "-M", "mps2-an386", "-icount", "shift=0", "-kernel", str(self._program)),
                *("-device", f"loader,file={file.name},addr={IMAGE_ADDRESS:#x},force-raw=on"),
                *("-display", "none", "-monitor", "none", "-serial", "null"),
                *("-semihosting-config", "enable=on,target=native"),
            )
        costs = [Cost(*(int(n) for n in line.split()[1:])) for line in told.splitlines() if line[:1].isdigit()]
        if not costs:
            raise SystemExit(f"layer_costs: {told.strip() or 'no answer'} (it takes models up to 1 MB of RAM)")
        return costs


def main() -> None:
    parser = argparse.ArgumentParser(description="Instructions of each operator of a model image.")
    parser.add_argument("model", type=Path)
    image = Image.load(parser.parse_args().model)
    print("opcode    forward       bias      input")
    for cost in Counter(ROOT / "build" / "performance").count(image):
        print(f"{cost.opcode:6d} {cost.forward:10,d} {cost.bias:10,d} {cost.input_gradient:10,d}")


if __name__ == "__main__":
    main()
