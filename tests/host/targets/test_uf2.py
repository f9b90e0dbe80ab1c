"""UF2 files: the firmware and nothing else, in whole sectors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kilotune.errors import KilotuneError
from kilotune.targets import build as firmware
from kilotune.targets import uf2
from kilotune.targets.boards import board
from kilotune.targets.elf import load_segments

from tests.support.tools import needs_arm
from tests.support.uf2_reader import read_uf2


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
    expected: dict[int, int] = {}
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
