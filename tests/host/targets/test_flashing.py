"""Firmware files and the ways onto a board: load addresses, UF2 blocks, drives, probes, ports."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import kilotune
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.errors import KilotuneError
from kilotune.link.transport import SerialPort
from kilotune.targets import build as firmware
from kilotune.targets import hardware, native, ports, uf2
from kilotune.targets.boards import Board, board, boards
from kilotune.targets.elf import load_segments, section_sizes

from tests.support import small_models
from tests.support.paths import ROOT

ARM_BOARDS = sorted(b.id for b in boards() if b.core != "host")
needs_arm = pytest.mark.skipif(shutil.which("arm-none-eabi-g++") is None, reason="arm-none-eabi-g++ is not installed")


@pytest.fixture(scope="module")
def content() -> bytes:
    return kilotune.compile(small_models.chain(10, 6, 10, seed=1), method="bias").content


# --- ELF ------------------------------------------------------------------------------------------


@needs_arm
@pytest.mark.parametrize("board_id", ARM_BOARDS)
def test_what_a_firmware_loads_lies_in_the_chips_program_memory(board_id: str) -> None:
    """By an independent reader; firmware, model and checkpoints do not touch each other."""
    elffile = pytest.importorskip("elftools.elf.elffile")
    chosen = board(board_id)
    elf = Path(firmware.build(board_id).firmware)
    with elf.open("rb") as file:
        parsed = elffile.ELFFile(file)
        loaded = sorted(
            (s["p_paddr"], s.data()) for s in parsed.iter_segments() if s["p_type"] == "PT_LOAD" and s["p_filesz"]
        )
        symbols = {s.name: s["st_value"] for s in parsed.get_section_by_name(".symtab").iter_symbols()}
        sizes = {s.name: s["sh_size"] for s in parsed.iter_sections() if s["sh_flags"] & 2}
        entry = parsed["e_entry"]
    assert load_segments(elf) == loaded
    assert section_sizes(elf) == sizes
    flash, base = chosen.flash, chosen.flash_base
    places = [
        (base + flash.model_offset, flash.model_bytes),
        (base + flash.checkpoint_offset, flash.checkpoint_bytes),
        (base + flash.key_offset, flash.key_bytes),
    ]
    end = 0
    for address, data in loaded:
        assert address >= end
        end = address + len(data)
        for start, size in places:
            assert end <= start or address >= start + size
    assert sum(len(data) for _, data in loaded) == firmware.build(board_id).flash_bytes
    # The first two words of the table: the stack's top, and the reset handler as a Thumb address.
    vectors = symbols["_ZN8kilotune5board7vectorsE"]
    address, data = next((a, d) for a, d in loaded if a <= vectors < a + len(d))
    stack, reset = struct.unpack_from("<II", data, vectors - address)
    assert stack == symbols["__stack_top"]
    assert reset == symbols["reset_handler"] == entry
    assert reset % 2 == 1


@needs_arm
@pytest.mark.parametrize("board_id", ["stm32f4_discovery", "nucleo_f446re"])
def test_the_stm32_starts_from_its_first_sector_and_leaves_three_to_checkpoints(board_id: str) -> None:
    segments = load_segments(Path(firmware.build(board_id).firmware))
    assert segments[0][0] == 0x08000000
    assert len(segments[0][1]) <= 0x4000
    assert segments[1][0] == 0x08040000


@needs_arm
def test_the_second_boot_stage_of_the_rp2040_has_the_checksum_that_its_rom_wants() -> None:
    address, data = load_segments(Path(firmware.build("rpi_pico").firmware))[0]
    assert address == 0x10000000
    # The ROM's CRC has the highest bit first; zlib's has the lowest first and inverts the result.
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data[:252])
    expected = int(f"{zlib.crc32(mirrored) ^ 0xFFFFFFFF:032b}"[::-1], 2)
    assert struct.unpack("<I", data[252:256]) == (expected,)
    assert any(data[:64])


@needs_arm
@pytest.mark.parametrize("board_id", ["rpi_pico", "nrf52840dk", "stm32f4_discovery"])
def test_code_that_runs_while_flash_is_busy_never_leaves_ram(board_id: str) -> None:
    """Branches with a link from the RAM code go to RAM; the ROM's routines are called by pointer."""
    elf = firmware.build(board_id).firmware
    listing = subprocess.run(
        ["arm-none-eabi-objdump", "-d", "-j", ".data", elf],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    names = [line.split("<")[1] for line in listing.splitlines() if line.endswith(">:")]
    assert any("on_tick" in name for name in names)
    calls = [line.split("\t")[-1] for line in listing.splitlines() if "\tbl\t" in line or "\tb.w\t" in line]
    for target in calls:
        assert int(target.split()[0], 16) >> 28 == 2, target
    assert "veneer" not in listing


# --- UF2 ------------------------------------------------------------------------------------------


def read_uf2(data: bytes) -> dict[int, bytes]:
    """Checks every field of every block; gives payloads by address."""
    assert len(data) % 512 == 0
    blocks = len(data) // 512
    payloads = {}
    for i in range(blocks):
        block = data[512 * i : 512 * (i + 1)]
        assert block[0:4] == b"UF2\n"
        assert block[4:8] == bytes.fromhex("57515d9e")
        assert int.from_bytes(block[8:12], "little") == 0x00002000  # a family id is there, no other flag
        address = int.from_bytes(block[12:16], "little")
        assert int.from_bytes(block[16:20], "little") == 256
        assert int.from_bytes(block[20:24], "little") == i
        assert int.from_bytes(block[24:28], "little") == blocks
        assert int.from_bytes(block[28:32], "little") == 0xE48BFF56  # RP2040
        assert block[288:508] == bytes(220)
        assert block[508:512] == bytes.fromhex("306fb10a")
        assert address % 256 == 0
        assert address not in payloads
        payloads[address] = block[32:288]
    assert list(payloads) == sorted(payloads)
    return payloads


@needs_arm
def test_a_uf2_file_holds_the_firmware_and_nothing_else() -> None:
    elf = Path(firmware.build("rpi_pico").firmware)
    data = elf.with_suffix(".uf2").read_bytes()
    assert data == uf2.encode(load_segments(elf), uf2.RP2040_FAMILY)
    assert board("rpi_pico").usb.uf2_family == uf2.RP2040_FAMILY
    memory = read_uf2(data)
    for address, content in load_segments(elf):
        for i, byte in enumerate(content):
            page = (address + i) & ~0xFF
            assert memory[page][address + i - page] == byte


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.binary(max_size=900)), max_size=4).filter(
        lambda parts: all(a + len(x) <= b for (a, x), (b, _) in zip(sorted(parts), sorted(parts)[1:], strict=False))
    )
)
def test_uf2_sectors_are_complete_and_blank_between(parts: list[tuple[int, bytes]]) -> None:
    base = 0x10000000
    memory = read_uf2(uf2.encode([(base + a, content) for a, content in parts], uf2.RP2040_FAMILY))
    expected = {}
    for a, content in parts:
        expected |= {base + a + i: byte for i, byte in enumerate(content)}
    assert {page & ~0xFFF for page in memory} == {a & ~0xFFF for a in expected}
    assert len(memory) % 16 == 0
    for page, payload in memory.items():
        assert payload == bytes(expected.get(page + i, 0xFF) for i in range(256))


