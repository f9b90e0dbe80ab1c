"""A device cannot be blinded in a few bands, phase by phase, by whoever knows what it would keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.bench import narrow_sweep
from tests.conformance.test_guardrails import image as machine_image
from tests.support import rig
from tests.support.learning_twin import FEATURES, SETTINGS, machine
from tests.support.narrow import Narrow, Twin, detected, least_detection


@pytest.mark.parametrize("early", [0, 8])
@pytest.mark.parametrize(("bands", "size"), [((3, 11, 29), 6.0), ((1, 2, 8, 13, 20, 27), 3.2), (range(4, 16), 3.2)])
def test_a_fault_in_a_few_bands_is_not_learned_step_by_step(early: int, bands: Any, size: float) -> None:
    settings = {**SETTINGS, "passes": 10}
    twin = Twin(machine_image(early), bytearray(b"\xff" * 65536))
    twin.device.learn(machine(64, 1), seed=1, **settings)
    twin.device.commit()
    away = np.zeros((1, FEATURES))
    away[0, list(bands)] = 1024 * size * np.where(np.arange(len(bands)) % 2, -1, 1)
    alone = (machine(200, 3) + np.rint(away)).astype(np.int16)
    before = detected(twin.device, alone)
    assert before > 0.9
    assert least_detection(twin, Narrow([machine(400, 2)], away, alone), 12, settings) > before / 2


@pytest.mark.parametrize("kind", ["LOR_GS_BaLo_WA", "HBF_GS_BaLo_WA"])
def test_a_real_fault_in_six_bands_is_not_learned_step_by_step(kind: str) -> None:
    """All speeds of the rig, the project's base model; `tests/bench/poisoning.py` tries every fault for longer."""
    healthy = [rig.healthy(speed) for speed in rig.SPEEDS]
    fault = [rig.windows(f"{speed}_{kind}_00lb") for speed in rig.SPEEDS]
    settings: dict[str, Any] = {"ready_features": True, "hold_period": 10, "hold_count": 3, "passes": 10}
    twin = Twin(rig.image(early=8, reservoir=40), bytearray(b"\xff" * (1 << 19)))
    learned = np.stack([h[:10] for h in healthy], 1).reshape(40, -1)
    twin.device.learn(learned, seed=1, **{**settings, "passes": 40})
    twin.device.commit()
    attack = Narrow.of([f[: len(f) // 2] for f in fault], [h[11:] for h in healthy])
    before = detected(twin.device, attack.alone)
    assert before > 0.85
    assert least_detection(twin, attack, 12, settings) > before / 2


@pytest.mark.slow
@pytest.mark.parametrize("place", narrow_sweep.PLACES)
def test_six_bands_anywhere_are_not_blinded_within_48_phases(place: str) -> None:
    """The fault is as small as can be and still be detected; `tests/bench/narrow_sweep.py` tries other widths."""
    swept = list(narrow_sweep.sweep(48, 8, [place], widths=(6,), steps=("largest",)))
    assert len(swept) == 1
    assert swept[0].least > swept[0].before / 2
