"""The rows of the device are the device's own, though its windows come from features that were computed once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from kilotune.device.learning import LearnOptions
from kilotune.image.image import Image
from kilotune.recordings import Recording, read
from kilotune.report.metrics import separation
from kilotune.studies.base_models import base_model
from kilotune.studies.evaluation import Row, evaluate
from kilotune.studies.windows import measure
from kilotune.targets.connect import connect
from kilotune.terms import Scorer

OPTIONS = LearnOptions(passes=3)


def recording(kind: str, seed: int, seconds: float = 0.8) -> Recording:
    return read(f"synthetic:{kind},seed={seed},seconds={seconds},rate=20000")


@pytest.fixture(scope="module")
def image() -> Image:
    import kilotune

    return kilotune.compile(base_model(), method="bias")


@pytest.fixture(scope="module")
def healthy() -> list[Recording]:
    found = [recording("healthy", seed) for seed in range(3)]
    stuck = found[0].samples.copy()
    stuck[6000:9000] = stuck[6000]  # a sensor that froze for a while: a device does not learn from that
    return [replace(found[0], samples=stuck), *found[1:]]


def test_learning_from_features_is_learning_from_samples(healthy: list[Recording], image: Image) -> None:
    fault = recording("looseness", 9)
    found = evaluate(base_model(), healthy, [fault], options=OPTIONS)
    row = next(r for r in found.rows if r.name == "bias")
    with connect("twin", image, fresh=True) as device:
        report = device.learn_with(
            [r.samples for r in (healthy[0], healthy[2])], replace(OPTIONS, scorer=Scorer.residual, force=True)
        )
        test, bad = (device.score(r.samples).values.tolist() for r in (healthy[1], fault))
    assert row.threshold == report.threshold / 1024
    assert row.separation == separation(test, bad, report.threshold / 1024)
    assert (found.learned.stored, found.learned.held) == (report.learned, report.held)
    assert found.learned.refused > 0
    assert any("stuck" in w for w in found.warnings)


def test_refusals_are_those_of_a_device(healthy: list[Recording], image: Image) -> None:
    loud = replace(healthy[0], samples=np.clip(healthy[0].samples * 500, -40, 40).astype(np.float32))
    dead = replace(healthy[0], samples=np.zeros_like(healthy[0].samples))
    for one, found in zip((*healthy, loud, dead), measure(image, [*healthy, loud, dead]), strict=True):
        with connect("twin", image, fresh=True) as device:
            assert [r.refused for r in device.score(one.samples)] == found.refused.tolist()
    assert not found.alive.any()
    assert "constant" in found.troubles


def test_a_row_names_no_method_that_a_plainer_row_equals(healthy: list[Recording]) -> None:
    found = evaluate(base_model(), healthy, [recording("imbalance,severity=1", 9)], options=OPTIONS)
    rows: dict[str, Row] = {r.name: r for r in found.rows}
    chosen = rows[found.recommended]
    assert chosen.separation.detection - chosen.separation.false_alarms > 0.9
    for row in rows.values():
        if row.cost < chosen.cost:
            assert row.separation.detection - row.separation.false_alarms < chosen.separation.detection
