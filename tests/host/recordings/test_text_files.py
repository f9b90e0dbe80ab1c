"""Text files of samples: rates, columns and rows as they stand, and what is wrong by row and column."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kilotune.recordings import ReadOptions, read

from tests.support.recordings import refused, write_text


def test_csv_time_column_gives_the_rate_and_is_no_axis(tmp_path: Path) -> None:
    rows = "\n".join(f"{i / 800:.6f},{i % 7},{-i},{0.5 * i}" for i in range(100))
    r = read(write_text(tmp_path / "a.csv", "time_s,x,y,z\n" + rows + "\n"), ReadOptions(unit="g"))
    assert r.rate_hz == 800.0
    assert r.samples.shape == (100, 3)
    np.testing.assert_array_equal(r.samples[:, 1], -np.arange(100, dtype=np.float32))


def test_csv_columns_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "x;y;z\n1;2;3\n4;5;6\n")
    r = read(path, ReadOptions(columns=("z", "0"), rate_hz=10, unit="g"))
    np.testing.assert_array_equal(r.samples, np.array([[3, 1], [6, 4]]))


def test_csv_without_header_and_with_comments(tmp_path: Path) -> None:
    r = read(write_text(tmp_path / "a.csv", "# made by a logger\n1.5,2\n3,4\n"), ReadOptions(rate_hz=5, unit="g"))
    np.testing.assert_array_equal(r.samples, np.array([[1.5, 2], [3, 4]]))


def test_csv_nan_is_refused_with_row_and_column(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "x,y\n1,2\n3,nan\n5,6\n")
    error = refused(path, ReadOptions(rate_hz=5), code="bad_samples")
    assert "row 3" in error.message
    assert "column y" in error.message


def test_csv_infinity_beyond_float32_is_refused(tmp_path: Path) -> None:
    with np.errstate(over="ignore"):
        refused(write_text(tmp_path / "a.csv", "x\n1\n1e300\n"), ReadOptions(rate_hz=5, unit="g"), code="bad_samples")


def test_csv_nan_row_is_counted_from_the_start_of_the_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a.csv", "x\n" + "1\n" * 20 + "nan\n")
    error = refused(path, ReadOptions(rate_hz=10, start_s=1.0), code="bad_samples")
    assert "row 22" in error.message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x,y\n1,2\n3\n", "row 3 has 1 columns"),
        ("x,y\n1,2\n3,4,5\n", "row 3 has 3 columns"),
        ("x,y\n1,2\n3,\n", "row 3, column y is empty"),
        ("x,y\n1,2\noops,4\n", "row 3, column x holds 'oops'"),
        ("x;y\n1,5;2,5\n1,5;2,5\n1.500,5;2,5\n", "row 4, column x holds '1.500,5'"),
    ],
)
def test_csv_ragged_or_wordy_rows_are_named(tmp_path: Path, text: str, part: str) -> None:
    error = refused(write_text(tmp_path / "a.csv", text), ReadOptions(rate_hz=5), code="bad_file")
    assert part in error.message


def test_csv_with_a_gap_in_time_is_read_as_two_stretches(tmp_path: Path) -> None:
    times = [*range(50), *range(60, 100)]
    path = write_text(tmp_path / "a.csv", "time_ms,x\n" + "".join(f"{t},{t % 7 / 10}\n" for t in times))
    for options in (ReadOptions(), ReadOptions(rate_hz=1000.0)):
        r = read(path, options)
        assert (r.rate_hz, r.starts, r.times_s) == (1000.0, (0, 50), (0.0, 0.06))
        assert [len(s.samples) for s in r.stretches] == [50, 40]
        assert any("1 gap" in n for n in r.notes)


def test_csv_of_only_a_header_is_empty(tmp_path: Path) -> None:
    refused(write_text(tmp_path / "a.csv", "x,y\n"), ReadOptions(rate_hz=5), code="empty")
