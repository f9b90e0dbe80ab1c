"""The power fails at every flash word of a model swap: python tests/device/test_model_cuts.py [--stride 1]

A build of its own of the native firmware tears the word at which a fuse in the flash file burns down, and restarts.
The model that was flashed takes its place as a record first, so a swap of it writes most. The device that starts
then runs the old model or the new one, the same one after the next restart, and takes the new one.
"""

from __future__ import annotations

import argparse
import contextlib
import mmap
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import kilotune
import numpy as np
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link.transport import open_port
from kilotune.targets import native
from kilotune.targets.boards import board
from kilotune.targets.twin import Twin

from tests.support import small_models
from tests.support.torn import FOREVER, LONGEST, fuse_left, set_fuse, torn_firmware

LAYOUT = board("native").flash
TIMEOUT_S = 20


@dataclass
class Cuts:
    words: int = 0  # of one swap
    cuts: int = 0
    to_old: int = 0
    to_new: int = 0


def cut(old: Image, new: Image, folder: Path, *, stride: int) -> Cuts:
    found, rng = Cuts(), random.Random(1)
    x = np.random.default_rng(1).integers(-128, 128, (1, old.input_bytes)).astype(np.int8)
    outputs = {}
    for image in (old, new):
        with Twin(image) as twin:
            outputs[image.image_hash.hex()] = twin.infer(x).tobytes()
    with (
        native.run(folder, old.content, program=torn_firmware("native")) as (port, process),
        (folder / "flash.bin").open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as flash,
    ):
        partition = slice(LAYOUT.model_offset, LAYOUT.model_offset + LAYOUT.model_bytes)
        at_first = flash[partition]

        def swap(words: int) -> int:
            """Words that the fuse has left."""
            with contextlib.suppress(KilotuneError), Device(open_port(port, timeout_s=TIMEOUT_S)) as device:
                set_fuse(flash, words, rng.getrandbits(32))
                device.replace_model(new)
            left = fuse_left(flash)
            set_fuse(flash, FOREVER)
            return left

        def look() -> str:
            with Device(open_port(port, timeout_s=TIMEOUT_S)) as device:
                runs = device.info().image_hash
                assert device.infer(x).tobytes() == outputs[runs]
                return runs

        found.words = LONGEST - swap(LONGEST)
        assert look() == new.image_hash.hex()
        for word in range(1 + rng.randrange(stride), found.words + 1, stride):
            flash[partition] = at_first
            process.press_reset()
            assert swap(word) == 0
            runs = look()
            assert runs in outputs, f"word {word}: {runs}"
            process.press_reset()
            assert look() == runs, f"word {word}"
            swap(FOREVER)
            assert look() == new.image_hash.hex(), f"word {word}"
            found.cuts += 1
            found.to_old += runs == old.image_hash.hex()
            found.to_new += runs == new.image_hash.hex()
    return found


def test_a_cut_at_any_word_of_a_swap_leaves_the_old_model_or_the_new_one(
    image: Image, other_image: Image, tmp_path: Path
) -> None:
    found = cut(image, other_image, tmp_path, stride=397)
    assert found.cuts >= found.words // 397 > 5
    assert found.to_old > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="flash words from one cut to the next")
    options = parser.parse_args()
    old, new = (kilotune.compile(small_models.chain(24, 12, 24, seed=s), method="bias+head") for s in (3, 4))
    with tempfile.TemporaryDirectory() as folder:
        found = cut(old, new, Path(folder), stride=options.stride)
    print(f"{found.cuts} cuts in a swap of {found.words} words and erased words: {found.to_old} to the old model, "
          f"{found.to_new} to the new one, 0 others")  # fmt: skip


if __name__ == "__main__":
    main()
