"""The demo shows a fault that a plain threshold finds and one that none finds, and says which is which."""

from __future__ import annotations

from pathlib import Path

from kilotune.studies.demo import run
from kilotune.studies.demo_machine import PAYS, SUFFICES


def test_the_demo_has_a_case_of_either_kind(tmp_path: Path) -> None:
    result = run(target="twin", folder=tmp_path / "demo")
    assert result.ok, [c for c in result.checks if not c.ok]
    easy, hard = result.cases
    assert easy.verdict == SUFFICES
    assert easy.plain.detection - easy.plain.false_alarms >= easy.device.detection - easy.device.false_alarms
    assert hard.verdict == PAYS
    assert hard.device.detection - hard.device.false_alarms > 0.9
    assert hard.plain.detection - hard.plain.false_alarms < 0.6
    page = result.report.read_text(encoding="utf-8")
    for case in result.cases:
        assert f"<h2>Beside plain baselines: {case.name}</h2>" in page.replace("&#x27;", "'")
        assert case.baseline in case.words
    assert "the device, after learning" in page
