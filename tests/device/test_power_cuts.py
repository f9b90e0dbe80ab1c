"""The firmware in QEMU loses its power at random flash words: python tests/device/test_power_cuts.py [cuts [swaps]]

A build of its own tears the flash word at which a fuse in the flash file burns down, and restarts. It must
then have the checkpoint that was committed last, or the one that was being committed, and go on; where it was
given another model, that one or the one before.
"""

from __future__ import annotations

import contextlib
import mmap
import random
import shutil
import sys
import tempfile
import zlib
from pathlib import Path

import kilotune
import numpy as np
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link.transport import open_port
from kilotune.targets import qemu

from tests.support import small_models
from tests.support.torn import FOREVER, LONGEST, fuse_left, set_fuse, torn_firmware

BOARD = "mps2-an386"
COMMITS = 3  # the words of this many commits are drawn from
CUTS, SWAP_CUTS = 10, 6


class Cuts:
    """What was cut; `wrong` stays empty where the device keeps its promise."""

    def __init__(self) -> None:
        self.cuts = self.to_last = self.to_next = 0
        self.wrong: list[str] = []


def cut(image: Image, state: Path, cuts: int, seed: int = 1) -> Cuts:
    found, rng = Cuts(), random.Random(seed)
    rows = np.random.default_rng(seed).integers(-128, 128, (8, image.input_bytes)).astype(np.int8)
    with (
        qemu.run(BOARD, state, image.content, firmware=torn_firmware(BOARD), timeout_s=60) as (port, _),
        (state / "flash.bin").open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as flash,
    ):
        last, words = 0, 0  # the CRC committed last; words of a commit
        while found.cuts < cuts:
            with Device(open_port(port, timeout_s=60), timeout_s=60) as device:
                device.train(rows, steps=1 + found.cuts % 7, lr=0.01)
                if words == 0:
                    set_fuse(flash, LONGEST)
                    last = device.commit().crc
                    words = LONGEST - fuse_left(flash)
                set_fuse(flash, rng.randint(1, COMMITS * words), rng.getrandbits(32))
                last, wanted = _commit_until_cut(device, rows, last)
            if fuse_left(flash) != 0:
                found.wrong.append("the device stopped before its fuse burnt down")
                return found
            with Device(open_port(port, timeout_s=60), timeout_s=60) as device:
                crc = device.status().checkpoint.crc
                if crc != zlib.crc32(device.pull_bytes()):
                    found.wrong.append(f"cut {found.cuts}: it runs another adapter than its checkpoint")
            found.cuts += 1
            found.to_last += crc == last
            found.to_next += crc == wanted
            if crc not in (last, wanted):
                found.wrong.append(f"cut {found.cuts}: checkpoint {crc:#x}, neither {last:#x} nor {wanted:#x}")
            last = crc
    return found


def _commit_until_cut(device: Device, rows: np.ndarray, last: int) -> tuple[int, int]:  # type: ignore[type-arg]
    """CRC of the checkpoint before the cut, and of the one that was being committed."""
    while True:
        wanted = zlib.crc32(device.pull_bytes())
        try:
            last = device.commit().crc
        except KilotuneError:
            return last, wanted
        device.train(rows, steps=3, lr=0.01)


@pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-g++") is None,
    reason="needs QEMU and the Arm compiler",
)
def test_a_board_that_loses_power_at_any_flash_word_keeps_its_checkpoint(image: Image, tmp_path: Path) -> None:
    found = cut(image, tmp_path, CUTS)
    assert found.wrong == []
    assert found.cuts == CUTS


@pytest.mark.skipif(
    shutil.which("qemu-system-arm") is None or shutil.which("arm-none-eabi-g++") is None,
    reason="needs QEMU and the Arm compiler",
)
def test_a_board_that_loses_power_while_it_takes_a_model_runs_the_old_one_or_the_new(
    image: Image, other_image: Image, tmp_path: Path
) -> None:
    found = cut_swaps((image, other_image), tmp_path, SWAP_CUTS)
    assert found.wrong == []
    assert found.cuts == SWAP_CUTS


def cut_swaps(images: tuple[Image, Image], state: Path, cuts: int, seed: int = 1) -> Cuts:
    """The first swap also makes the flashed image a record; later ones only write the other model."""
    found, rng = Cuts(), random.Random(seed)
    runs, words = images[0], LONGEST
    with (
        qemu.run(BOARD, state, runs.content, firmware=torn_firmware(BOARD), timeout_s=60) as (port, _),
        (state / "flash.bin").open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as flash,
    ):
        while found.cuts < cuts:
            wanted = images[1] if runs is images[0] else images[0]
            budget = words if words == LONGEST else rng.randint(1, words)
            set_fuse(flash, budget, rng.getrandbits(32))
            with contextlib.suppress(KilotuneError), Device(open_port(port, timeout_s=60), timeout_s=60) as device:
                device.replace_model(wanted)
            left = fuse_left(flash)
            set_fuse(flash, FOREVER)
            with Device(open_port(port, timeout_s=60), timeout_s=60) as device:
                now = device.info().image_hash
            if words == LONGEST:  # the first one ran to its end, to count its words
                words = words - left
                if now != wanted.image_hash.hex():
                    found.wrong.append("no swap without a cut")
            elif left == 0:
                found.cuts += 1
                found.to_last += now == runs.image_hash.hex()
                found.to_next += now == wanted.image_hash.hex()
            elif now != wanted.image_hash.hex():
                found.wrong.append(f"cut {found.cuts}: a swap that was not cut did not happen")
            if now not in [i.image_hash.hex() for i in images]:
                found.wrong.append(f"cut {found.cuts}: it runs {now[:12]}")
                return found
            runs = wanted if now == wanted.image_hash.hex() else runs
    return found


def main() -> None:
    first, second = (kilotune.compile(small_models.chain(24, 12, 24, seed=s), method="bias+head") for s in (3, 4))
    cuts = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        swaps = sys.argv[2:] == ["swaps"]
        found = cut_swaps((first, second), Path(folder), cuts) if swaps else cut(first, Path(folder), cuts)
    print(f"{found.cuts} cuts: {found.to_last} to the one before, {found.to_next} to the one on its way")
    for what in found.wrong:
        print(f"WRONG: {what}")
    raise SystemExit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
