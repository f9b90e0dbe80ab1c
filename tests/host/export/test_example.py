"""The library's example: short, of this compiler, it learns here and on every core, and refuses what it leaves out."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import kilotune
import pytest
from kilotune.export.c_array import to_c_array

from tests.support import small_models
from tests.support.kernel_library import (
    CORES,
    EXAMPLE,
    KERNEL,
    WARNINGS,
    assert_learned,
    command,
    kernel_objects,
    run,
)
from tests.support.tools import needs_arm

INCLUDE = ("-I", KERNEL.parent, "-I", KERNEL / "include")


def test_c_array_is_what_the_example_holds(tmp_path: Path) -> None:
    told = command(
        "compile", EXAMPLE / "model.tflite", "-o", tmp_path / "m.ktm", "--c-array", tmp_path / "model.h")  # fmt: skip
    written = (tmp_path / "model.h").read_text()
    assert told["c_array"] == str(tmp_path / "model.h")
    assert written == to_c_array(kilotune.Image.load(tmp_path / "m.ktm"))
    rows = written[written.index("= {") :]
    assert bytes(int(n, 16) for n in re.findall(r"0x(\w\w)", rows)) == (tmp_path / "m.ktm").read_bytes()
    assert f"kModelArenaBytes = {told['arena_bytes']};" in written
    # If not: kilotune compile $EXAMPLE/model.tflite -o build/model.ktm --c-array $EXAMPLE/model.h
    assert written == (EXAMPLE / "model.h").read_text(), "the example's model.h is of another compiler: make it again"


def test_the_example_is_short() -> None:
    lines = (EXAMPLE / "learn.h").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 42


def test_the_example_learns_on_this_computer(tmp_path: Path) -> None:
    cpp = [*KERNEL.glob("*.cpp"), *KERNEL.glob("ops/*.cpp"), EXAMPLE / "main.cpp"]
    run("g++", "-std=c++17", "-O1", *WARNINGS, "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
        *INCLUDE, *cpp, "-o", tmp_path / "learn")  # fmt: skip
    assert_learned(run(tmp_path / "learn"))


@needs_arm
@pytest.mark.parametrize("core", CORES)
def test_the_example_links_for_a_microcontroller(tmp_path: Path, core: str) -> None:
    flags = ("-std=c++17", "-Os", CORES[core], "-mthumb", "--specs=nano.specs", "--specs=nosys.specs",
             "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-ffunction-sections", *WARNINGS)  # fmt: skip
    kernel = kernel_objects("arm-none-eabi-g++", *flags)
    run("arm-none-eabi-g++", *flags, "-Wl,--gc-sections", *INCLUDE, *kernel, EXAMPLE / "main.cpp",
        "-o", tmp_path / "learn.elf")  # fmt: skip
    symbols = run("arm-none-eabi-nm", "-C", tmp_path / "learn.elf")
    assert "kilotune::kFullyConnected" in symbols
    assert "kilotune::kSoftmax" not in symbols, "an operator that the example does not name is linked"


def smaller(folder: Path) -> Path:
    """The example with what biases of an autoencoder need and no more; its main.cpp."""
    shutil.copytree(EXAMPLE, folder)
    text = (folder / "learn.h").read_text()
    plain = "adapter, {}, kilotune::kPlainSquaredError)"
    for full, less in (("kFullyConnected", "kDenseBiases"), ("adapter, {})", plain)):
        assert text.count(full) == 1
        text = text.replace(full, less)
    (folder / "learn.h").write_text(text)
    return folder / "main.cpp"


# Says what a smaller program makes of a model: the status of Model::open, Trainer::open and Trainer::begin.
STATUSES = """\
#include <cstdio>
#include <kilotune.h>
#include "model.h"
alignas(4) static uint8_t arena[kModelArenaBytes], adapter[kModelAdapterBytes], state[kModelStateBytes + 4];
static const kilotune::OpKernel* const kOps[] = {&kilotune::kDenseBiases, &kilotune::kSoftmax, nullptr};
int main() {
  static kilotune::Model model;
  static kilotune::Trainer trainer;
  kilotune::TrainConfig config;
  config.rate = kilotune::make_real(1, -3);
  kilotune::Status status = model.open(kModel, sizeof kModel, kOps);
  std::printf("%d", static_cast<int>(status));
  if (status != kilotune::Status::ok) return 0;
  status = trainer.open(model, arena, adapter, state, kilotune::kPlainSquaredError);
  std::printf(" %d", static_cast<int>(status));
  if (status == kilotune::Status::ok) std::printf(" %d", static_cast<int>(trainer.begin(config)));
}
"""
OK, BAD_ARGUMENT, UNSUPPORTED = 0, 10, 6


@pytest.mark.parametrize(
    ("model", "options", "statuses"),
    [
        (small_models.chain(12, 6, 12), {"method": "bias"}, (OK, OK, OK)),
        (small_models.chain(12, 6, 12), {"method": "bias+head"}, (UNSUPPORTED,)),
        (small_models.chain(12, 6, 4, softmax=True), {"method": "bias"}, (OK, UNSUPPORTED)),
        (small_models.chain(12, 6, 12), {"method": "bias", "momentum": True}, (OK, OK, BAD_ARGUMENT)),
    ],
)
def test_a_smaller_program_refuses_what_it_leaves_out(
    tmp_path: Path, model: bytes, options: Any, statuses: tuple[int, ...]
) -> None:
    (tmp_path / "model.h").write_text(to_c_array(kilotune.compile(model, **options)))
    (tmp_path / "main.cpp").write_text(STATUSES)
    kernel = kernel_objects("g++", "-std=c++17", *WARNINGS)
    run("g++", "-std=c++17", *WARNINGS, *INCLUDE, *kernel, tmp_path / "main.cpp", "-o", tmp_path / "say")
    assert run(tmp_path / "say") == " ".join(map(str, statuses))


# Vector table of a program that lies at the start of the board's 4 MB: stack, and newlib's start.
VECTORS = """\
extern "C" void _start();
using Vector = void (*)();
[[gnu::section(".vectors"), gnu::used]] static const Vector vectors[] = {(Vector)0x200000, _start};
"""


@needs_arm
@pytest.mark.skipif(not shutil.which("qemu-system-arm"), reason="needs qemu-system-arm")
@pytest.mark.parametrize(
    ("core", "board"),
    [("cortex-m0", "mps2-an385"), ("cortex-m3", "mps2-an385"), ("cortex-m4", "mps2-an386")],
)
@pytest.mark.parametrize("small", [False, True])
def test_the_example_learns_the_same_on_emulated_cores(tmp_path: Path, core: str, board: str, small: bool) -> None:
    """Code for M0 runs on the board's M3, which executes all of its instructions."""
    (tmp_path / "vectors.cpp").write_text(VECTORS)
    here = kernel_objects("g++", "-std=c++17", *WARNINGS)
    run("g++", "-std=c++17", *INCLUDE, *here, EXAMPLE / "main.cpp", "-o", tmp_path / "learn")
    flags = ("-std=c++17", "-Os", f"-mcpu={core}", "-mthumb", "-fno-exceptions", "--specs=rdimon.specs")
    kernel = kernel_objects("arm-none-eabi-g++", *flags)
    main = smaller(tmp_path / "smaller") if small else EXAMPLE / "main.cpp"
    run("arm-none-eabi-g++", *flags, *INCLUDE, "-Wl,--section-start=.vectors=0", tmp_path / "vectors.cpp", main,
        *kernel, "-o", tmp_path / "learn.elf")  # fmt: skip
    told = run("qemu-system-arm", "-M", board, "-nographic", "-semihosting", "-kernel", tmp_path / "learn.elf")
    assert_learned(told)
    assert told == run(tmp_path / "learn")
