"""A device without a model: answers by simple rules, so that the command line can be tested alone.

Run as a program it is `kilotune` with every target replaced by the fake.
"""

from __future__ import annotations

import json
import os
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from kilotune.adapters.adapter import Adapter
from kilotune.cli.output import plain
from kilotune.device.learning import LearnOptions
from kilotune.device.results import BenchResult, DeviceInfo, Progress, Scores
from kilotune.errors import KilotuneError
from kilotune.image.calibration_block import CalibrationHead
from kilotune.image.image import Image
from kilotune.link.messages import (
    Checkpoint,
    DeviceStatus,
    GuardStatus,
    LearnReport,
    Life,
    MemoryUse,
    Phase,
    RestartCause,
    Scorer,
    SensorState,
    WindowResult,
)
from kilotune.link.status import RefusedError

from tests.support.model_device import zero

RATE_HZ, WINDOW, HOP, AXES = 1000.0, 64, 64, 3
NO_CHECKPOINT, NO_SENSOR = 12, 25


class FakeDevice:
    """Scores a window by its standard deviation; every call is written to $FAKE_LOG."""

    def __init__(self, target: str, image: Image | None, state: Path | None) -> None:
        self.target = target
        self.image = image
        self.flash = state / f"{target.replace(':', '-')}.blob" if state is not None else None
        self.committed: bytes | None = None
        self.sequence = 0
        self.restart()

    def restart(self) -> None:
        if self.flash is not None and self.flash.exists():
            self.committed = self.flash.read_bytes()
        base = Adapter.base(self.image) if self.image is not None else None
        self.adapter = base if base is None or self.committed is None else replace(base, blob=self.committed)

    def __enter__(self) -> FakeDevice:
        return self

    def __exit__(self, *error: object) -> None:
        self.log("close")

    def log(self, name: str, **values: Any) -> None:
        path = os.environ.get("FAKE_LOG")
        if path:
            with Path(path).open("a", encoding="utf-8") as file:
                told = {k: v for k, v in values.items() if not callable(v)}
                file.write(json.dumps({"call": name, **told}) + "\n")

    def info(self) -> DeviceInfo:
        return DeviceInfo(
            self.target, "0.0", "fake", "00", 512, 256, 1024, "ok",
            axes=AXES, rate_hz=RATE_HZ, full_scale_g=16.0, window=WINDOW, hop=HOP,
        )  # fmt: skip

    def status(self) -> DeviceStatus:
        report = replace(
            zero(LearnReport),
            learned=20,
            held=5,
            passes_done=40,
            passes_kept=33,
            loss_calibration_held=-900,
            loss_candidate_held=-1100,
            loss_calibration_learned=-950,
            loss_candidate_learned=-1200,
            kept_candidate=1,
            scorer=Scorer.residual,
            threshold=1536,
            candidate_allowed=1,
            auc_calibration=810,
            auc_candidate=870,
            auc_nearest=860,
            auc_combined=865,
        )
        guard = replace(
            zero(GuardStatus),
            early=8,
            drift_weights=45,
            drift_biases=12,
            unsteady=210,
            loss_early_before=-900,
            loss_early_after=-1000,
            margin_first=1800,
            margin_now=1800,
            told_first=640,
            told_now=640,
        )
        return replace(
            zero(DeviceStatus),
            phase=Phase.detect,
            generation=1,
            windows_learned=25,
            train_steps=100,
            steps_trained=100,
            passes=40,
            checkpoint=replace(zero(Checkpoint), sequence=self.sequence),
            report=report,
            memory=MemoryUse(static_bytes=7000, stack_bytes=4096, stack_peak=1400),
            guard=guard,
            sensor=replace(zero(SensorState), sensor_state=NO_SENSOR),
            restart_cause=RestartCause.power,
        )

    def life(self) -> Life:
        return zero(Life)

    def acknowledge(self, what: str) -> Checkpoint:
        self.log("acknowledge", what=what)
        return self.status().checkpoint

    def set_alarm_rule(self, alarmed: int, of: int) -> Checkpoint:
        self.log("set_alarm_rule", alarmed=alarmed, of=of)
        return self.status().checkpoint

    def learn_with(
        self, samples: list[Any], options: LearnOptions, labels: Any = None, *, progress: Any = None, **rest: Any
    ) -> LearnReport:
        self.log("learn", rows=[len(s) for s in samples], labels=labels, **plain(options), **rest)
        if progress is not None:
            progress(Progress("train", 1, 1))
        if self.adapter is not None:
            blob = bytearray(self.adapter.blob)
            blob[-1] = (blob[-1] + len(samples) + options.seed) % 256
            self.adapter = replace(self.adapter, blob=bytes(blob))
        return self.status().report

    def score(
        self, samples: Any, *, rate_hz: float | None = None, ready_features: bool = False, on_result: Any = None
    ) -> Scores:
        if ready_features:
            return self.score_features(samples)
        self.log("score", rows=len(samples), rate_hz=rate_hz)
        results = []
        for i in range((len(samples) - WINDOW) // HOP + 1):
            level = int(1024 * np.asarray(samples[i * HOP : i * HOP + WINDOW], np.float64).std())
            results.append(WindowResult(i, level, 0, 1 | (2 if level > 1536 else 0), 0))
            if on_result is not None:
                on_result(results[-1])
        return Scores(tuple(results), (0,) * len(results), 0, 0)

    def score_features(self, segments: list[Any]) -> Scores:
        """As of the samples that they are made from, about: a feature is the log2 of an energy in 1e-4 g^2."""
        self.log("score features", rows=[len(s) for s in segments])
        results, owners = [], []
        for owner, segment in enumerate(segments):
            for i, row in enumerate(np.asarray(segment, np.float64)):
                level = int(1024 * np.sqrt(1e-4 * 2 ** (row.max() / 1024)))
                results.append(WindowResult(i, level, 0, 1 | (2 if level > 1536 else 0), 0))
                owners.append(owner)
        return Scores(tuple(results), tuple(owners), 0, 0)

    def infer(self, inputs: Any) -> Any:
        assert self.image is not None
        return np.repeat(inputs[:, :1], self.image.output_bytes, axis=1)

    def train(self, inputs: Any, labels: Any = None, *, progress: Any = None, **options: Any) -> None:
        self.log("train", rows=len(inputs), labels=None if labels is None else labels.tolist(), **options)

    def bench(self, *, runs: int = 1) -> BenchResult:
        return BenchResult(
            instructions_inference=84_000,
            instructions_step=151_000,
            inference_ms=1.0,
            step_ms=2.0,
            runs=runs,
        )

    def commit(self, *, candidate: bool = False) -> None:
        self.log("commit")
        self.committed = self.adapter.blob if self.adapter is not None else None
        if self.flash is not None and self.committed is not None:
            self.flash.parent.mkdir(parents=True, exist_ok=True)
            self.flash.write_bytes(self.committed)
        self.sequence += 1

    def rollback(self) -> None:
        raise RefusedError(NO_CHECKPOINT, 0, "roll back")

    def reset(self) -> None:
        self.log("reset")
        self.restart()

    def calibration_head(self) -> CalibrationHead:
        """With a threshold of 1.5."""
        return CalibrationHead(1, 0, 0, 0, 0, 1536, 0, 0, 0, 0, 0)

    def pull(self, **options: Any) -> Adapter:
        if self.adapter is None:
            raise KilotuneError("no_image", "pulling an adapter needs the image", "give --image")
        return self.adapter

    def push(self, adapter: Adapter, **options: Any) -> None:
        self.log("push", sha256=adapter.sha256)
        self.adapter = adapter


def install() -> None:
    from kilotune.targets import connect
    from kilotune.targets.target import parse_target

    def fake(
        target: str,
        image: Image | Path | None = None,
        state: Path | None = None,
        timeout_s: float = 1.0,
        key_file: Path | None = None,
        *,
        fresh: bool = False,
        insecure: bool = False,
    ) -> FakeDevice:
        parse_target(target)
        return FakeDevice(target, Image.load(image) if isinstance(image, Path) else image, state)

    connect.connect = fake  # type: ignore[assignment]


if __name__ == "__main__":
    assert isinstance(sys.modules["__main__"], types.ModuleType)
    install()
    from kilotune.cli.main import main

    main(prog_name="kilotune")
