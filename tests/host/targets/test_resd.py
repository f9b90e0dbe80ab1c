"""RESD files, read back by a parser written from Renode's description of the format only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kilotune.errors import KilotuneError
from kilotune.targets.resd import encode_adxl345, encode_g, encode_resd

from tests.support.command_line import run


@dataclass
class Block:
    kind: int
    sample_type: int
    channel: int
    start_ns: int
    period_ns: int
    metadata: bytes
    samples: list[tuple[int, ...]]


def number(data: bytes, at: int, size: int, *, signed: bool = False) -> int:
    assert len(data) >= at + size
    return int.from_bytes(data[at : at + size], "little", signed=signed)


def parse_resd(data: bytes) -> list[Block]:
    """Header: `RESD`, a byte of version, three of padding. Block: type, two bytes each of sample type and channel,
    eight of size; for a constant frequency the time of the first sample and the period, eight bytes each, in ns;
    eight bytes with the size of the metadata, the metadata, the samples."""
    assert data[:4] == b"RESD"
    assert data[4] == 1
    assert data[5:8] == bytes(3)
    blocks, at = [], 8
    while at < len(data):
        kind, sample_type, channel = data[at], number(data, at + 1, 2), number(data, at + 3, 2)
        size = number(data, at + 5, 8)
        body = data[at + 13 : at + 13 + size]
        assert len(body) == size
        assert kind == 2, "constant frequency"
        start, period, metadata = (number(body, offset, 8) for offset in (0, 8, 16))
        content = body[24 + metadata :]
        assert sample_type == 2, "acceleration: three signed values of four bytes"
        assert len(content) % 12 == 0
        samples = [
            tuple(number(content, i + 4 * axis, 4, signed=True) for axis in range(3))
            for i in range(0, len(content), 12)
        ]
        blocks.append(Block(kind, sample_type, channel, start, period, body[24 : 24 + metadata], samples))
        at += 13 + size
    return blocks


def test_the_parser_reads_the_file_in_renodes_own_description() -> None:
    """Its first bytes, with the size of the block cut to the samples that are printed there; of temperatures."""
    printed = bytes.fromhex(
        "52455344 01000000 0201000000a801000000000000 0000000000000000 0070c9b28b000000 0000000000000000"
    )
    assert (printed[8], number(printed, 9, 2), number(printed, 11, 2)) == (2, 1, 0)
    assert number(printed, 13, 8) == 424 == 24 + 100 * 4
    assert number(printed, 29, 8) == 600 * 10**9


@pytest.mark.parametrize(("rate_hz", "period_ns"), [(1600.0, 625_000), (1667.0, 599_880), (12.5, 80_000_000)])
def test_samples_come_back_in_whole_micro_g(rate_hz: float, period_ns: int) -> None:
    samples = np.array([[0.0, 1.0, -1.0], [0.0000014, -0.0000016, 15.999999], [-16.0, 0.5, 1e-7]])
    (block,) = parse_resd(encode_resd(samples, rate_hz, start_s=0.25, channel=3))
    assert (block.channel, block.start_ns, block.period_ns, block.metadata) == (3, 250_000_000, period_ns, b"")
    assert block.samples == [(0, 1_000_000, -1_000_000), (1, -2, 15_999_999), (-16_000_000, 500_000, 0)]


def test_missing_axes_rest_at_zero() -> None:
    (block,) = parse_resd(encode_resd(np.array([[0.1], [0.2]]), 100.0))
    assert block.samples == [(100_000, 0, 0), (200_000, 0, 0)]


def test_text_for_the_adxl345_is_in_quarters_of_its_digit() -> None:
    samples = np.array([[1.0, -1.0, 0.0], [16.0, -15.99, 1 / 1024]])
    assert encode_adxl345(samples) == "1024 -1024 0\n16384 -16374 1\n"
    assert encode_g(samples) == "1.000000 -1.000000 0.000000\n16.000000 -15.990000 0.000977\n"


@pytest.mark.parametrize(
    ("samples", "code"),
    [
        (np.zeros((4, 4)), "wrong_axes"),
        (np.zeros((0, 3)), "wrong_axes"),
        (np.array([[np.nan, 0, 0]]), "bad_samples"),
        (np.array([[40.0, 0, 0]]), "bad_samples"),
    ],
)
def test_what_cannot_be_said_is_refused(samples: Any, code: str) -> None:
    with pytest.raises(KilotuneError) as error:
        encode_adxl345(samples)
    assert error.value.code == code


def test_the_command_writes_all_three(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).normal(0, 1, (50, 3)).astype(np.float32)
    source = tmp_path / "r.npz"
    np.savez(source, samples=samples, rate_hz=800.0)
    told = run("record-to-resd", source, "-o", tmp_path / "r.resd", "--begin", "0.5", fake=False)
    (block,) = parse_resd((tmp_path / "r.resd").read_bytes())
    assert told["samples"] == len(block.samples) == 50
    assert told["bytes"] == (tmp_path / "r.resd").stat().st_size
    assert (block.period_ns, block.start_ns) == (1_250_000, 500_000_000)
    np.testing.assert_allclose(np.array(block.samples) / 1e6, samples, atol=5.1e-7)
    for form, scale in (("adxl345", 1024), ("g", 1)):
        run("record-to-resd", source, "-o", tmp_path / "r.txt", "--format", form, fake=False)
        rows = np.loadtxt(tmp_path / "r.txt") / scale
        np.testing.assert_allclose(rows, samples, atol=0.5 / scale + 1e-6 if form == "adxl345" else 1e-6)
    np.savez(source, samples=(samples * 100).astype(np.int16), rate_hz=800.0)
    told = run("record-to-resd", source, "-o", tmp_path / "c.resd", fake=False, code=2)
    assert "counts" in told["error"]["message"]
    assert not (tmp_path / "c.resd").exists()


def test_a_sensor_is_given_all_axes_of_a_recording_or_none(tmp_path: Path) -> None:
    from kilotune.targets.feed import parse_feed

    np.savez(tmp_path / "four.npz", samples=np.zeros((64, 4), np.float32), rate_hz=100.0)
    feed = parse_feed(f"lis2dw12={tmp_path / 'four.npz'}")
    for use in (lambda: feed.resd(tmp_path, None), lambda: feed.arguments(tmp_path, None)):
        with pytest.raises(KilotuneError, match="4 axes") as refused:
            use()
        assert refused.value.code == "wrong_axes"
