"""Power fails inside a flash word of a commit: the device starts with the checkpoint before or the new one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from kilotune.device.device import Device
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.link.transport import open_port
from kilotune.targets import renode
from kilotune.targets.target import parse_target

WORD = 4


def rows(image: Image, seed: int) -> npt.NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, (16, image.input_bytes)).astype(np.int8)


def _operations(image: Image) -> list[int]:
    """The erase at first; then drawn from as many words as the adapter has: the record has more."""
    last = 1 + image.adapter_bytes // WORD
    return [1, *(int(k) for k in np.random.default_rng(11).integers(2, last, 2)), last]


def test_a_commit_that_power_cuts_leaves_the_old_checkpoint_or_the_new(
    target: str, image: Image, tmp_path: Path
) -> None:
    parsed = parse_target(target)
    if parsed.kind != "renode":
        pytest.skip("needs an emulator whose power can fail at a flash word")
    x = rows(image, 5)
    kept = tmp_path / "kept"
    with running(parsed.board, kept, image.content) as device:
        device.train(rows(image, 0), steps=20, lr=0.01)
        device.commit()
        old = device.infer(x).tobytes()
        device.train(rows(image, 1), steps=20, lr=0.01)
        new = device.infer(x).tobytes()
    assert old != new
    for k in _operations(image):
        folder = tmp_path / f"cut-{k}"
        folder.mkdir()
        shutil.copy(kept / "flash.bin", folder / "flash.bin")
        with running(parsed.board, folder, None, f"sysbus.cells FailPowerAt {k}") as device:
            device.train(rows(image, 1), steps=20, lr=0.01)
            with pytest.raises(KilotuneError):
                device.commit()
        if k > 1:  # half an erase of what is blank already changes nothing
            assert (folder / "flash.bin").read_bytes() != (kept / "flash.bin").read_bytes()
        with running(parsed.board, folder, None) as device:
            assert device.infer(x).tobytes() in (old, new)
            device.train(rows(image, 2), steps=5, lr=0.01)
            committed = device.commit()
            device.reset()
            assert device.status().checkpoint == committed


class running:  # lower case: a context manager
    """A device in Renode on the flash file in `folder`."""

    def __init__(self, board_id: str, folder: Path, content: bytes | None, *commands: str) -> None:
        folder.mkdir(exist_ok=True)
        self._run = renode.run(board_id, folder, content, commands=commands)

    def __enter__(self) -> Device:
        port, _ = self._run.__enter__()
        try:
            self._device = Device(open_port(port, timeout_s=60), timeout_s=60)
        except BaseException as error:
            self._run.__exit__(type(error), error, None)
            raise
        return self._device

    def __exit__(self, *error: object) -> None:
        self._device.close()
        self._run.__exit__(None, None, None)
