"""The command line on the real twin: the calls that everything else may rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.studies.demo import oracle_outputs

from tests.support import small_models
from tests.support.paths import ROOT

HEALTHY = "synthetic:healthy,machine=1000102"
FAULT = "synthetic:outer,machine=1000102,severity=0.8"
AE = ROOT / "models" / "vibration_ae_20k" / "vibration_ae_20k.tflite"

if find_spec("kilotune._native") is None:
    pytest.skip("the twin is not built: pip install .", allow_module_level=True)


def run(*arguments: object, code: int = 0) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    command = [sys.executable, "-m", "kilotune", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[0] if len(lines) == 1 else lines


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A model without features, compiled for bias+head, and its inputs in x.npy."""
    (tmp_path / "m.tflite").write_bytes(small_models.chain(24, 10, 24, seed=5))
    run("compile", tmp_path / "m.tflite", "-o", tmp_path / "m.ktm", "--method", "bias+head")
    x = np.random.default_rng(2).integers(-128, 128, (12, 24)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    return tmp_path


def infer(folder: Path, name: str, *more: object) -> Any:
    run("infer", folder / "m.ktm", "--target", "twin", "-i", folder / "x.npy", "-o", folder / name, *more)
    return np.load(folder / name)


def train(folder: Path, name: str, seed: int = 1) -> str:
    told = run("train", folder / "m.ktm", "--target", "twin", "-i", folder / "x.npy", "--steps", 120,
               "--lr", 0.02, "--seed", seed, "-o", folder / name)  # fmt: skip
    return str(told["adapter_sha256"])


def test_train_is_repeatable_and_what_it_did_does_not_leak_into_the_next_command(plain: Path) -> None:
    before = infer(plain, "y0.npy")
    first = train(plain, "a")
    after = infer(plain, "y1.npy", "--adapter", plain / "a")
    again = infer(plain, "y2.npy")
    np.testing.assert_array_equal(before, again)
    assert not np.array_equal(before, after)
    assert train(plain, "b") == first
    assert train(plain, "c", seed=2) != first
    assert (plain / "a" / "adapter_model.safetensors").read_bytes() == (
        plain / "b" / "adapter_model.safetensors"
    ).read_bytes()


def test_merged_model_gives_the_outputs_of_the_device(plain: Path) -> None:
    train(plain, "a")
    adapted = infer(plain, "y.npy", "--adapter", plain / "a")
    run("merge", plain / "m.tflite", plain / "a", "-o", plain / "merged.tflite")
    reference = oracle_outputs(plain / "merged.tflite", plain / "x.npy", plain / "reference.npy")
    if reference is None:
        pytest.skip("tflite-runtime 2.14 is not installed: it exists for Python up to 3.11")
    np.testing.assert_array_equal(reference.reshape(adapted.shape), adapted)


def test_adapter_of_another_model_is_refused(plain: Path) -> None:
    train(plain, "a")
    (plain / "other.tflite").write_bytes(small_models.chain(24, 10, 24, seed=6))
    run("compile", plain / "other.tflite", "-o", plain / "other.ktm", "--method", "bias+head")
    error = run("infer", plain / "other.ktm", "-t", "twin", "-i", plain / "x.npy", "-o", plain / "y.npy",
                "--adapter", plain / "a", code=5)["error"]  # fmt: skip
    assert error["code"] == "wrong_base"
    assert run("merge", plain / "other.tflite", plain / "a", "-o", plain / "z.tflite", code=5)["error"]["hint"]
    assert not (plain / "z.tflite").exists()


def test_state_folder_keeps_a_commit_and_rollback_needs_one(plain: Path) -> None:
    device = ("-t", "twin", "--image", plain / "m.ktm", "--state", plain / "flash")
    assert run("rollback", *device, code=4)["error"]["code"] == "no_checkpoint"
    assert run("commit", *device)["status"]["checkpoint"]["sequence"] == 1
    assert run("info", *device)["status"]["checkpoint"]["sequence"] == 1


def test_a_candidate_is_passed_over_by_a_rollback_until_it_is_stable(plain: Path) -> None:
    device = ("-t", "twin", "--image", plain / "m.ktm", "--state", plain / "candidates")
    assert run("mark-stable", *device, code=4)["error"]["code"] == "no_checkpoint"
    assert run("commit", *device)["status"]["stable"] == 1
    assert run("commit", "--candidate", *device)["status"]["stable"] == 0
    marked = run("mark-stable", *device)["status"]
    assert (marked["stable"], marked["checkpoint"]["sequence"]) == (1, 3)
    assert run("info", *device)["status"]["stable"] == 1


def test_bench_of_a_target_that_does_not_count_gives_null(plain: Path) -> None:
    told = run("bench", plain / "m.ktm", "--target", "twin")
    assert told["instructions"] == {"inference": None, "step": None}
    assert told["ram_bytes"]["arena"] == kilotune.Image.load(plain / "m.ktm").arena_bytes


needs_model = pytest.mark.skipif(not AE.exists(), reason=f"the base model is not there: {AE}")


@needs_model
def test_a_fault_is_not_learned_on_top_of_a_healthy_machine(tmp_path: Path) -> None:
    """Two processes with one flash: the first learns and commits, the second is fed a fault as healthy."""
    image = tmp_path / "ae.ktm"
    assert run("compile", AE, "-o", image, "--early", 8)["early_windows"] == 8
    budget = run("inspect", image)["ram_bytes"]
    assert budget["early windows"] == 11 * 96
    device = ("-t", "twin", "--image", image, "--state", tmp_path / "flash")
    first = run("stream", HEALTHY, *device, "--learn", "--commit", "--passes", 2)
    assert first["guard"]["early"] > 2
    again = run("stream", FAULT, *device, "--learn", "--resume", "--passes", 2)
    assert again["guard"]["drifted"] > 10
    told = run("info", *device)
    assert told["status"]["guard"]["drifted"] == 0, "counters are since boot"
    kept = run("stream", HEALTHY + ",seed=5", *device, "--learn", "--resume", "--recalibrate", "--passes", 2)
    assert kept["guard"]["returned"] == 0
    error = run("compile", AE, "-o", image, "--early", 200, code=1)["error"]
    assert error["code"] == "bad_profile"


@needs_model
def test_stream_learns_and_detects_a_simulated_fault(tmp_path: Path) -> None:
    run("compile", AE, "-o", tmp_path / "ae.ktm", "--method", "bias+head")
    lines = run(
        "stream", f"{HEALTHY},seed=1,seconds=3", f"{HEALTHY},seed=2,seconds=1", f"{FAULT},seed=3,seconds=1",
        "-t", "twin", "--image", tmp_path / "ae.ktm", "--state", tmp_path / "flash",
        "--learn", "--detect", "--commit",
    )  # fmt: skip
    shares = {}
    for kind in ("healthy", "outer"):
        flags = [w["anomaly"] for w in lines if w["event"] == "window" and f":{kind}" in w["source"]]
        shares[kind] = sum(flags) / len(flags)
    assert shares["healthy"] < 0.2
    assert shares["outer"] > 0.8
    assert lines[-1]["learned"]["learned"] > 0


@needs_model
def test_wrong_axes_are_refused_before_anything_is_learned(tmp_path: Path) -> None:
    run("compile", AE, "-o", tmp_path / "ae.ktm")
    np.save(tmp_path / "x.npy", np.zeros((4096, 2), np.float32))
    device = ("-t", "twin", "--image", tmp_path / "ae.ktm", "--state", tmp_path / "flash")
    error = run("stream", tmp_path / "x.npy", "--rate", 20000, "--unit", "g", "--learn", *device, code=4)["error"]
    assert error["code"] == "wrong_axes"


@needs_model
def test_evaluate_on_a_simulated_machine_ranks_learning_above_nothing(tmp_path: Path) -> None:
    told = run(
        "evaluate",
        "--healthy",
        f"{HEALTHY},seed=1,seconds=3",
        "--fault",
        f"{FAULT},seed=3,seconds=1",
        "--model",
        AE,
    )
    rows = {r["name"]: r for r in told["rows"]}
    assert rows["calibration"]["auc"] > rows["nothing"]["auc"]
    assert told["recommended"] in rows
    assert told["recommended"] != "nothing"


@needs_model
def test_demo_on_the_twin_holds_every_check(tmp_path: Path) -> None:
    story = run("demo", "--target", "twin", "-o", tmp_path / "demo")
    assert story["ok"] is True
    assert all(c["ok"] for c in story["checks"])
    assert story["after"]["auc"] > story["before"]["auc"]
    again = run("demo", "--target", "twin", "-o", tmp_path / "demo")
    assert again["adapter_sha256"] == story["adapter_sha256"]


def test_activations_computed_again_save_ram_and_learn_the_same(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(small_models.chain(24, 24, 24, 24, 24, 24, 24, seed=4))
    np.save(tmp_path / "x.npy", np.random.default_rng(2).integers(-128, 128, (12, 24)).astype(np.int8))
    made: list[dict[str, Any]] = []
    merged: list[bytes] = []
    for more in ((), ("--recompute",)):
        image, adapter, out = tmp_path / "m.ktm", tmp_path / f"adapter{len(made)}", tmp_path / "out.tflite"
        made.append(run("compile", tmp_path / "m.tflite", "-o", image, "--method", "lora", *more))
        run("train", image, "--target", "twin", "-i", tmp_path / "x.npy", "--steps", 30, "--lr", 0.02, "--seed", 1,
            "-o", adapter)  # fmt: skip
        run("merge", tmp_path / "m.tflite", adapter, "-o", out)
        merged.append(out.read_bytes())
    assert merged[0] == merged[1] != (tmp_path / "m.tflite").read_bytes()
    assert made[1]["arena_bytes"] < made[0]["arena_bytes"]
    assert made[1]["recomputed_macs"] > made[0]["recomputed_macs"] == 0
