"""Text as loggers and instruments write it: delimiters, decimals, encodings, headers; doubts are asked about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from kilotune.recordings import ReadOptions, read

from tests.support.recordings import refused
from tests.support.tables import RATE_HZ, ROWS, noise, seconds, table, write

T = seconds()
SIGNAL = noise()
COLUMNS = (T, *SIGNAL.T)
HEADER = ("time_s", "x", "y", "z")


@pytest.mark.parametrize(
    ("delimiter", "decimal"),
    [(",", "."), (";", "."), (";", ","), ("\t", "."), ("\t", ","), (" ", "."), (" ", ","), ("  ", "."), ("|", ".")],
)
@pytest.mark.parametrize("named", [True, False])
def test_every_delimiter_goes_with_every_decimal_sign(
    delimiter: str, decimal: str, named: bool, tmp_path: Path
) -> None:
    header = delimiter.join(HEADER) if named else ""
    text = table(COLUMNS, header, delimiter=delimiter, decimal=decimal)
    r = read(write(tmp_path, text))
    np.testing.assert_allclose(r.samples, SIGNAL, atol=1e-6)
    assert r.rate_hz == RATE_HZ


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_encodings(encoding: str, line_end: str, tmp_path: Path) -> None:
    header = "Zeit (s)\tBeschleunigung x (m/s²)\tBeschleunigung y (m/s²)\tBeschleunigung z (m/s²)"
    text = table(COLUMNS, header, delimiter="\t").replace("\n", line_end)
    r = read(write(tmp_path, text, encoding=encoding))
    np.testing.assert_allclose(r.samples, SIGNAL / 9.80665, atol=1e-6)
    assert [c.name for c in r.channels] == ["Beschleunigung x", "Beschleunigung y", "Beschleunigung z"]


def test_one_column_of_decimal_commas_is_one_column(tmp_path: Path) -> None:
    values = SIGNAL[:, 0]
    for header in ("", "x"):
        path = write(tmp_path, table((values,), header, decimal=",", form="%.3f"))
        r = read(path, ReadOptions(rate_hz=100))
        np.testing.assert_allclose(r.samples[:, 0], values, atol=5.1e-4)


def test_what_may_be_one_number_or_two_is_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, "1,512\n2,713\n3,814\n")
    rate = ReadOptions(rate_hz=100)
    assert "--decimal" in refused(path, rate, code="ambiguous").hint
    one = read(path, ReadOptions(rate_hz=100, decimal=","))
    np.testing.assert_allclose(one.samples[:, 0], [1.512, 2.713, 3.814], atol=1e-6)
    two = read(path, ReadOptions(rate_hz=100, delimiter=",", unit="counts"))
    np.testing.assert_array_equal(two.samples[0], [1, 512])


@pytest.mark.parametrize(
    "preamble",
    [
        "Device: ADXL\nSample rate: 1600 Hz\n\nx,y,z",
        "Device,ADXL\nSampling Frequency (Hz),1600\nx,y,z",
        "# fs = 1600\n# x,y,z",
        "% sampling rate: 1.6 kHz\nx,y,z",
        "Sample interval;0.000625\nx,y,z",
        "dt: 625 us\nx,y,z",
    ],
)
def test_keys_above_the_numbers_give_the_rate(preamble: str, tmp_path: Path) -> None:
    r = read(write(tmp_path, table(tuple(SIGNAL.T), preamble)))
    np.testing.assert_allclose(r.samples, SIGNAL, atol=1e-6)
    assert r.rate_hz == pytest.approx(RATE_HZ)
    assert "header" in r.rate_from


@pytest.mark.parametrize("name", ["2003.10.22.12.06.24", "1st_test"])
def test_a_file_without_a_known_ending_is_read_where_it_is_text(name: str, tmp_path: Path) -> None:
    text = table(tuple(SIGNAL.T), delimiter="\t", form="%.3f")
    r = read(write(tmp_path, text, name), ReadOptions(rate_hz=20_000))
    np.testing.assert_allclose(r.samples, SIGNAL, atol=5.1e-4)


def test_a_labview_measurement_is_read_with_its_rate_and_unit(tmp_path: Path) -> None:
    head = (
        "LabVIEW Measurement\t\nSeparator\tTab\nDecimal_Separator\t.\nX_Columns\tOne\n***End_of_Header***\t\n\t\n"
        "Channels\t2\t\t\nSamples\t400\t400\t\nDate\t2020/01/01\t2020/01/01\t\nTime\t10:00:00.12\t10:00:00.12\t\n"
        "Y_Unit_Label\tm/s^2\tm/s^2\t\nX0\t0.0E+0\t0.0E+0\t\nDelta_X\t0.000625\t0.000625\t\n"
        "***End_of_Header***\t\t\t\nX_Value\tUntitled\tUntitled\tComment"
    )
    text = table((T, *SIGNAL[:, :2].T), head, delimiter="\t")
    rows = text.splitlines()
    begin = len(head.splitlines())
    rows[begin:] = [row + "\t" for row in rows[begin:]]
    r = read(write(tmp_path, "\n".join(rows), "a.lvm"))
    np.testing.assert_allclose(r.samples, SIGNAL[:, :2] / 9.80665, atol=1e-6)
    assert r.rate_hz == RATE_HZ


def test_quoted_cells_and_trailing_delimiters(tmp_path: Path) -> None:
    quoted = [f'"{t:.6f}","{x:.6f}"'.replace(".", ",") for t, x in zip(T, SIGNAL[:, 0], strict=True)]
    r = read(write(tmp_path, '"time_s","x"\n' + "\n".join(quoted)))
    np.testing.assert_allclose(r.samples[:, 0], SIGNAL[:, 0], atol=1e-6)
    trailing = table(COLUMNS, ",".join(HEADER)).replace("\n", ",\n")
    np.testing.assert_allclose(read(write(tmp_path, trailing)).samples, SIGNAL, atol=1e-6)


def test_a_part_of_a_long_text_takes_the_memory_of_that_part(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    block = table(COLUMNS, "").encode()
    with path.open("wb") as file:  # 60 MB; the time column starts anew, which a short part does not see
        file.write(b"time_s,x,y,z\n")
        for _ in range(4000):
            file.write(block)
    code = (
        "import resource, sys; from kilotune.recordings import ReadOptions, read;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "r = read(sys.argv[1], ReadOptions(seconds=0.2));"
        "print(len(r.samples), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    samples, grown_kb = map(int, done.stdout.split())
    assert samples == round(0.2 * RATE_HZ) < ROWS
    assert grown_kb < 60_000
