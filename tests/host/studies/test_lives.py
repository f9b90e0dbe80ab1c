"""A history, record by record: how it is cut, what the policy does around plain scores, what the table says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import kilotune
import numpy as np
import pytest
from kilotune.cli.life_study import story
from kilotune.cli.streaming import summarised
from kilotune.device.device import Device
from kilotune.device.learning import LearnOptions
from kilotune.errors import KilotuneError
from kilotune.image.base_profile import LifeSettings
from kilotune.image.features import FeatureConfig
from kilotune.recordings import Recording
from kilotune.studies.baselines import Measured
from kilotune.studies.life_policy import NEAREST, ROWS, watch
from kilotune.studies.lives import LifeStudy, records_of, study_life
from kilotune.studies.streaming import run
from kilotune.targets.twin import Twin

from tests.support import small_models

pytest.importorskip("kilotune._native", reason="the compiled module is not installed")

RATE_HZ, WINDOW, FIRST = 1000.0, 64, 6
SETTINGS = LifeSettings(record=4, first=FIRST)
CONFIG = FeatureConfig(rate_hz=RATE_HZ, window=WINDOW, hop=32, fft_points=64, axes=2, bands=6, low_hz=20.0)
IMAGE = kilotune.compile(small_models.chain(12, 8, 12, seed=3), method="bias+head", features=CONFIG, life=SETTINGS)
SAMPLES = WINDOW + 3 * 32  # of a record


def recording(level: float, seed: int, records: int = 1) -> Recording:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, level, (SAMPLES + (records - 1) * 4 * 32, 2)).astype(np.float32)
    return Recording(samples, RATE_HZ, f"{seed}.csv")


def history(levels: Sequence[float]) -> list[Recording]:
    return [recording(level, seed) for seed, level in enumerate(levels)]


def measured(levels: Sequence[float], seed: int = 1) -> list[Measured]:
    """Records whose statistics and features are shifted by log2 `levels`."""
    rng = np.random.default_rng(seed)
    return [Measured(rng.normal(level, 0.1, (4, 2, 6)), rng.normal(level, 0.1, (4, 12))) for level in levels]


@pytest.mark.parametrize("row", ROWS)
def test_a_machine_that_stays_as_it_is_raises_no_alarm_and_a_fault_does(row: str) -> None:
    seen = watch(row, measured([0.0] * 60 + [6.0] * 5), SETTINGS, stored=32, seed=1, prior_std=None)
    assert seen.watching_from is not None
    assert 2 * FIRST <= seen.watching_from <= 3 * FIRST
    assert seen.alarms == (62,)  # the third record of the fault
    assert all(share is None for share in seen.over[: seen.watching_from])


@pytest.mark.parametrize("row", ["RMS", NEAREST])
def test_a_rule_of_one_record_alarms_at_the_first(row: str) -> None:
    once = LifeSettings(alarmed=1, of=1, first=FIRST)
    assert watch(row, measured([0.0] * 60 + [6.0] * 5), once, stored=32, seed=1, prior_std=None).alarms == (60,)


def test_a_slow_creep_is_found_by_the_anchor() -> None:
    """It is learned away, phase by phase, until it is 4 log2 from what the machine was when it had settled."""
    creep = np.concatenate([np.zeros(30), np.linspace(0, 4, 270)])
    assert watch("RMS", measured(list(creep)), SETTINGS, stored=32, seed=1, prior_std=None).alarms


def test_a_machine_that_never_settles_is_never_watched() -> None:
    seen = watch("RMS", measured(list(np.arange(60) * 1.0)), SETTINGS, stored=32, seed=1, prior_std=None)
    assert (seen.watching_from, seen.alarms) == (None, ())


def test_a_file_is_cut_into_records_whose_windows_are_those_of_the_file() -> None:
    whole = recording(1.0, 1, records=3)
    cut = records_of([whole, recording(1.0, 2)], IMAGE, SETTINGS, 600.0)
    assert [r.file for r in cut] == [0, 0, 0, 1]
    assert [r.t_s for r in cut] == pytest.approx([0.0, 0.128, 0.256, 600.0])
    assert sum(r.recording.windows(WINDOW, 32) for r in cut[:3]) == whole.windows(WINDOW, 32)
    np.testing.assert_array_equal(cut[1].recording.samples, whole.samples[128 : 128 + SAMPLES])


@pytest.fixture(scope="module")
def study() -> LifeStudy:
    levels = [0.1] * 50 + [0.6] * 6
    with Twin(IMAGE) as device:
        return study_life(device, history(levels), options=LearnOptions(passes=0), healthy_files=50, every_s=86400.0)


def test_the_device_warns_of_what_comes_after_the_healthy_part(study: LifeStudy) -> None:
    device = study.rows[0]
    assert (device.name, device.where) == ("the device", "device")
    assert (device.false_alarms, device.false_per_month) == (0, 0.0)
    assert device.first_alarm == 52
    assert device.lead_records == 4
    assert device.lead_s == pytest.approx(4 * 86400.0)
    assert study.verdict.startswith("ALARM since record 53")  # a device counts the record that is over
    assert [row.name for row in study.rows[1:]] == list(ROWS)


def test_moments_are_what_the_picture_needs(study: LifeStudy) -> None:
    assert len(study.moments) == study.records == 56
    begin = study.rows[0].watching_from
    assert begin is not None
    assert [m.watched for m in study.moments] == [t >= begin for t in range(56)]
    assert all(m.score is not None for m in study.moments[FIRST:])
    last = study.moments[-1]
    assert last.distance is not None
    assert last.distance > study.anchor
    assert last.alarm
    assert study.moments[0].phases == 1
    assert [m.phases for m in study.moments] == sorted(m.phases for m in study.moments)


def test_false_alarms_are_counted_by_the_month() -> None:
    levels = [0.1] * 30 + [0.6] * 6 + [0.1] * 24
    with Twin(IMAGE) as device:
        found = study_life(device, history(levels), options=LearnOptions(passes=0), healthy_files=60, every_s=86400.0)
    device_row = found.rows[0]
    assert (device_row.false_alarms, device_row.first_alarm) == (1, None)
    assert device_row.watching_from is not None
    assert device_row.false_per_month == pytest.approx(30 / (60 - device_row.watching_from))


def test_an_alarm_that_is_over_does_not_read_as_one_that_stands(study: LifeStudy) -> None:
    assert "that ended" not in story(study)[0]
    levels = [0.1] * 30 + [0.6] * 6 + [0.1] * 24
    with Twin(IMAGE) as device:
        found = study_life(device, history(levels), options=LearnOptions(passes=0), healthy_files=30, every_s=86400.0)
    assert found.alarm == 0
    first = found.rows[0].first_alarm
    assert first is not None
    last = max(t for t, m in enumerate(found.moments) if m.alarm == first + 1)
    assert last < 59
    assert f"an alarm at record {first}, " in story(found)[0]
    assert f"; that ended at record {last + 1}" in story(found)[0]


def test_files_that_last_into_the_next_are_refused() -> None:
    with pytest.raises(KilotuneError, match=r"1\.csv lasts 0\.416 s, but --every .* after 0\.3 s"):
        records_of([recording(1.0, 1, records=3)], IMAGE, SETTINGS, 0.3)
    assert len(records_of([recording(1.0, 1, records=3)], IMAGE, SETTINGS, 0.416)) == 3


def test_results_that_are_lost_are_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Device.score

    def losing(self: Device, *arguments: Any, **options: Any) -> Any:
        return replace(whole(self, *arguments, **options), lost=2)

    monkeypatch.setattr(Device, "score", losing)
    with Twin(IMAGE) as device, pytest.raises(KilotuneError, match=r"2 results of \d+\.csv were lost"):
        study_life(device, history([0.1] * 20), options=LearnOptions(passes=0), healthy_files=None, every_s=None)


@pytest.mark.parametrize("lives", [True, False])
def test_a_life_that_began_with_a_fault_in_it_is_not_lived_on(lives: bool) -> None:
    """Its next phase would commit what was learned of both."""
    mixture = [recording(level, seed, records=3) for seed, level in enumerate((0.1, 0.1, 0.1, 4.0))]
    with Twin(IMAGE) as device:
        summary = run(
            device, to_learn=mixture, to_detect=[recording(0.1, 9)], options=LearnOptions(passes=0, lives=lives),
            labels=None, commit=True, emit=lambda _: None,
        )  # fmt: skip
        assert device.status().checkpoint.sequence == 0
    assert summary.mixed is not None
    assert (summary.committed, summary.stopped, summary.windows == 0) == (False, lives, lives)
    said = summarised(summary)[1]
    assert ("nothing is scored" in said) is lives
    assert "nothing was committed" in said


def test_what_is_no_history_is_refused() -> None:
    with Twin(IMAGE) as device, pytest.raises(KilotuneError) as refused:
        study_life(device, history([0.1] * 12), options=LearnOptions(), healthy_files=None, every_s=None)
    assert refused.value.code == "too_few_windows"
    once = kilotune.compile(small_models.chain(12, 8, 12, seed=3), method="bias+head", features=CONFIG)
    with Twin(once) as device, pytest.raises(KilotuneError) as refused:
        study_life(device, history([0.1] * 30), options=LearnOptions(), healthy_files=None, every_s=None)
    assert refused.value.code == "bad_argument"
