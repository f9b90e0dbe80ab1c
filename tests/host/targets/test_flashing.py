"""Flashing real boards: drives and probes get firmware and model, and are never guessed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from kilotune.errors import KilotuneError
from kilotune.targets import build as firmware
from kilotune.targets import hardware
from kilotune.targets.boards import Board, board
from kilotune.targets.elf import load_segments
from kilotune.targets.flash import flash

from tests.support.tools import needs_arm
from tests.support.uf2_reader import read_uf2


def drive(folder: Path, board_id: str = "RPI-RP2") -> Path:
    folder.mkdir(parents=True)
    (folder / "INFO_UF2.TXT").write_text(f"UF2 Bootloader v3.0\r\nModel: RP2\r\nBoard-ID: {board_id}\r\n")
    return folder


@needs_arm
def test_the_pico_gets_firmware_and_model_on_its_drive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    pico = drive(tmp_path / "RPI-RP2")
    drives = [tmp_path, drive(tmp_path / "other", "SOMETHING"), pico]
    monkeypatch.setattr(hardware, "mounted", lambda: iter(drives))
    file = tmp_path / "model.ktm"
    file.write_bytes(content)
    done = flash("rpi_pico", image=file)
    assert done.way == str(pico)
    memory = read_uf2((pico / "kilotune.uf2").read_bytes())
    start = board("rpi_pico").model_address
    stored = b"".join(memory[page] for page in sorted(memory) if page >= start)
    assert stored[: len(content)] == content
    assert set(stored[len(content) :]) <= {0xFF}


@pytest.mark.parametrize(("count", "code"), [(0, "no_drive"), (2, "ambiguous_drive")])
def test_no_drive_or_several_are_an_error(
    count: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drives = [drive(tmp_path / str(i)) for i in range(count)]
    monkeypatch.setattr(hardware, "mounted", lambda: iter(drives))
    with pytest.raises(KilotuneError) as error:
        hardware._sole_drive(board("rpi_pico"))
    assert error.value.code == code
    assert all(str(d) in error.value.message for d in drives)


class FakeProbe:
    def __init__(self, unique_id: str) -> None:
        self.unique_id = unique_id
        self.description = "CMSIS-DAP"


class FakePyocd:
    """Stands in for pyocd's modules: a probe list, a session and a loader that remember what they got."""

    class Error(Exception):
        pass

    class TargetSupportError(Error):
        pass

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *probes: str) -> None:
        self.memory: dict[int, bytes] = {}
        self.log: list[str] = []
        self.fails: Exception | None = None
        self.locked = False
        self.options: dict[str, object] = {}
        found = [FakeProbe(p) for p in probes]
        fake = self

        class Session:
            target = SimpleNamespace(reset=lambda: fake.log.append("reset"), is_locked=lambda: fake.locked)

            def __init__(self, probe: FakeProbe, options: dict[str, str]) -> None:
                fake.options = dict(options)
                fake.log += [probe.unique_id, options["target_override"]]

            def __enter__(self) -> Session:
                if fake.locked and fake.options.get("auto_unlock", True):  # as pyocd does by itself
                    fake.log.append("mass erase")
                    fake.locked = False
                if fake.fails:
                    raise fake.fails
                return self

            def __exit__(self, *_: object) -> None:
                fake.log.append("closed")

        class FlashLoader:
            def __init__(self, session: Session, *, chip_erase: str = "auto") -> None:
                assert chip_erase == "sector"
                self.parts: dict[int, bytes] = {}

            def add_data(self, address: int, data: list[int]) -> None:
                self.parts[address] = bytes(data)

            def commit(self) -> None:
                fake.memory |= self.parts

        helper = SimpleNamespace(get_all_connected_probes=lambda **_: found)
        modules: dict[str, dict[str, object]] = {
            "pyocd": {},
            "pyocd.core": {"exceptions": self},
            "pyocd.core.helpers": {"ConnectHelper": helper},
            "pyocd.core.session": {"Session": Session},
            "pyocd.flash": {},
            "pyocd.flash.loader": {"FlashLoader": FlashLoader},
        }
        for name, members in modules.items():
            module = ModuleType(name)
            module.__dict__.update(members)
            monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def nrf() -> tuple[Board, Path]:
    return board("nrf52840dk"), Path(firmware.build("nrf52840dk").firmware)


