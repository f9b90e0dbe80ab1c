"""What the numbers of an axis are: said by the file or the user, else asked for; a guess is told as one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kilotune.recordings import ReadOptions, read
from kilotune.recordings.units import parse_unit, split_name
from scipy.io import savemat

from tests.support.recordings import refused
from tests.support.tables import RATE_HZ, noise, seconds, table, write

T = seconds()
SIGNAL = noise()


@pytest.mark.parametrize(
    ("name", "bare", "unit", "factor"),
    [
        ("x (m/s^2)", "x", "m/s^2", 1 / 9.80665),
        ("x [m/s²]", "x", "m/s^2", 1 / 9.80665),
        ("acc x in m/s2", "acc x", "m/s^2", 1 / 9.80665),
        ("Beschleunigung / m s^-2", "Beschleunigung / m s^-2", "", 0),
        ("a / m/s^2", "a", "m/s^2", 1 / 9.80665),
        ("z[mg]", "z", "mg", 1e-3),
        ("acc_z_mg", "acc_z", "mg", 1e-3),
        ("acc_x_g", "acc_x", "g", 1.0),
        ("X (g)", "X", "g", 1.0),
        ("vib_h", "vib_h", "", 0),
        ("acc_v", "acc_v", "", 0),
        ("A_x", "A_x", "", 0),
    ],
)
def test_the_unit_in_a_name_is_seen_and_an_index_is_none(name: str, bare: str, unit: str, factor: float) -> None:
    found, letters = split_name(name)
    known = parse_unit(letters) if letters else None
    assert (found, known.name if known else "") == (bare, unit)
    assert known is None or known.factor == pytest.approx(factor)


@pytest.mark.parametrize(("unit", "factor"), [("m/s^2", 9.80665), ("m/s²", 9.80665), ("mg", 1000.0), ("g", 1.0)])
def test_values_become_g_by_the_header_whatever_its_form(unit: str, factor: float, tmp_path: Path) -> None:
    columns = (T, *(SIGNAL * factor).T)
    in_names = table(columns, f"time_s,x ({unit}),y ({unit}),z ({unit})", form="%.9f")
    in_row = table(columns, f"Time,Acc X,Acc Y,Acc Z\ns,{unit},{unit},{unit}", form="%.9f")
    as_key = table(columns, f"Device: one\nUnit: {unit}\n\ntime_s,x,y,z", form="%.9f")
    for text in (in_names, in_row, as_key):
        r = read(write(tmp_path, text))
        np.testing.assert_allclose(r.samples, SIGNAL, atol=2e-6)
        assert not any("guess" in n for n in r.notes)


def test_a_unit_that_nobody_says_is_told_as_a_guess_and_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path, table((T, *SIGNAL.T), "time_s,x,y,z"))
    assert [c.unit_from for c in read(path).channels] == ["guess"] * 3
    r = read(path, ReadOptions(unit="mg"))
    assert [c.unit_from for c in r.channels] == ["--unit"] * 3
    np.testing.assert_allclose(r.samples, SIGNAL / 1000, atol=1e-6)


@pytest.mark.parametrize(("gravity", "scale", "unit"), [(9.81, 1.0, "m/s^2"), (1000.0, 20.0, "mg")])
def test_gravity_that_is_not_1_asks_for_the_unit(gravity: float, scale: float, unit: str, tmp_path: Path) -> None:
    path = write(tmp_path, table((T, *(SIGNAL * scale + [0, 0, gravity]).T), "time_s,x,y,z"))
    error = refused(path, code="ambiguous")
    assert f"--unit {unit}" in error.hint
    assert read(path, ReadOptions(unit=unit)).samples[:, 2].mean() == pytest.approx(1.0, abs=0.02)


def test_whole_numbers_are_counts_or_mg_and_so_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, table(tuple((SIGNAL * 1000).astype(int).T), "x,y,z"))
    assert "--scale" in refused(path, ReadOptions(rate_hz=RATE_HZ), code="ambiguous").hint
    counts = read(path, ReadOptions(unit="counts", rate_hz=RATE_HZ))
    assert counts.unit == "counts"
    assert counts.samples.dtype == np.int16
    assert any("full scale" in n for n in counts.notes)
    g = read(path, ReadOptions(scale=("0.001",), rate_hz=RATE_HZ))
    np.testing.assert_allclose(g.samples, SIGNAL, atol=1.1e-3)


def test_volts_ask_for_the_sensitivity(tmp_path: Path) -> None:
    path = write(tmp_path, table((T, *(SIGNAL * 100).T), "t (s),A (mV),B (mV),C (mV)", form="%.9f"))
    assert "--sensitivity" in refused(path, code="ambiguous").hint
    r = read(path, ReadOptions(sensitivity_v_per_g=0.1))
    np.testing.assert_allclose(r.samples, SIGNAL, atol=1e-6)


def test_a_unit_that_is_not_known_or_stands_at_one_axis_only_is_asked_about(tmp_path: Path) -> None:
    unknown = write(tmp_path, table((T, SIGNAL[:, 0]), "time_s,x (furlongs)"))
    assert "furlongs" in refused(unknown, code="ambiguous").message
    half = write(tmp_path, table((T, *SIGNAL[:, :2].T), "time_s,x (mg),y"))
    assert "y" in refused(half, code="ambiguous").message


def test_numbers_behind_the_first_row_are_constants_for_the_offset(tmp_path: Path) -> None:
    zeros = [1.65, 1.64, 1.63]
    lines = table((T, *(SIGNAL * 0.02 + zeros).T), form="%.9f").splitlines()
    lines[0] += "," + ",".join(map(str, zeros))
    path = write(tmp_path, "\n".join(lines))
    assert "first_row" in refused(path, code="ambiguous").hint
    r = read(path, ReadOptions(offset=("first_row",), unit="volts", sensitivity_v_per_g=0.02))
    np.testing.assert_allclose(r.samples, SIGNAL, atol=1e-6)
    assert r.rate_hz == RATE_HZ


def of_arrays(form: str, path: Path, arrays: dict[str, Any]) -> None:
    """Words and arrays, by their paths."""
    if form == "npz":
        np.savez(path, **arrays)
    elif form == "mat":
        nested: dict[str, Any] = {}
        for key, value in arrays.items():
            at, _, name = key.rpartition(".")
            (nested.setdefault(at, {}) if at else nested)[name] = value
        savemat(path, nested)
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(path, "w") as file:
            for key, value in arrays.items():
                file[key.replace(".", "/")] = value


@pytest.mark.parametrize("form", ["npz", "mat", "h5"])
def test_a_word_in_a_file_of_arrays_says_the_unit(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"run.{form}"
    of_arrays(form, path, {"rig.acc": SIGNAL * 9.80665, "rig.fs": 1600.0, "about.unit": "m/s^2"})
    np.testing.assert_allclose(read(path).samples, SIGNAL, atol=1e-6)
    of_arrays(form, path, {"rig.acc": SIGNAL * 1000, "rig.fs": 1600.0, "rig.unit": "mg", "thermometer.unit": "degC"})
    np.testing.assert_allclose(read(path).samples, SIGNAL, atol=1e-6)  # the word beside the signal counts
    of_arrays(form, path, {"acc": SIGNAL, "fs": 1600.0, "a.unit": "mg", "b.unit": "g"})
    assert "--unit" in refused(path, code="ambiguous").hint
    assert read(path, ReadOptions(unit="g")).samples.shape == SIGNAL.shape


def test_characters_of_matlab_7_3_say_the_unit(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "new.mat", "w") as file:
        file.create_dataset("acc", data=(SIGNAL * 1000).T).attrs["MATLAB_class"] = np.bytes_("double")
        file["fs"] = np.array([[1600.0]])
        file["unit"] = np.array([[ord(c)] for c in "mg"], np.uint16)
    np.testing.assert_allclose(read(tmp_path / "new.mat").samples, SIGNAL, atol=1e-6)
