"""The Robot Framework tests for `renode-test`: a dry run finds every keyword, with the arguments that it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.paths import ROOT

robot_running = pytest.importorskip("robot.running", reason="pip install robotframework")

# Renode's own, which its server gives at run time.
_OF_RENODE = """\
*** Keywords ***
Execute Command
    [Arguments]    ${command}    ${machine}=None
    Log    ${command}
Start Emulation
    No Operation
"""


def test_a_dry_run_finds_every_keyword(tmp_path: Path) -> None:
    stubs = tmp_path / "renode.resource"
    stubs.write_text(_OF_RENODE, encoding="utf-8")
    file = ROOT / "tests" / "renode" / "boards.robot"
    suite = robot_running.TestSuite.from_file_system(str(file))
    suite.resource.imports.create(type="Resource", name=str(stubs))
    result = suite.run(dryrun=True, output=None, log=None, report=None, stdout=None, console="none")
    tests = list(result.suite.all_tests)
    assert {t.name for t in tests} == {"STM32F4 Discovery", "Nucleo-F446RE", "nRF52840 DK"}
    assert [t.message for t in tests if not t.passed] == []
