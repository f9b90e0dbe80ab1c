"""Commands to a device, against a fake one: what they request, and how they end."""

from __future__ import annotations

from pathlib import Path

import kilotune
import pytest

from tests.support.command_line import calls, run


def test_info_commit_reset(image: Path, tmp_path: Path) -> None:
    told = run("info", "--target", "twin", "--image", image)
    assert told["window"] == 64
    assert told["status"]["report"]["scorer"] == "residual"
    log = tmp_path / "log"
    run("commit", "-t", "twin", "--image", image, log=log)
    run("reset", "-t", "twin", "--image", image, log=log)
    assert [c["call"] for c in calls(log)] == ["commit", "close", "reset", "close"]


def test_refusal_of_the_device_is_exit_4(image: Path) -> None:
    error = run("rollback", "-t", "twin", "--image", image, code=4)["error"]
    assert error["code"] == "no_checkpoint"
    assert error["exit_code"] == 4


def test_target_and_port_together_or_a_nonsense_target_are_wrong_usage() -> None:
    assert run("info", "-t", "twin", "-p", "/dev/null", code=2)["error"]["code"] == "bad_argument"
    assert run("info", "-t", "nonsense", code=2)["error"]["hint"]


def test_no_board_at_all_is_exit_3() -> None:
    from kilotune.targets.ports import list_ports

    if any(p.usb for p in list_ports()):
        pytest.skip("a USB serial port is connected here")
    assert run("info", code=3)["error"]["code"] == "no_device"


def test_several_boards_are_ambiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    from kilotune.targets import ports

    boards = [ports.Port(f"/dev/ttyACM{i}", "board", "1366:1015", "") for i in range(2)]
    monkeypatch.setattr(ports, "list_ports", lambda: boards)
    with pytest.raises(kilotune.KilotuneError) as caught:
        ports.sole_port()
    assert caught.value.exit_code == 3
    assert "/dev/ttyACM1" in caught.value.message


def test_pull_push_merge(tflite: Path, image: Path, tmp_path: Path) -> None:
    pulled = run("pull", "-t", "twin", "--image", image, "-o", tmp_path / "a")
    assert pulled["files"] == ["adapter_config.json", "adapter_model.safetensors"]
    log = tmp_path / "log"
    run("push", tmp_path / "a", "-t", "twin", "--image", image, log=log)
    assert calls(log)[0]["sha256"] == kilotune.Adapter.load(tmp_path / "a").sha256
    run("merge", tflite, tmp_path / "a", "-o", tmp_path / "merged.tflite", fake=False)
    assert (tmp_path / "merged.tflite").stat().st_size > 0


def test_ports_and_doctor_are_json() -> None:
    assert isinstance(run("ports", fake=False)["ports"], list)
    checks = {c["name"]: c for c in run("doctor", fake=False)["checks"]}
    assert checks["Python"]["ok"] is True
    for check in checks.values():
        assert check["ok"] or check["install"], check
