"""Adapters: from blob to folder and back, the same bytes for the same parameters, and malicious folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kilotune.adapters.adapter import Adapter
from kilotune.adapters.config import CONFIG_FILE, MODEL_FILE
from kilotune.compiler import compile as compiler
from kilotune.errors import KilotuneError

from tests.support import small_models
from tests.support.killed import Killed, cut_after

MODEL = small_models.chain(12, 8, 12, seed=4)
IMAGE = compiler.compile(MODEL, method="bias+head")


def random_adapter(seed: int = 0, **about: Any) -> Adapter:
    blob = np.random.default_rng(seed).integers(0, 256, IMAGE.adapter_bytes).astype(np.uint8).tobytes()
    return Adapter.from_blob(IMAGE, blob, **about)


def refusal(directory: Path) -> KilotuneError:
    with pytest.raises(KilotuneError) as caught:
        Adapter.load(directory)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("method", ["bias", "head", "bias+head"])
def test_saved_and_loaded_is_the_same(tmp_path: Path, method: Any) -> None:
    image = compiler.compile(MODEL, method=method)
    blob = np.random.default_rng(1).integers(0, 256, image.adapter_bytes).astype(np.uint8).tobytes()
    adapter = Adapter.from_blob(image, blob, windows_seen=7, steps=9, device="d", firmware="f")
    adapter.save(tmp_path / "a")
    assert Adapter.load(tmp_path / "a") == adapter
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [CONFIG_FILE, MODEL_FILE]


def test_a_save_that_is_killed_leaves_the_old_adapter_or_the_new_one(tmp_path: Path) -> None:
    """Wherever that is: a folder with one file of each could be read by nobody."""
    old, new = random_adapter(0), random_adapter(1)
    seen: list[Adapter] = []
    for steps in range(100):
        folder = tmp_path / str(steps)
        old.save(folder)
        with pytest.MonkeyPatch.context() as patch:
            cut_after(steps, patch)
            try:
                new.save(folder)
                finished = True
            except Killed:
                finished = False
        seen.append(Adapter.load(folder))
        if finished:
            break
    assert finished
    assert steps >= 2  # both files were still to be replaced
    assert seen[0] == old
    assert seen[-1] == new
    assert all(adapter in (old, new) for adapter in seen)


def test_the_arrays_depend_on_the_parameters_alone(tmp_path: Path) -> None:
    random_adapter(device="one", steps=1).save(tmp_path / "a")
    random_adapter(device="two", steps=2, windows_seen=5).save(tmp_path / "b")
    assert (tmp_path / "a" / MODEL_FILE).read_bytes() == (tmp_path / "b" / MODEL_FILE).read_bytes()
    assert random_adapter(device="one").sha256 == random_adapter(device="two").sha256
    assert random_adapter(0).sha256 != random_adapter(1).sha256


def test_the_base_adapter_changes_nothing() -> None:
    base = Adapter.base(IMAGE)
    from kilotune.tflite import model as tflite_model

    model = tflite_model.read(MODEL)
    for layer in base.config.layers:
        assert not base.effective_bias_delta(layer).any()
    head = base.config.layers[-1]
    own = model.tensors[head.weight_tensor].values()
    np.testing.assert_array_equal(base.effective_weights(head, np.zeros_like(own)), own)


def test_effective_deltas_round_half_up() -> None:
    layer = IMAGE.trained[0]
    step = 1 << layer.bias_fraction_bits
    blob = bytearray(IMAGE.adapter_bytes)
    deltas = np.array([0, step // 2, step // 2 - 1, -step // 2, -step // 2 - 1, step, -step, 3 * step], "<i4")
    blob[layer.bias_offset : layer.bias_offset + 32] = deltas.tobytes()
    adapter = Adapter.from_blob(IMAGE, bytes(blob))
    assert adapter.effective_bias_delta(layer).tolist() == [0, 1, 0, 0, -1, 1, -1, 3]


def test_an_adapter_of_another_image_is_refused() -> None:
    other = compiler.compile(MODEL, method="bias")
    with pytest.raises(KilotuneError, match="another image of the same model"):
        random_adapter().require_image(other)
    with pytest.raises(KilotuneError, match="another base model"):
        random_adapter().require_image(compiler.compile(small_models.chain(12, 8, 12, seed=5), method="bias+head"))
    random_adapter().require_image(IMAGE)


def test_a_blob_of_another_size_is_refused() -> None:
    with pytest.raises(KilotuneError):
        Adapter.from_blob(IMAGE, bytes(IMAGE.adapter_bytes + 4))


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert CONFIG_FILE in refusal(tmp_path).message
    random_adapter().save(tmp_path)
    (tmp_path / MODEL_FILE).unlink()
    assert MODEL_FILE in refusal(tmp_path).message


def test_every_flipped_bit_of_the_arrays_is_refused(tmp_path: Path) -> None:
    random_adapter().save(tmp_path)
    content = (tmp_path / MODEL_FILE).read_bytes()
    for position in range(0, len(content), 11):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        (tmp_path / MODEL_FILE).write_bytes(damaged)
        assert refusal(tmp_path).code == "bad_adapter"


def change(tmp_path: Path, path: tuple[Any, ...], value: Any) -> KilotuneError:
    random_adapter().save(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    return refusal(tmp_path)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format_version",), 2),
        (("base_hash",), "xyz"),
        (("image_hash",), "00" * 31),
        (("image_hash",), "00" * 32),
        (("adapter_bytes",), 1 << 40),
        (("adapter_bytes",), -4),
        (("adapter_bytes",), "big"),
        (("calibration_bytes",), 8),
        (("layers",), {}),
        (("layers",), [[]]),
        (("layers", 0, "outputs"), 1 << 31),
        (("layers", 0, "outputs"), -1),
        (("layers", 0, "bias_offset"), 4),
        (("layers", 0, "bias_fraction_bits"), 60),
        (("layers", 0, "bias_fraction_bits"), True),
        (("layers", 1, "weight_offset"), 0),
        (("layers", 1, "extra"), 0),
        (("unknown",), 1),
        (("sha256",), 5),
    ],
)
def test_a_hostile_configuration_is_refused(tmp_path: Path, path: tuple[Any, ...], value: Any) -> None:
    assert change(tmp_path, path, value).code == "bad_adapter"


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100000, b'{"format_version": 1}'])
def test_a_configuration_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    random_adapter().save(tmp_path)
    (tmp_path / CONFIG_FILE).write_bytes(content)
    assert refusal(tmp_path).code == "bad_adapter"


def test_a_file_where_the_directory_should_be_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KilotuneError):
        random_adapter().save(tmp_path / "file")
    refusal(tmp_path / "file")
