"""Which columns of a stranger's file are axes: never time, a counter or another sensor, and in the order x, y, z."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from kilotune.recordings import ReadOptions, read

from tests.support.recordings import refused
from tests.support.tables import RATE_HZ, ROWS, noise, seconds, table, write

X, Y, Z = noise().T
T = seconds()


@pytest.mark.parametrize("header", ["Time [s]", "Zeit (s)", "time_s", "elapsed (s)", "Temps (s)", "t"])
def test_time_is_no_axis_however_it_is_called(header: str, tmp_path: Path) -> None:
    r = read(write(tmp_path, table((T, X, Y), f"{header},x,y")))
    np.testing.assert_allclose(r.samples, np.column_stack([X, Y]), atol=1e-6)
    assert r.rate_hz == RATE_HZ


@pytest.mark.parametrize("header", ["Unnamed: 0", "", "No.", "index", "Lfd. Nr", "wonder"])
def test_a_counter_is_no_axis_however_it_is_called(header: str, tmp_path: Path) -> None:
    path = write(tmp_path, table((np.arange(ROWS), X, Y, Z), f"{header},x,y,z"))
    r = read(path, ReadOptions(rate_hz=RATE_HZ))
    np.testing.assert_allclose(r.samples, noise(), atol=1e-6)
    assert any("counter" in n for n in r.notes)


@pytest.mark.parametrize("first", [T, np.arange(ROWS), 1000 + 2 * np.arange(ROWS)])
def test_a_column_without_a_name_that_runs_evenly_is_no_axis(first: npt.NDArray[Any], tmp_path: Path) -> None:
    r = read(write(tmp_path, table((first, X, Y, Z))), ReadOptions(rate_hz=RATE_HZ))
    np.testing.assert_allclose(r.samples, noise(), atol=1e-6)


def test_a_ramp_among_named_axes_stays_an_axis(tmp_path: Path) -> None:
    ramp = 0.001 * np.arange(ROWS)
    r = read(write(tmp_path, table((T, X, Y, ramp), "time_s,x,y,z")))
    np.testing.assert_allclose(r.samples[:, 2], ramp, atol=1e-6)


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("form", ["%.0f", "%.5e"])
def test_hour_minute_second_and_microsecond_without_a_header_are_time(
    delimiter: str, form: str, tmp_path: Path
) -> None:
    us = 65_664 + np.arange(2560) * 1e6 / 25_600
    calendar = [np.full(2560, 9), np.full(2560, 39), 39 + us.astype(int) // 1_000_000, us % 1e6]
    path = tmp_path / "acc_00001.csv"
    signal = noise(2, rows=2560)
    lines = [
        delimiter.join([*(form % v for v in row[:4]), *(f"{v:.6f}" for v in row[4:])])
        for row in zip(*calendar, *signal.T, strict=True)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    r = read(path)
    assert r.rate_hz == pytest.approx(25_600, rel=1e-3)
    assert r.starts == (0,)
    np.testing.assert_allclose(r.samples, signal, atol=1e-6)


def test_axes_are_put_in_order_and_other_sensors_left_away(tmp_path: Path) -> None:
    header = "time,seconds_elapsed,acc_z,acc_y,acc_x,gyro_x,temperature,label"
    columns = (1_700_000_000_000_000_000 + (T * 1e9).astype(np.int64), T, Z, Y, X, X, X, ["ok"] * ROWS)
    r = read(write(tmp_path, table(columns, header)))
    np.testing.assert_allclose(r.samples, noise(), atol=1e-6)
    assert [c.name for c in r.channels] == ["acc_x", "acc_y", "acc_z"]
    assert any("order x, y, z" in n for n in r.notes)
    assert any("gyro_x" in n for n in r.notes)


def test_a_magnitude_beside_its_axes_is_left_away(tmp_path: Path) -> None:
    names = ",".join(f'"Linear Acceleration {n} (m/s^2)"' for n in "xyz")
    header = f'"Time (s)",{names},"Absolute acceleration (m/s^2)"'
    r = read(write(tmp_path, table((T, X, Y, Z, np.abs(X)), header, form="%.9E")))
    np.testing.assert_allclose(r.samples, noise() / 9.80665, atol=1e-6)


def test_a_column_that_may_be_an_axis_too_is_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, table((T, X, Y, Z, Z), "time_s,x,y,z,foo"))
    error = refused(path, code="ambiguous")
    assert "foo" in error.message
    assert "--columns" in error.hint
    assert read(path, ReadOptions(columns=("x", "y", "z"))).axes == 3


def test_a_header_for_fewer_columns_than_there_are_names_none(tmp_path: Path) -> None:
    path = write(tmp_path, table((T, X, Y, Z), "x y z", delimiter=" "))
    assert "rows have 4" in refused(path, ReadOptions(rate_hz=RATE_HZ), code="ambiguous").message
    r = read(path, ReadOptions(columns=("1", "2", "3")))
    np.testing.assert_allclose(r.samples, noise(), atol=1e-6)
    assert r.rate_hz == RATE_HZ


def test_a_comment_of_two_words_takes_no_column_away(tmp_path: Path) -> None:
    path = write(tmp_path, table((X, Y, Z), "% comment", delimiter=" "))
    assert read(path, ReadOptions(rate_hz=RATE_HZ)).samples.shape == (ROWS, 3)


def test_x_that_runs_like_time_beside_y_is_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, table((T, X), "x,y"))
    assert "--time-column" in refused(path, ReadOptions(rate_hz=RATE_HZ), code="ambiguous").hint
    r = read(path, ReadOptions(time_column="x"))
    assert (r.axes, r.rate_hz) == (1, RATE_HZ)


def test_a_file_without_acceleration_says_what_it_has(tmp_path: Path) -> None:
    path = write(tmp_path, table((T, X), "time_s,v (mm/s)"))
    assert "v (mm/s) is no acceleration" in refused(path, code="no_column").message
