"""Commands that make models and images: what is written, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.support.command_line import run


def test_compile_and_inspect(tflite: Path, tmp_path: Path) -> None:
    made = run("compile", tflite, "-o", tmp_path / "deep" / "m.ktm", "--method", "bias", fake=False)
    assert made["method"] == "bias"
    assert made["loss_because"]
    asked = run("compile", tflite, "-o", tmp_path / "r.ktm", "--loss", "reconstruction", fake=False)
    assert (asked["loss"], asked["loss_because"]) == ("reconstruction", "asked for")
    assert [layer["ways"][:1] for layer in made["trainable"]] == [["bias"], ["bias"]]
    assert made["image_bytes"] == (tmp_path / "deep" / "m.ktm").stat().st_size
    seen = run("inspect", tmp_path / "deep" / "m.ktm", fake=False)
    assert seen["image_hash"] == made["image_hash"]
    assert seen["ram_bytes"]["arena"] == made["arena_bytes"]
    assert {b["board"] for b in seen["boards"]} >= {"mps2-an386", "native"}
    assert len(seen["layers"]) == 2


def test_damaged_image_is_an_error_with_advice(image: Path, tmp_path: Path) -> None:
    whole = image.read_bytes()
    for damaged in (whole[:100], whole[:-1], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], b""):
        (tmp_path / "m.ktm").write_bytes(damaged)
        error = run("inspect", tmp_path / "m.ktm", fake=False, code=1)["error"]
        assert error["code"] == "bad_image"
        assert error["hint"]


def test_quantize_without_tensorflow_says_what_to_install(tflite: Path, tmp_path: Path) -> None:
    if find_spec("tensorflow") is not None:
        pytest.skip("tensorflow is installed here")
    np.save(tmp_path / "x.npy", np.zeros((4, 12), np.float32))
    error = run("quantize", tflite, "--samples", tmp_path / "x.npy", "-o", tmp_path / "q.tflite", fake=False, code=1)
    assert "tensorflow" in error["error"]["hint"]
