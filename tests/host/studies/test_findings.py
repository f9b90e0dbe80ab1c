"""What a report says beside its pictures: like is held to like, file by file, beside plain baselines."""

from __future__ import annotations

import kilotune
import pytest
from kilotune.device.learning import LearnOptions
from kilotune.image.image import Image
from kilotune.recordings import Recording, read
from kilotune.report import render
from kilotune.studies.base_models import base_model
from kilotune.studies.before_after import study
from kilotune.studies.findings import AFTER, Findings, Matched, findings
from kilotune.studies.reporting import report_data
from kilotune.studies.windows import measure
from kilotune.targets.connect import connect

SLOW, FAST = "rpm=600,load=0.1", "rpm=3400,load=0.9"
OPTIONS = LearnOptions(passes=2)


def recording(kind: str, seed: int) -> Recording:
    return read(f"synthetic:{kind},seed={seed},seconds=0.6,rate=20000")


@pytest.fixture(scope="module")
def image() -> Image:
    return kilotune.compile(base_model(), method="bias")


@pytest.fixture(scope="module")
def sides() -> tuple[list[Recording], list[Recording], list[Recording]]:
    learn, healthy = ([recording(f"healthy,{point}", seed) for point in (SLOW, FAST)] for seed in (1, 2))
    return learn, healthy, [recording(f"misalignment,severity=0.6,{FAST}", 9)]


@pytest.fixture(scope="module")
def page(image: Image, sides: tuple[list[Recording], list[Recording], list[Recording]]) -> tuple[Findings, str]:
    learn, healthy, fault = sides
    with connect("twin", image, fresh=True) as device:
        found = study(device, to_learn=learn, healthy=healthy, fault=fault, options=OPTIONS)
    told = findings(found, image, learn=learn, healthy=healthy, fault=fault, options=OPTIONS)
    return told, render(report_data(found, image, title="a pump", subtitle="twin", findings=told))


@pytest.mark.parametrize("point", [SLOW, FAST])
@pytest.mark.parametrize("kind", ["outer,severity=0.4", "misalignment,severity=0.4", "imbalance,severity=0.4"])
def test_a_faulty_window_is_held_to_a_healthy_one_of_its_operating_point(image: Image, point: str, kind: str) -> None:
    from kilotune.studies.evaluation import Windows

    healthy = [recording(f"healthy,{p}", 2) for p in (SLOW, FAST)]
    fault = [recording(f"{kind},{point}", 9)]
    assert image.features is not None
    measured = [tuple(measure(image, side)) for side in (healthy, healthy, fault)]
    matched = Matched.of(Windows(measured[0], measured[1], measured[2], image.features, OPTIONS), healthy, fault)
    partners = {matched.places[0][matched.nearest(k)].recording.name for k in range(len(matched.fault))}
    assert partners == {healthy[(SLOW, FAST).index(point)].name}


def test_the_page_shows_all_that_a_judge_asks_for(page: tuple[Findings, str]) -> None:
    told, html = page
    for title in (
        "Beside plain baselines",
        "File by file",
        "RMS, peak, crest factor and kurtosis",
        "Bands that raised",
    ):
        assert f"<h2>{title}" in html
    for word in ("alarms an hour", "kurtosis", "stored and", "nearest operating point", "seed=9"):
        assert word in html
    names = [r.name for r in told.rows]
    assert {"RMS", "kurtosis", "z-score of the features", AFTER} <= set(names)
    files = next(t for t in told.tables if t.title == "File by file")
    assert [r[1] for r in files.rows] == ["healthy", "healthy", "faulty"]


def test_the_devices_row_is_its_own_scores(page: tuple[Findings, str]) -> None:
    row = next(r for r in page[0].rows if r.name == AFTER)
    assert row.intervals is not None
    assert row.separation.healthy == sum(f.windows for f in row.files if f.truth == "healthy")
    assert row.separation.detection * row.separation.fault == sum(f.anomalous for f in row.files if f.truth == "fault")


def test_misalignment_raises_bands_of_the_shaft(page: tuple[Findings, str]) -> None:
    bands = next(t for t in page[0].tables if t.title.startswith("Bands"))
    assert any(float(cell[2]) > 2 for cell in bands.rows)
    low = [name for name, *_ in bands.rows if float(name.split()[1].split("-")[0]) < 400]
    assert low  # twice and three times the speed of 57 Hz