@needs_arm
def test_a_probe_writes_firmware_and_model_and_starts_the_board(
    nrf: tuple[Board, Path], monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    pyocd = FakePyocd(monkeypatch, "0001", "0002")
    written = hardware.write(*nrf, content, probe="0002")
    assert pyocd.log == ["0002", "nrf52840", "reset", "closed"]
    assert pyocd.memory == dict(load_segments(nrf[1])) | {0x20000: content}
    assert written.bytes_written == sum(map(len, pyocd.memory.values()))


@needs_arm
@pytest.mark.parametrize(
    ("probes", "wanted", "code"),
    [
        ((), None, "no_probe"),
        (("A1", "A2"), None, "ambiguous_probe"),
        (("A1", "A2"), "a", "ambiguous_probe"),
        (("A1",), "B", "no_probe"),
        (("A1", "A12"), "A1", ""),
        (("A1", "A2"), "2", ""),
    ],
)
def test_a_probe_is_never_guessed(
    nrf: tuple[Board, Path], monkeypatch: pytest.MonkeyPatch, probes: tuple[str], wanted: str, code: str
) -> None:
    pyocd = FakePyocd(monkeypatch, *probes)
    if not code:
        hardware.write(*nrf, None, probe=wanted)
        assert pyocd.memory
        return
    with pytest.raises(KilotuneError) as error:
        hardware.write(*nrf, None, probe=wanted)
    assert error.value.code == code
    assert all(p in error.value.message for p in probes)
    assert not pyocd.memory


@needs_arm
@pytest.mark.parametrize(
    ("failure", "code", "hint"),
    [
        (FakePyocd.TargetSupportError("no such target"), "missing_package", "pyocd pack install nrf52840"),
        (FakePyocd.Error("no ACK"), "flash_failed", "udev"),
        (PermissionError(13, "Permission denied"), "flash_failed", "udev"),
    ],
)
def test_a_probe_that_fails_is_reported_with_the_way_out(
    nrf: tuple[Board, Path], monkeypatch: pytest.MonkeyPatch, failure: Exception, code: str, hint: str
) -> None:
    FakePyocd(monkeypatch, "0001").fails = failure
    with pytest.raises(KilotuneError) as error:
        hardware.write(*nrf, None)
    assert error.value.code == code
    assert hint in error.value.hint


@needs_arm
@pytest.mark.parametrize("dead", [False, True])
def test_a_locked_chip_is_never_erased_unasked(
    nrf: tuple[Board, Path], monkeypatch: pytest.MonkeyPatch, dead: bool
) -> None:
    pyocd = FakePyocd(monkeypatch, "0001")
    pyocd.locked = True
    pyocd.fails = FakePyocd.Error("no cores found") if dead else None  # a locked chip may answer nothing else
    with pytest.raises(KilotuneError) as error:
        hardware.write(*nrf, None)
    assert error.value.code == "chip_locked"
    assert "everything that the device has learned" in error.value.message
    assert "--erase-locked" in error.value.hint
    assert pyocd.locked
    assert not pyocd.memory
    assert "mass erase" not in pyocd.log


@needs_arm
def test_a_locked_chip_is_erased_where_that_is_asked_for(
    nrf: tuple[Board, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pyocd = FakePyocd(monkeypatch, "0001")
    pyocd.locked = True
    hardware.write(*nrf, None, erase_locked=True)
    assert "mass erase" in pyocd.log
    assert pyocd.memory


@needs_arm
def test_without_pyocd_the_extra_is_named(nrf: tuple[Board, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyocd.core", None)
    with pytest.raises(KilotuneError) as error:
        hardware.write(*nrf, None)
    assert error.value.code == "missing_package"
    assert "kilotune[flash]" in error.value.hint


@needs_arm
def test_a_model_larger_than_its_partition_is_refused_before_a_probe_is_looked_for() -> None:
    chosen = board("microbit")
    with pytest.raises(KilotuneError) as error:
        hardware.write(chosen, Path(firmware.build("microbit").firmware), bytes(chosen.flash.model_bytes + 4))
    assert error.value.code == "too_large"
