"""The firmware in QEMU loses its power at random flash words: python tests/device/test_power_cuts.py [cuts]

A build of its own tears the flash word at which a fuse in the flash file burns down, and restarts. It must
then have the checkpoint that was committed last, or the one that was being committed, and go on.
"""

from __future__ import annotations

import mmap
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))

import kilotune
from kilotune.errors import KilotuneError
from kilotune.image import Image
from kilotune.link.device import Device
from kilotune.link.transport import open_port
from kilotune.targets import qemu

import models

BOARD = "mps2-an386"
COMMITS = 3  # words of so many are what is drawn from
CUTS = 10
ROOT = Path(__file__).parents[2]


def torn_firmware() -> Path:
    folder = ROOT / "build" / f"{BOARD}-torn-flash"
    for command in (
        ["cmake", "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DKILOTUNE_BOARD={BOARD}", "-DKILOTUNE_TORN_FLASH=ON"],
        ["cmake", "--build", folder],
    ):
        subprocess.run(command, check=True, capture_output=True, timeout=600)
    return folder / "kilotune.elf"


class Cuts:
    """What was cut; `wrong` stays empty where the device keeps its promise."""

    def __init__(self) -> None:
        self.cuts = self.to_last = self.to_next = 0
        self.wrong: list[str] = []


def cut(image: Image, state: Path, cuts: int, seed: int = 1) -> Cuts:
    found, rng = Cuts(), random.Random(seed)
    rows = np.random.default_rng(seed).integers(-128, 128, (8, image.input_bytes)).astype(np.int8)
    with (
        qemu.run(BOARD, state, image.content, firmware=torn_firmware(), timeout_s=60) as (port, _),
        (state / "flash.bin").open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as flash,
    ):
        fuse = len(flash) - 8
        last, words = 0, 0  # the CRC committed last; words of a commit
        while found.cuts < cuts:
            with Device(open_port(port, timeout_s=60), timeout_s=60) as device:
                device.train(rows, steps=1 + found.cuts % 7, lr=0.01)
                if words == 0:
                    struct.pack_into("<II", flash, fuse, 1 << 30, 0)
                    last = device.commit().crc
                    words = (1 << 30) - struct.unpack_from("<I", flash, fuse)[0]
                struct.pack_into("<II", flash, fuse, rng.randint(1, COMMITS * words), rng.getrandbits(32))
                last, wanted = _commit_until_cut(device, rows, last)
            if struct.unpack_from("<I", flash, fuse)[0] != 0:
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


def main() -> None:
    chosen = kilotune.compile(models.chain(24, 12, 24, seed=3), method="bias+head")
    with tempfile.TemporaryDirectory() as folder:
        found = cut(chosen, Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 200)
    print(f"{found.cuts} cuts: {found.to_last} to the last committed, {found.to_next} to the one being committed")
    for what in found.wrong:
        print(f"WRONG: {what}")
    raise SystemExit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