def test_uf2_parts_that_overlap_are_refused() -> None:
    with pytest.raises(KilotuneError) as error:
        uf2.encode([(0, bytes(10)), (9, bytes(1))], uf2.RP2040_FAMILY)
    assert error.value.code == "overlap"


# --- onto a board ---------------------------------------------------------------------------------


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
    done = firmware.flash("rpi_pico", image=file)
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
        modules = {
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
    assert "all that the device has learned" in error.value.message
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


def port(device: str, usb: str) -> ports.Port:
    return ports.Port(device, "", usb, "")


def test_a_port_is_found_by_usb_id_and_never_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [port("/dev/ttyACM0", "0d28:0204"), port("/dev/ttyUSB0", "0403:6001"), port("/dev/ttyS0", "")]
    monkeypatch.setattr(ports, "list_ports", lambda: found)
    assert ports.sole_port() == "/dev/ttyACM0"
    assert [p.device for p in ports.ports_of(board("microbit"))] == ["/dev/ttyACM0"]
    assert not ports.ports_of(board("nrf52840dk"))
    found.append(port("/dev/ttyACM1", "0483:374b"))
    with pytest.raises(KilotuneError) as error:
        ports.sole_port()
    assert error.value.code == "ambiguous_device"
    assert "/dev/ttyACM0, /dev/ttyACM1" in error.value.message
    del found[0], found[-1]
    assert ports.sole_port() == "/dev/ttyUSB0"


def test_of_several_ports_the_one_that_answers_is_taken(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A board of another use has the same interface chip; a port in use could be the right one."""
    master, slave = os.openpty()
    silent = port(os.ttyname(slave), "0d28:0204")
    with native.run(tmp_path / "state", content) as (name, _):
        found = [silent, port(name, "0d28:0204")]
        monkeypatch.setattr(ports, "list_ports", lambda: found)
        assert ports.sole_port() == name
        with contextlib.closing(SerialPort(silent.device, timeout_s=1.0)), pytest.raises(KilotuneError) as error:
            ports.sole_port()
        assert error.value.code == "ambiguous_device"
        assert silent.device in error.value.message
    os.close(master)
    os.close(slave)


def test_the_udev_rule_covers_every_board() -> None:
    rule = (ROOT / "host" / "60-kilotune.rules").read_text()
    for b in boards():
        for usb in b.usb.ids:
            vendor, product = usb.split(":")
            assert f'ATTRS{{idVendor}}=="{vendor}", ATTRS{{idProduct}}=="{product}"' in rule
