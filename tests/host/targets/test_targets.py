"""Names of targets, and opening the twin: what they mean, keep and refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kilotune.errors import KilotuneError
from kilotune.image.image import Image
from kilotune.targets import flashfile
from kilotune.targets.connect import connect
from kilotune.targets.target import parse_target, state_folder
from kilotune.targets.twin import Twin

from tests.support.errors import code_of


@pytest.mark.parametrize(
    ("name", "kind", "board_id"),
    [
        ("twin", "twin", "native"),
        ("native", "native", "native"),
        ("qemu:mps2-an386", "qemu", "mps2-an386"),
        ("renode:stm32f4_discovery", "renode", "stm32f4_discovery"),
        ("renode:nrf52840dk,lis2dw12=synthetic:healthy", "renode", "nrf52840dk"),
        ("/dev/ttyACM0", "port", ""),
        ("socket://127.0.0.1:4000", "port", ""),
        ("COM3", "port", ""),
    ],
)
def test_names_of_targets(name: str, kind: str, board_id: str) -> None:
    target = parse_target(name)
    assert (target.kind, target.board) == (kind, board_id)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "bad_argument"),
        ("twins", "bad_argument"),
        ("qemu:", "bad_argument"),
        ("qemu:mps3", "unknown_board"),
        ("qemu:native", "no_emulator"),
        ("renode:microbit", "no_emulator"),
        ("renode:stm32f4_discovery,lis2dw12=a.npz", "no_emulator"),
        ("renode:nrf52840dk,lis2dw12", "bad_argument"),
        ("renode:nrf52840dk,virtual,lis2dw12=a.npz", "bad_argument"),
        ("renode:nrf52840dk,spi,lis2dw12=a.npz", "bad_argument"),
        ("native:slow,lis2dw12=a.npz", "bad_argument"),
        ("native:spi,", "bad_argument"),
        ("rp2040js:microbit", "no_emulator"),
    ],
)
def test_names_that_mean_nothing_are_refused(name: str, code: str) -> None:
    with pytest.raises(KilotuneError) as error:
        parse_target(name)
    assert code_of(error) == code


@pytest.mark.parametrize("words", ["", "virtual,", "spi,", "virtual,spi,", "spi,virtual,"])
def test_the_sensor_of_a_target_is_told_in_words(words: str) -> None:
    feed = parse_target(f"native:{words}adxl345=synthetic:healthy,seconds=1").feed
    assert feed is not None
    assert (feed.chip, feed.source) == ("adxl345", "synthetic:healthy,seconds=1")
    assert (feed.virtual, feed.spi) == ("virtual" in words, "spi" in words)


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path, image: Image) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KilotuneError) as error:
        connect("twin", image, tmp_path / "file")
    assert code_of(error) == "bad_state"


def test_the_twin_keeps_its_flash_in_the_state_folder(tmp_path: Path, image: Image) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (8, 10)).astype(np.int8)
    with connect("twin", image, tmp_path) as twin:
        twin.train(x, steps=20, lr=0.01)
        committed = twin.commit()
        output = twin.infer(x)
    with connect("twin", None, tmp_path) as twin:  # the model is in the flash file
        assert twin.status().checkpoint == committed
        np.testing.assert_array_equal(twin.infer(x), output)
    with connect("twin", image, fresh=True) as twin:
        assert twin.status().checkpoint.sequence == 0
    with Twin(image) as twin:
        assert twin.status().checkpoint.sequence == 0


def test_a_twin_without_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(KilotuneError) as error:
        connect("twin", state=tmp_path)
    assert code_of(error) == "no_model"
    with flashfile.locked(state_folder(parse_target("twin"), tmp_path) / "flash.bin"):
        pass  # the failed open let go of it
